"""ZeRO-3 loads the model sharded: no process ever holds all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
METHODS = {"full": None, "lora": {"lora": {"r": 4, "alpha": 8}}, "dora": {"lora": {"r": 4, "alpha": 8, "use_dora": True}}}


@pytest.fixture(scope="module")
def held(tmp_path_factory, compiled):
    """What each of two processes held, by method."""
    folder = tmp_path_factory.mktemp("sharded")
    settings = {"distributed": {"processes_per_node": 2, "zero_stage": 3}, "train": {"max_steps": 1}}
    builds = [compiled(folder / name, adapter=adapter, **settings) for name, adapter in METHODS.items()]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = Path(__file__).with_name("loads_sharded.py")
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([*torchrun, script, *builds], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("method", METHODS)
def test_each_process_loads_its_half_of_every_weight(held, tiny_base, method):
    with safe_open(tiny_base / "model.safetensors", framework="pt") as stored:
        shapes = {name: list(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118  (a file, no mapping)
    for rank in held:
        loaded = rank[method]["loaded"]
        assert {name: shape for name, (*_, shape) in loaded.items()} == shapes
        assert all((here, half) == (0, -(-whole // 2)) for here, whole, half, _ in loaded.values())


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_is_laid_beside_weights_that_are_elsewhere(held, method):
    trained = held[0][method]["trained"]
    assert trained == held[1][method]["trained"]
    assert len(trained) == 2 * 7 * (3 if method == "dora" else 2)  # A, B and DoRA's magnitudes, of seven layers in two blocks
    assert all(number > 0 for number in trained.values())
