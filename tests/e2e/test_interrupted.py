"""Runs that end in the middle. The same command goes on, and ends with the same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.commands import ASSISTANT, command, specgen

SETTINGS = {
    "train.epochs": "0.6",  # 6 steps
    "train.save_steps": "2",
    "train.preview": "null",
    "adapter.lora.dropout": "0.1",  # random numbers that have to be the same after resuming
}
STAGES = ("--stage", "data", "--stage", "train", "--stage", "convert")
ADAPTER = "runs/assistant/convert/adapter_model.safetensors"


def arguments() -> list[str]:
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    return ["run", str(ASSISTANT), *settings, *STAGES]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The adapter of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = specgen(*arguments(), cwd=folder)
    assert done.code == 0, done.output
    return (folder / ADAPTER).read_bytes()


def interrupt(folder: Path, number: signal.Signals, after_step: int) -> int:
    """Starts a run, sends it a signal once it has trained so many steps, and returns its exit code."""
    metrics = folder / "runs/assistant/train.partial/metrics.jsonl"
    with subprocess.Popen(command(*arguments()), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 240
        while not (metrics.exists() and metrics.read_text().count("\n") >= after_step):
            assert process.poll() is None and time.monotonic() < deadline, "training did not come so far"
            time.sleep(0.05)
        os.kill(process.pid, number)
        return process.wait()


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(unbroken: bytes, tmp_path: Path) -> None:
    assert interrupt(tmp_path, signal.SIGKILL, after_step=3) == -signal.SIGKILL
    again = specgen(*arguments(), cwd=tmp_path)
    assert again.code == 0, again.output
    assert "goes on from checkpoint-2" in again.output
    assert (tmp_path / ADAPTER).read_bytes() == unbroken


@pytest.mark.slow
def test_ctrl_c_saves_and_the_run_goes_on_from_there(unbroken: bytes, tmp_path: Path) -> None:
    assert interrupt(tmp_path, signal.SIGINT, after_step=3) == 130
    again = specgen(*arguments(), cwd=tmp_path)
    assert again.code == 0, again.output
    assert "goes on from checkpoint-4" in again.output
    assert (tmp_path / ADAPTER).read_bytes() == unbroken
