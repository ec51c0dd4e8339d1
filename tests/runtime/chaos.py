"""python -m tests.runtime.chaos BUILD FOLDER KILLS SEED: runs that are killed at random moments and begun again, until they end.

Each run is in FOLDER/NUMBER. Its processes are forked here, so that libraries are imported once; each is `python -m runtime BUILD`.
So many as KILLS are broken off, in one stage after the other; one that ends before is drawn again. Prints a line of JSON a run: the
stage, and for each start the signal that it got, if any, and its exit code.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Trainer  # noqa: F401  (imported before the forks)

from runtime import __main__ as runtime
from runtime.training import train  # noqa: F401  (as above)

STAGES = ("data", "train", "convert", "merge", "smoke", "report")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDED_BY = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 75, 130}
MOST_STARTS = 6


def begin(build: Path, runs_dir: Path) -> int:
    """The process number of a run that has begun; what it says is in FOLDER/NUMBER.log."""
    if child := os.fork():
        return child
    with runs_dir.with_suffix(".log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = ["runtime", str(build), "--runs-dir", str(runs_dir)]
    try:
        code = runtime.main()
    except KeyboardInterrupt:  # before it listens: Python ends a process by the signal then
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        code = 99
    sys.stdout.flush()
    os._exit(code)


def exit_code(child: int, *, wait: bool) -> int | None:
    ended, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def durations(folder: Path) -> dict[str, float]:
    """Seconds of each stage of a run that was left alone."""
    return {stage: json.loads((folder / stage / "stage.json").read_text())["seconds"] for stage in STAGES}


def disturbed(build: Path, runs_dir: Path, stage: str, delay_s: float, chance: random.Random) -> list[tuple[str | None, int]]:
    """Starts a run until it ends by itself: the first start is disturbed so long after `stage` began, later ones half of the time."""
    starts: list[tuple[str | None, int]] = []
    for number in range(MOST_STARTS):
        child, sent, code = begin(build, runs_dir), None, None
        strikes = number == 0 or (number < MOST_STARTS - 1 and chance.random() < 0.5)
        if strikes:
            code = wait_for(child, runs_dir / "tiny" / f"{stage}.partial", delay_s if number == 0 else chance.uniform(0, 2))
            if code is None:
                sent = chance.choice(SIGNALS)
                os.kill(child, sent)
        code = exit_code(child, wait=True) if code is None else code
        assert code is not None
        starts.append((sent.name if sent else None, code))
        if code == 0:
            break
    return starts


def wait_for(child: int, begun: Path, delay_s: float) -> int | None:
    """Waits for a stage to begin, and so long after that; the exit code where the process ended before."""
    deadline: float | None = None
    while deadline is None or time.monotonic() < deadline:
        if (code := exit_code(child, wait=False)) is not None:
            return code
        if deadline is None and begun.exists():
            deadline = time.monotonic() + delay_s
        time.sleep(0.002)
    return None


def main() -> None:
    build, folder, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    runtime.quiet()
    torch.set_num_threads(1)
    chance = random.Random(seed)
    assert exit_code(begin(build, folder / "unbroken"), wait=True) == 0
    seconds = durations(folder / "unbroken" / "tiny")
    broken = 0
    for number in itertools.count():
        if broken == kills:
            break
        stage = STAGES[broken % len(STAGES)]
        delay_s = chance.uniform(0, seconds[stage])
        starts = disturbed(build, folder / str(number), stage, delay_s, chance)
        broken += starts[0][1] != 0
        print(json.dumps({"run": number, "stage": stage, "delay_s": round(delay_s, 3), "starts": starts}), flush=True)


if __name__ == "__main__":
    main()
