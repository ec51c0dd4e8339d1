"""runtime/shortage.py: memory that does not suffice and disks that are full, for real: a limit of the address space, a small tmpfs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from runtime import shortage
from runtime.training.checkpoints import ASIDE, SEAL

LIMITED = """
import resource, runpy, sys
from transformers import Trainer
train = Trainer.train
def limited(self, *arguments, **options):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)
    return train(self, *arguments, **options)
Trainer.train = limited
sys.argv = ["runtime", *sys.argv[1:]]
runpy.run_module("runtime", run_name="__main__")
"""


def runtime(build, runs_dir, *stages, script=None):
    start = ["-c", script] if script else ["-m", "runtime"]
    words = [word for stage in stages for word in ("--stage", stage)]
    command = [sys.executable, *start, build, "--runs-dir", runs_dir, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_memory_that_does_not_suffice_is_told_with_step_shape_and_what_to_change(tmp_path, compiled):
    messages = [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}. " * 8}]
    data = {"sources": [{"synthetic": {"variables": {"n": list(range(64))}, "messages": messages}}]}
    build = compiled(tmp_path, data=data, train={"max_steps": 2, "batch_size": 64, "micro_batch_size": 64})
    done = runtime(build, tmp_path / "runs", "data", "train", script=LIMITED)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith(("error", "  hint"))]
    assert said[0].startswith("error SG455: memory does not suffice at step 1, on a micro batch [64, "), done.stderr
    wanted = "  hint: in this order: train.micro_batch_size: 32; train.gradient_checkpointing: true; a data.max_length below 128; model.qu"
    assert said[1].startswith(wanted)
    assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB of which the size can be changed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(option):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", folder], capture_output=True, check=False).returncode == 0

    if not size("size=3m"):
        pytest.skip("mounting a small disk is not permitted here")
    yield folder, size
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_keeps_whole_checkpoints_and_the_same_command_goes_on(tmp_path, compiled, small_disk):
    folder, size = small_disk
    build = compiled(tmp_path, adapter={"lora": {"r": 64}}, train={"max_steps": 8, "save_steps": 1, "save_total_limit": 50})
    done = runtime(build, folder)
    assert done.returncode == 1
    assert f"warning SG458: {folder / 'tiny' / 'train.partial'} has " in done.stdout
    assert "error SG456: the disk is full at step " in done.stderr, done.stderr
    assert f" are free in {folder / 'tiny' / 'train.partial'}\n  hint: make room" in done.stderr
    assert "Traceback" not in done.stderr
    partial = folder / "tiny" / "train.partial"
    kept = list(partial.glob("checkpoint-*"))
    assert kept
    assert all((checkpoint / SEAL).exists() for checkpoint in kept)
    assert not (partial / ASIDE).exists()
    assert size("remount,size=100m")
    again = runtime(build, folder)
    assert again.returncode == 0, again.stderr
    assert "goes on from checkpoint-" in again.stdout


@pytest.mark.slow
def test_a_full_disk_in_another_stage_leaves_nothing_unfinished(tmp_path, compiled, small_disk):
    folder, _ = small_disk
    build = compiled(tmp_path, train={"max_steps": 1})
    done = runtime(build, folder)
    assert "error SG456: the disk is full in stage merge: " in done.stderr, done.stderr
    assert sorted(path.name for path in (folder / "tiny").glob("*.partial")) == []
    assert (folder / "tiny" / "convert" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
        ),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_libraries_raise_when_memory_does_not_suffice_is_known(error):
    assert shortage.is_out_of_memory(error)


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(ValueError, match="another"), shortage.told(tmp_path, lambda: "here", changes=""):
        raise ValueError("another")
