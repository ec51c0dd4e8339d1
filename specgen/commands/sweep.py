"""specgen sweep: plans the trials of a spec, compiles them and runs them one after another."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from specgen.calls import call
from specgen.diagnostics import Diagnostic, SpecError
from specgen.exits import FAILED, GOOD
from specgen.launch import require_torch, start
from specgen.rules.sweep import MOST_CHECKED
from specgen.sweep.builds import Builder, Swept, read_sweep
from specgen.sweep.check import trial_faults
from specgen.sweep.folders import SUFFIX, held, open_folder
from specgen.sweep.results import Record, best_of
from specgen.sweep.running import Runner, Say, left_over
from specgen.sweep.study import require_optuna
from specgen.sweep.trials import Trial, as_setting, listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeping:
    """A sweep that is ready: its trials are sound. `trials` is None where Optuna chooses them; `number` is how many there will be."""

    swept: Swept
    trials: list[Trial] | None
    number: int
    warnings: tuple[Diagnostic, ...]


def ready(spec: Path, profile: str | None, settings: tuple[str, ...], most: int | None) -> Sweeping:
    """Reads a sweep and checks every trial of it. Raises SpecError with the faults of all trials at once."""
    swept = read_sweep(spec, profile, settings)
    sweep = swept.sweep
    number = min(sweep.trials, most or sweep.trials)
    found = [fault for fault in swept.compiled.diagnostics if fault.severity != "note"]
    if sweep.method == "optuna":
        require_optuna()
        return Sweeping(swept=swept, trials=None, number=number, warnings=tuple(found))
    trials = list(itertools.islice(listed(sweep), number))
    if len(trials) > MOST_CHECKED:
        more = trial_faults(swept.compiled.tree, swept.compiled.facts, trials[MOST_CHECKED:])
        found = list(dict.fromkeys([*found, *more]))
        if any(fault.severity == "error" for fault in found):
            raise SpecError(*found)
    return Sweeping(swept=swept, trials=trials, number=len(trials), warnings=tuple(found))


def compile_trials(sweeping: Sweeping, target: Path) -> Builder:
    """Writes spec, lock and compiled folder of every trial that is known beforehand. Raises SpecError."""
    open_folder(target, "--output")
    builder = Builder(sweeping.swept, target)
    for trial in sweeping.trials or ():
        builder.build(trial)
    return builder


def run(sweeping: Sweeping, builder: Builder, runs_dir: Path, *, retry: bool, say: Say) -> int:
    """Runs the trials, then shows them. Returns the exit code: 0 where a trial is the best, 1 where none has the metric."""
    require_torch()
    swept = sweeping.swept
    folder = runs_dir / (swept.name + SUFFIX)
    open_folder(folder, "--runs-dir")
    runner = Runner(swept=swept, builder=builder, folder=folder, retry=retry, say=say)
    with held(folder, say):
        code = runner.run(sweeping.trials, sweeping.number)
        if code is not None:
            say(f"\nstopped after {len(runner.records)} of {sweeping.number} trials; the same command goes on from here")
            return code
        say("")
        if shown := start("runtime.sweep", [str(folder)]):
            return shown
    old = len(list(left_over(folder, runner.records)))
    if old:
        say(f"{old} run folder{'s' if old > 1 else ''} in {folder} {'are' if old > 1 else 'is'} of trials that are no longer in the spec")
    best = best_of(runner.records, swept.sweep.metric)
    if best is None:
        say(f"no trial has a {swept.sweep.metric.replace('_', ' ')}")
        return FAILED
    say(f"the best trial as a run of its own: {run_call(swept, best)}")
    say(f"talk to it: {call('chat', f'{builder.target / best.label}.yaml', runs_dir=folder)}")
    return GOOD


def run_call(swept: Swept, best: Record) -> str:
    """The command that makes the best trial's model from the sweep's own spec; its values are there to copy."""
    settings = [*swept.settings, *(as_setting(path, value) for path, value in best.values.items())]
    return call("run", swept.spec, profile=swept.profile, settings=settings)
