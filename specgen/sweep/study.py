"""Optuna chooses the trials. Its study is a journal in the sweep's folder, which optuna-dashboard opens, too."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from specgen.diagnostics import Diagnostic, SpecError
from specgen.source import Node
from specgen.sweep.space import Parameter, Sweep
from specgen.sweep.trials import Trial, placed_number, trial, with_key

JOURNAL = "optuna.journal"


def require_optuna() -> None:
    """Raises SpecError where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        hint = "pip install 'specgen[sweep]', or take method: {random: {trials: N}}"
        raise SpecError(Diagnostic(code="SG490", message="the sweep is one of Optuna, which is not installed", hint=hint))


class Study:
    """Asks Optuna for one trial after another, and tells it how each came out.

    Every trial is sampled from the results before it with a seed of its own (the sweep's, and the trial's number): a sweep that
    was interrupted goes on with the trials that it would have had.
    """

    def __init__(self, sweep: Sweep, folder: Path, name: str) -> None:
        """`name` stands for the whole spec: another one is another study in the same journal."""
        require_optuna()
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep = sweep
        path = str(folder / JOURNAL)
        storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
        self.study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)

    def ask(self, number: int) -> Trial:
        """Trial `number`, counted from 1: the one that was asked before, or a new one."""
        import optuna

        if number <= len(self.study.get_trials(deepcopy=False)):
            chosen: optuna.trial.BaseTrial = optuna.trial.FixedTrial(self.study.trials[number - 1].params)
        else:
            seed, n_startup_trials = self.sweep.seed, self.sweep.n_startup_trials
            assert seed is not None and n_startup_trials is not None, self.sweep
            self.study.sampler = optuna.samplers.TPESampler(seed=seed + number - 1, n_startup_trials=n_startup_trials)
            chosen = self.study.ask()
        return trial(number, {parameter.path: _suggested(parameter, chosen) for parameter in self.sweep.parameters})

    def tell(self, number: int, score: float | None) -> None:
        """The result of a trial, lower is better; None: it has failed. A trial is told once."""
        from optuna.trial import TrialState

        if not self.study.trials[number - 1].state.is_finished():
            self.study.tell(number - 1, score, state=TrialState.FAIL if score is None else TrialState.COMPLETE)


def _suggested(parameter: Parameter, chosen: Any) -> Node:
    found = parameter.range
    if found is None:
        choices = _choices(parameter)
        return with_key(parameter, parameter.values[choices.index(chosen.suggest_categorical(parameter.path, choices))])
    # Optuna warns where the steps do not meet the end
    high = found.high if found.count is None or found.log else found.low + (found.count - 1) * (found.step or 1)
    if found.whole:
        number = chosen.suggest_int(parameter.path, round(found.low), round(high), log=found.log, step=round(found.step or 1))
    else:
        number = chosen.suggest_float(parameter.path, found.low, high, log=found.log, step=found.step)
    return placed_number(parameter, found.settled(number))


def _choices(parameter: Parameter) -> list[Any]:
    """What Optuna can keep: plain values as they are, sections and lists as JSON."""
    plain = [value.plain() for value in parameter.values]
    simple = all(value is None or isinstance(value, str | int | float) for value in plain)
    return plain if simple else [json.dumps(value, sort_keys=True) for value in plain]
