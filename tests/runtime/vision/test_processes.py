"""Several processes, in some of whose batches nothing is shown: they train the same as one process, under ZeRO, too."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runtime.models.adapter import read_adapter
from tests.runtime.vision.conftest import asked

# of each batch of two rows one shows nothing: one of two processes sees none at all
ROWS = [
    asked(f"{name}.png" if name else None, f"Which colour? {number}", f"It is {name}.")
    for number, name in enumerate(("red", None, "blue", None))
]
TRAIN = {"epochs": 2, "batch_size": 2, "micro_batch_size": 1, "learning_rate": 1.0e-3}


def trained(build, runs_dir):
    command = [sys.executable, "-m", "runtime", build, "--runs-dir", runs_dir, "--stage", "data", "--stage", "train"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    return read_adapter(runs_dir / "tiny" / "train" / "final")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, llava):
    """What one process trains, by whether it is the projector alone."""
    made = {}

    def of(pretrains):
        if pretrains not in made:
            folder = tmp_path_factory.mktemp("alone")
            made[pretrains] = trained(llava(folder, rows=ROWS, pretrains=pretrains, adapter=ADAPTER, train=TRAIN), folder / "runs")
        return made[pretrains]

    return of


ADAPTER = {"vision_tower": {"r": 2, "alpha": 4}}


@pytest.mark.parametrize(
    ("stage", "pretrains"),
    [(0, False), pytest.param(0, True, marks=pytest.mark.slow)]
    + [pytest.param(stage, pretrains, marks=pytest.mark.slow) for stage in (2, 3) for pretrains in (False, True)],
)
def test_two_processes_of_which_one_sees_nothing_train_as_one(tmp_path, llava, alone, stage, pretrains):
    distributed = {"processes_per_node": 2, "zero_stage": stage}
    build = llava(tmp_path, rows=ROWS, pretrains=pretrains, adapter=ADAPTER, train=TRAIN, distributed=distributed)
    found, wanted = trained(build, tmp_path / "runs"), alone(pretrains)
    assert found.keys() == wanted.keys()
    assert max(float((found[name] - wanted[name]).abs().max()) for name in wanted) < 1e-5
