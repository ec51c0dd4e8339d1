"""What a sweep will be: its trials with their steps and tokens, and the sums, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specgen.compiler import Compiled, compile_tree
from specgen.diagnostics import Diagnostic, SpecError
from specgen.facts.figures import DataFigures, data_key
from specgen.lock.use import LockInUse, lock_in_use
from specgen.measured_data import NOT_TO_BE_HAD, measured_data
from specgen.quoting import count
from specgen.source import Node
from specgen.summary import total_tokens
from specgen.sweep.builds import Swept
from specgen.sweep.trials import Trial, trial_tree, written

Size = tuple[int | None, int | None]  # optimizer steps and tokens, None where they cannot be known


def plan(swept: Swept, trials: list[Trial] | None, number: int) -> str:
    """A table of the trials, and the sums. Where Optuna chooses the trials, each counts as much as the spec itself.

    Raises SpecError, also for what the data stage finds wrong with the rows of a trial.
    """
    # the base's commit and the data's figures are those of the lock, as where the spec itself is compiled
    lock = lock_in_use(swept.spec, swept.profile, "look")[0] if swept.lock else None
    sizes = _Sizes(lock)
    if trials is None:
        steps, tokens = sizes.of(swept.tree)
        return _sums(number, steps and steps * number, tokens and tokens * number, about="about ")
    found = _of_all(sizes, swept, trials)
    heads = ["trial", *(parameter.path for parameter in swept.sweep.parameters), "steps", "tokens"]
    rows = [
        [str(trial.number), *map(written, trial.values.values()), count(steps), count(tokens)]
        for trial, (steps, tokens) in zip(trials, found, strict=True)
    ]
    sums = _sums(number, _sum([steps for steps, _ in found]), _sum([tokens for _, tokens in found]))
    return f"{_columns([heads, *rows])}\n\n{sums}"


def _of_all(sizes: _Sizes, swept: Swept, trials: list[Trial]) -> list[Size]:
    """The size of each trial. Raises SpecError with what the data stage finds wrong in all of them."""
    found: list[Size] = []
    faults: list[Diagnostic] = []
    for trial in trials:
        try:
            found.append(sizes.of(trial_tree(swept.tree, trial)))
        except SpecError as error:
            faults += [_with_trial(fault, trial) for fault in error.diagnostics if fault.severity == "error"]
    if faults:
        raise SpecError(*faults)
    return found


def _with_trial(fault: Diagnostic, trial: Trial) -> Diagnostic:
    first, newline, rest = fault.message.partition("\n")
    return replace(fault, message=f"{first}; with {trial.told}{newline}{rest}")


class _Sizes:
    """Sizes of specs; the data of those that have the same are tokenized once."""

    def __init__(self, lock: LockInUse | None) -> None:
        self.lock = lock
        self.figures: dict[str, DataFigures | None] = {}

    def of(self, tree: Node) -> Size:
        compiled = compile_tree(tree, lock=self.lock)
        key = data_key(compiled.plan)
        if key not in self.figures:
            self.figures[key] = compiled.facts.figures or _measured(compiled)
        figures = self.figures[key]
        known = compiled if figures is None else compile_tree(tree, figures=figures, lock=self.lock)
        return known.plan.train.total_steps, total_tokens(known.plan, known.facts)


def _measured(compiled: Compiled) -> DataFigures | None:
    try:
        return measured_data(compiled)
    except SpecError as error:
        if not {fault.code for fault in error.diagnostics} <= NOT_TO_BE_HAD:
            raise
        return None


def _sum(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _sums(trials: int, steps: int | None, tokens: int | None, about: str = "") -> str:
    what = "1 trial" if trials == 1 else f"{trials:,} trials"
    return f"{what}: {about}{count(steps)} steps and {about}{count(tokens)} tokens in all, and a merge and a smoke test each"


def _columns(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
