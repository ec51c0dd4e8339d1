"""The sbatch script on a real Slurm of two nodes, on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.runtime.cluster.conftest import SMALL

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SCRIPT = Path(__file__).with_name("local_slurm.sh")
# a compiled folder of which only launch.sh matters: it ends well when it is started again, and saves when it is told to end
STAND_IN = """
echo "node $NODE_RANK of ${SLURM_RESTART_COUNT:-0} meets at $MASTER_ADDR"
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0
trap 'echo "node $NODE_RANK saves"; exit 75' TERM
for _ in $(seq 600); do sleep 0.1; done
"""


class Slurm:
    """The cluster, by its own commands."""

    def __init__(self, configuration):
        self.environment = {**os.environ, "SLURM_CONF": str(configuration), "PYTHON": sys.executable}

    def call(self, *words, **more):
        return subprocess.run(words, check=True, capture_output=True, text=True, env=self.environment, **more).stdout.strip()

    def submit(self, build, cwd, *words, folder=None):
        self.environment["SPECGEN_BUILD"] = str(folder or build)
        return self.call("sbatch", "--parsable", build / "slurm.sbatch", *words, cwd=cwd)

    def state(self, job):
        """State and number of restarts."""
        told = dict(word.split("=", 1) for word in self.call("scontrol", "show", "job", "--oneliner", job).split() if "=" in word)
        return told["JobState"], int(told["Restarts"])

    def wait(self, job, *states, seconds=300):
        until = time.monotonic() + seconds
        while self.state(job)[0] not in states:
            assert time.monotonic() < until, self.state(job)
            time.sleep(0.3)
        return self.state(job)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    missing = [command for command in ("slurmctld", "slurmd", "munged") if shutil.which(command) is None]
    if missing or os.geteuid():
        pytest.skip(f"a Slurm of one's own needs root, and slurm-wlm and munge of Debian; missing: {', '.join(missing) or 'root'}")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", SCRIPT, "start", folder], check=True)
    yield Slurm(folder / "slurm.conf")
    subprocess.run(["bash", SCRIPT, "stop", folder], check=True)


@pytest.fixture
def build(compiled, cli, tmp_path):
    """The tiny spec for two nodes of one process, compiled for Slurm."""

    def made(**train):
        folder = compiled(tmp_path, train={**SMALL, **train}, distributed={"nodes": 2}, hardware={"device": "cpu"})
        assert cli("compile", "spec.yaml", "--output", "build", "--target", "slurm").code == 0
        return folder

    return made


@pytest.fixture
def stand_in(tmp_path):
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in/launch.sh").write_text(STAND_IN)
    return tmp_path / "stand_in"


def said(cwd, job, *words):
    """Waits until the job has said all of that."""
    output = cwd / f"tiny-{job}.out"
    until = time.monotonic() + 120
    while not output.exists() or not all(word in output.read_text() for word in words):
        assert time.monotonic() < until, output.read_text() if output.exists() else "no output"
        time.sleep(0.3)


def test_a_job_that_is_warned_saves_is_queued_again_and_ends(slurm, build, stand_in, tmp_path):
    job = slurm.submit(build(), tmp_path, folder=stand_in)
    said(tmp_path, job, "node 0 of 0 meets at 127.0.0.1", "node 1 of 0 meets at 127.0.0.1")
    slurm.call("scancel", "--signal=TERM", "--batch", job)  # what --signal=B:TERM@120 sends before the time limit
    assert slurm.wait(job, "PENDING") == ("PENDING", 1)
    slurm.call("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm itself lets two minutes pass
    assert slurm.wait(job, "COMPLETED", "FAILED") == ("COMPLETED", 1)
    said(tmp_path, job, "node 0 saves", "node 1 saves", "node 0 of 1 meets", "node 1 of 1 meets")


def test_a_job_that_is_cancelled_is_not_queued_again(slurm, build, stand_in, tmp_path):
    job = slurm.submit(build(), tmp_path, folder=stand_in)
    said(tmp_path, job, "node 0 of 0", "node 1 of 0")
    slurm.call("scancel", job)
    said(tmp_path, job, "node 0 saves", "node 1 saves")
    time.sleep(3)
    assert slurm.state(job) == ("CANCELLED", 0)


def test_a_script_that_is_submitted_from_elsewhere_says_so(slurm, build, tmp_path):
    job = slurm.submit(build(), tmp_path, folder="no/such")
    slurm.wait(job, "FAILED")
    said(tmp_path, job, f"error: no no/such/launch.sh below {tmp_path}: submit from the working folder")


def test_a_run_ends_on_two_nodes_and_as_well_when_it_is_preempted(slurm, build, one_host, compiled, tmp_path):
    alone = one_host(compiled(tmp_path / "one", train={**SMALL, "max_steps": 60}, distributed={"processes_per_node": 2}), tmp_path / "one")
    job = slurm.submit(build(max_steps=60), tmp_path)
    said(tmp_path, job, "step 6/60")
    slurm.call("scancel", "--signal=TERM", "--batch", job)
    assert slurm.wait(job, "PENDING", "COMPLETED", "FAILED") == ("PENDING", 1)
    slurm.call("scontrol", "update", f"JobId={job}", "StartTime=now")
    assert slurm.wait(job, "COMPLETED", "FAILED") == ("COMPLETED", 1)
    said(tmp_path, job, "goes on from checkpoint-", "done in")
    expected = load_file(alone / "train/final/adapter_model.safetensors")
    for name, tensor in load_file(tmp_path / "runs/tiny/train/final/adapter_model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)
    assert (tmp_path / "runs/tiny/report/report.html").exists()
