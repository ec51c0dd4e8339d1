"""The bound on an expression's time is on its own work: what else the process does is not counted."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from specgen.limits import TooMuch, limited


def spin(seconds):
    """Computes for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_what_computes_for_too_long_ends():
    with pytest.raises(TooMuch, match=r"it takes more than 0\.05 seconds"), limited(0.05):
        spin(10)


def test_the_work_of_another_thread_does_not_count():
    other = threading.Thread(target=spin, args=(0.3,))
    other.start()
    with limited(0.1):
        other.join()


def test_no_garbage_is_collected_meanwhile():
    with limited(1):
        assert not gc.isenabled()
    assert gc.isenabled()
