"""Runs of a compiled folder in processes of their own, which tests then disturb; and what a run has written of its steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_S = 180


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Exit code, standard output and standard error of a run, and the seconds from the disturbance to its end."""

    code: int
    output: str
    errors: str
    seconds: float


@dataclass(frozen=True)
class Running:
    """A run that has been started; `folder` is its run folder."""

    process: subprocess.Popen[str]
    folder: Path

    def after_step(self, step: int) -> Running:
        """Waits until metrics tell of so many steps."""
        metrics = self.folder / "train.partial" / "metrics.jsonl"
        self.until(lambda: metrics.exists() and metrics.read_text().count("\n") >= step)
        return self

    def until(self, condition) -> Running:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.process.poll() is None, f"it ended before: {self.process.communicate()}"
            assert time.monotonic() < deadline, "it did not come so far"
            time.sleep(0.02)
        return self

    def ranks(self) -> dict[int, int]:
        """Rank → process number of the training processes."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]
                words = folder.joinpath("environ").read_bytes().split(b"\0")
            except OSError:
                continue
            rank = next((word for word in words if word.startswith(b"RANK=")), None)
            if int(parent) == self.process.pid and rank is not None:
                found[int(rank[5:])] = int(folder.name)
        return found

    def end(self, number: signal.Signals, *pids: int) -> Ended:
        """Sends a signal, to the process that was started if no other is named, and waits for the run to end."""
        started = time.monotonic()
        for pid in pids or [self.process.pid]:
            os.kill(pid, number)
        output, errors = self.process.communicate(timeout=DEADLINE_S)
        return Ended(code=self.process.returncode, output=output, errors=errors, seconds=time.monotonic() - started)


def start(build: Path, runs_dir: Path, *stages: str, before: str = "") -> Running:
    """Starts `python -m runtime`; `before` is Python code that its processes run first, those that train with others included."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if before:
        hook = runs_dir.parent / f"{runs_dir.name}-hook"
        hook.mkdir(parents=True, exist_ok=True)
        (hook / "sitecustomize.py").write_text(before)
        environment["PYTHONPATH"] = os.pathsep.join([str(hook), *filter(None, [environment.get("PYTHONPATH"), *sys.path])])
    words = [word for stage in stages for word in ("--stage", stage)]
    command = [sys.executable, "-m", "runtime", str(build), "--runs-dir", str(runs_dir), *words]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return Running(process, runs_dir / "tiny")


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def metrics(run: Path) -> list[dict[str, Any]]:
    """What training has written of each step of a run, from its folder."""
    return [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
