import os
import subprocess
import sys

import pytest

AMID_A_THREAD = """
import atexit, threading
import torch

def compute():
    numbers = torch.zeros(1000)
    while True:
        numbers + numbers

for _ in range(4):
    threading.Thread(target=compute, daemon=True).start()
atexit.register(print, "put away")
"""


@pytest.mark.parametrize(
    "ending",
    ["from runtime.starting import leave; leave(0)", "from runtime.__main__ import end; end(0)"],
    ids=["program", "training process"],
)
def test_a_thread_that_still_computes_does_not_abort_a_process_that_is_done(ending):
    done = subprocess.run(
        [sys.executable, "-c", AMID_A_THREAD + ending], env=os.environ | {"RANK": "1"}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "put away\n", "")


def test_a_training_process_that_fails_waits_for_nothing():
    ending = "from runtime.__main__ import end; end(3)"
    done = subprocess.run(
        [sys.executable, "-c", AMID_A_THREAD + ending], env=os.environ | {"RANK": "1"}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
