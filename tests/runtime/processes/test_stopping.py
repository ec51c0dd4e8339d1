"""runtime/processes/stopping.py: a request to stop is heard wherever it comes."""

from __future__ import annotations

import subprocess
import sys

import pytest

WHILE_AN_OBJECT_GOES = """
import os, signal, sys, time
from runtime.faults import Preempted
from runtime.processes.stopping import listen
signal.signal(signal.SIGINT, signal.default_int_handler)
listen()

class Going:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.01)

try:
    Going()
    time.sleep(20)
except (KeyboardInterrupt, Preempted) as request:
    print(type(request).__name__)
"""


@pytest.mark.parametrize(("number", "request_"), [(2, "KeyboardInterrupt"), (15, "Preempted"), (10, "Preempted")])
def test_a_request_that_comes_while_an_object_goes_is_not_lost(number, request_):
    done = subprocess.run([sys.executable, "-c", WHILE_AN_OBJECT_GOES, str(number)], capture_output=True, text=True, check=True, timeout=15)
    assert (done.stdout, done.stderr) == (f"{request_}\n", "")


def test_another_fault_of_an_object_that_goes_is_told_as_ever():
    script = "from runtime.processes.stopping import listen; listen()\nclass Going:\n  def __del__(self): raise ValueError('gone')\nGoing()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "ValueError: gone" in done.stderr
