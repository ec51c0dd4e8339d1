"""Two nodes for real, each in a network of its own: what they train is what two processes of one host train."""

from __future__ import annotations

import json
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.runtime.cluster.conftest import SMALL

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ONLY = ("--stage", "data", "--stage", "train")


def adapter(run):
    return load_file(run / "train/final/adapter_model.safetensors")


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "train/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", [2, 3])
def test_two_nodes_train_what_two_processes_of_one_host_train(two_nodes, one_host, compiled, tmp_path, stage):
    alone = one_host(compiled(tmp_path / "one", train=SMALL, distributed={"processes_per_node": 2, "zero_stage": stage}), tmp_path / "one")
    build = compiled(tmp_path / "two", train=SMALL, distributed={"nodes": 2, "zero_stage": stage})
    codes, outputs = two_nodes.run(build, tmp_path / "two", *ONLY)
    assert codes == [0, 0], outputs
    together = tmp_path / "two/runs/tiny"
    assert losses(together) == pytest.approx(losses(alone), abs=1e-6)
    expected = adapter(alone)
    for name, tensor in adapter(together).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)
    assert "step 4/4" in outputs[0], "the first node tells how it goes"
    assert outputs[1].splitlines()[0] == "nodes    joins 10.213.77.1:29500"
    assert outputs[1].splitlines()[-1] == "train    done here; the first node goes on"
    codes, outputs = two_nodes.run(build, tmp_path / "two", *ONLY)
    assert codes == [0, 0]
    assert "train    up to date" in outputs[0] and "train    nothing to do for this node" in outputs[1]


def test_when_a_node_is_gone_the_other_ends_and_names_it(two_nodes, compiled, tmp_path):
    build = compiled(tmp_path, train={**SMALL, "max_steps": 100000, "save_steps": 100000}, distributed={"nodes": 2})
    nodes = [two_nodes.start(number, build, tmp_path, *ONLY) for number in (0, 1)]
    metrics = tmp_path / "runs/tiny/train.partial/metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < until:
        time.sleep(0.5)
    killed = time.monotonic()
    nodes[1].send_signal(signal.SIGKILL)
    output = nodes[0].communicate(timeout=60)[0]
    assert time.monotonic() - killed < 60
    assert nodes[0].returncode == 1
    assert "error SG463: node " in output and "has failed, or is gone" in output
    nodes[1].communicate(timeout=60)
