"""Whether an unfinished training run goes on: under its contract, under a changed one that was accepted, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from runtime import console
from runtime.faults import WRONG, RunFault
from runtime.stages import write_json
from runtime.training.checkpoints import checkpoints, step_of
from runtime.training.contract import CONTRACT, Contract, Difference, differences, read

Change = Literal["refuse", "accept", "anew"]  # what to do where the contract has changed: --accept-change, --begin-anew


def check(partial: Path, contract: Contract, *, change: Change, total_steps: int | None) -> list[Difference]:
    """The differences with which the unfinished run in `partial` goes on; with `anew` it is set aside, and there are none.

    Raises RunFault where there are differences that were not accepted, or with which no run can go on.
    """
    found = checkpoints(partial)
    if not found:
        return []
    if change == "anew":
        console.say("train", f"begins anew; the unfinished run is kept in {_set_aside(partial)}")
        return []
    before = read(partial) or read(found[0])
    if not before:
        message = f"the unfinished run in {partial} does not say what it was made from"
        raise RunFault("SG446", message, "--begin-anew keeps it aside and starts over", exit_code=WRONG)
    changed = differences(before, contract)
    _refuse(partial, changed, change=change, newest=found[0])
    if changed and total_steps is not None and total_steps <= step_of(found[0]):
        message = f"training would end at step {total_steps}, and the unfinished run in {partial} is at {found[0].name} already"
        raise RunFault("SG447", message, "train for longer, or --begin-anew", exit_code=WRONG)
    return changed


def _refuse(partial: Path, changed: list[Difference], *, change: Change, newest: Path) -> None:
    if any(difference.how is None for difference in changed):
        lines = [difference.line(told=True) for difference in changed]
        message = "\n".join([f"the unfinished run in {partial} cannot go on with what has changed", *lines])
        hint = "set it back; or --begin-anew keeps that run aside and starts over; or --runs-dir DIR leaves it as it is"
        raise RunFault("SG446", message, hint, exit_code=WRONG)
    if changed and change == "refuse":
        lines = [difference.line(told=True) for difference in changed]
        message = "\n".join([f"the unfinished run in {partial} was begun with other settings", *lines])
        hint = f"--accept-change goes on from {newest.name} as said; --begin-anew keeps that run aside; --runs-dir DIR leaves it as it is"
        raise RunFault("SG445", message, hint, exit_code=WRONG)


def prepare(partial: Path, contract: Contract, *, change: Change, total_steps: int | None) -> None:
    """Makes the folder that training writes to, with the contract in it. Raises RunFault as `check` does.

    Called twice for one run, where one process starts others that train, it does nothing the second time.
    """
    changed = check(partial, contract, change=change, total_steps=total_steps)
    for difference in changed:
        console.say("train", f"goes on with another{difference.line(told=True)[1:]}")
    if not checkpoints(partial) and read(partial) != contract:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    write_json(partial / CONTRACT, contract)


def accepted(out: Path, checkpoint: Path) -> list[Difference]:
    """What has changed since the checkpoint was written; it was accepted when the folder was prepared."""
    return differences(read(checkpoint), read(out))


def _set_aside(partial: Path) -> Path:
    """Renames the folder to the first free one of train.unfinished-1, -2, …"""
    number = 1
    while (aside := partial.with_name(f"train.unfinished-{number}")).exists():
        number += 1
    partial.rename(aside)
    return aside
