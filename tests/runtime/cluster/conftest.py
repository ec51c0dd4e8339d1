"""Two nodes on one machine: network namespaces with a cable between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ADDRESSES = ("10.213.77.1", "10.213.77.2")
SMALL = {"max_steps": 4, "batch_size": 4, "micro_batch_size": 1, "learning_rate": 1.0e-3, "save_steps": 2}


@dataclass(frozen=True)
class Nodes:
    """The names of two namespaces."""

    names: tuple[str, str]

    def start(self, number, build, cwd, *words, **environment):
        """launch.sh on one node; a process whose output is text."""
        command = ["ip", "netns", "exec", self.names[number], "bash", str(build / "launch.sh"), *words]
        told = {**os.environ, "PYTHON": sys.executable, "MASTER_ADDR": ADDRESSES[0], **environment}
        return subprocess.Popen(command, cwd=cwd, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, build, cwd, *words):
        """launch.sh on both nodes to its end: exit codes and outputs. The node that is joined starts last."""
        started = [self.start(1, build, cwd, *words), self.start(0, build, cwd, *words)]
        outputs = [process.communicate(timeout=300)[0] for process in started]
        return [process.returncode for process in reversed(started)], outputs[::-1]


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="session")
def two_nodes():
    """Two namespaces that see each other and nothing else."""
    if shutil.which("ip") is None or os.geteuid():
        pytest.skip("network namespaces need root, and ip of iproute2")
    names = tuple(f"specgen-{os.getpid()}-{letter}" for letter in "ab")
    ends = tuple(f"sg{os.getpid()}{letter}"[-15:] for letter in "ab")
    try:
        for name in names:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"ip netns is not permitted here: {error.stderr.strip()}")
    try:
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(names, ends, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            for device in ("lo", end):
                ip("-n", name, "link", "set", device, "up")
        yield Nodes(names)
    finally:
        for name in names:
            ip("netns", "delete", name)


@pytest.fixture(scope="session")
def one_host():
    """Data and training of a compiled folder on this machine alone; returns the run folder."""

    def run(build, cwd):
        command = ["bash", str(build / "launch.sh"), "--stage", "data", "--stage", "train"]
        done = subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return next(Path(cwd, "runs").iterdir())

    return run
