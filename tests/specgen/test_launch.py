"""Starting the runtime: what is told to the command reaches the process that works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from specgen import launch

SLEEPER = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
START = "import sys\nfrom specgen.launch import start\nsys.exit(start('sleeper', []))\n"


def test_sigterm_ends_the_process_that_was_started_and_gives_its_code(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", START], env=environment, stdout=subprocess.PIPE, text=True) as command:
        started = int(command.stdout.readline())
        command.send_signal(signal.SIGTERM)
        assert command.wait(60) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{started}").exists()


def test_what_the_environment_says_already_is_left_as_it_is(monkeypatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    assert launch.environment()["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == str(launch.PRODUCTS)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    assert launch.environment()["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
