"""The trials of a sweep, one after another: those that are done are not run again, one that fails does not end the others."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from specgen.calls import call
from specgen.diagnostics import SpecError
from specgen.exits import FAILED, WRONG
from specgen.source import Node
from specgen.sweep.builds import Builder, Built, Swept
from specgen.sweep.folders import read_records, write_records
from specgen.sweep.process import Ended, carry_out
from specgen.sweep.results import Record, best_of, failed_only_its_tests, figures_of, reason
from specgen.sweep.study import Study
from specgen.sweep.trials import Trial

ACTIVE = "error SG406"  # the runtime's word for a run folder that another process holds

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Runner:
    """Carries out trials in `folder` (runs/NAME-sweep). `retry`: those that have failed before, too."""

    swept: Swept
    builder: Builder
    folder: Path
    retry: bool
    say: Say
    records: list[Record] = field(default_factory=list)
    before: dict[str, Record] = field(default_factory=dict)

    def run(self, trials: list[Trial] | None, count: int) -> int | None:
        """Runs the listed trials, or those that Optuna chooses; returns the exit code that ended the sweep early, if any."""
        self.before = read_records(self.folder)
        study = Study(self.swept.sweep, self.folder, study_name(self.swept)) if trials is None else None
        for number in range(1, count + 1):
            trial = study.ask(number) if study else (trials or [])[number - 1]
            record, code = self._recorded(trial, count)
            if record is None:
                return code
            if record.label not in {other.label for other in self.records}:
                self.records.append(record)
                self.before[record.label] = record
                self._keep(list(self.before.values()))  # those of an earlier call, too: this one may be stopped before it comes to them
            if study:
                study.tell(number, record.score(self.swept.sweep.metric))
        self._keep(self.records)
        return None

    def _recorded(self, trial: Trial, count: int) -> tuple[Record | None, int]:
        """A trial's record, of now or of an earlier call; None and the exit code where the sweep has to stop."""
        head = f"\ntrial {trial.number}/{count}  {trial.told}"
        try:
            built = self.builder.build(trial)
        except SpecError as error:
            if self.swept.sweep.method != "optuna":
                raise
            fault = next(fault for fault in error.diagnostics if fault.severity == "error")
            self.say(f"{head}\n         does not compile: {fault.code}: {fault.message}")
            return _failed(trial, trial.label, "", f"{fault.code}: {fault.message}"), 0
        known = self.before.get(trial.label)
        if known and known.key == built.key and (known.state == "done" or not self.retry):
            self.say(f"{head}\n         {'done before' if known.state == 'done' else f'failed before: {known.fault}'}")
            return replace(known, number=trial.number), 0
        self.say(head)
        ended = carry_out([str(built.build), "--runs-dir", str(self.folder), "--reuse", "--talk", chat_call(built, self.folder)])
        if ACTIVE in ended.errors:  # an earlier sweep was killed, and its trial goes on alone: it is no failure
            return None, WRONG
        return (None, ended.code) if ended.stopped else (self._ended(built, ended), 0)

    def _ended(self, built: Built, ended: Ended) -> Record:
        run, trial = self.folder / built.name, built.trial
        if ended.code and not (ended.code == FAILED and failed_only_its_tests(run, ended.errors)):
            return _failed(trial, built.name, built.key, reason(ended.errors, ended.code))
        figures = figures_of(run, keeps_best=built.compiled.plan.train.load_best_model_at_end)
        return Record(number=trial.number, label=trial.label, name=built.name, values=_plain(trial), key=built.key, state="done", **figures)

    def _keep(self, records: list[Record]) -> None:
        """Writes sweep.json, and removes merged models that are not to be kept."""
        sweep = self.swept.sweep
        best = best_of(records, sweep.metric)
        about = {
            "sweep": 1,
            "name": self.swept.name,
            "spec": str(self.swept.spec),
            "method": sweep.method,
            "metric": sweep.metric,
            "parameters": [parameter.path for parameter in sweep.parameters],
            "best": best.label if best else None,
        }
        write_records(self.folder, about, records, sweep.metric)
        if sweep.keep_merged == "best":
            self._remove_merged()

    def _remove_merged(self) -> None:
        """Removes the merged models of this call's trials but the best: what an earlier call has recorded may be of another spec."""
        best = best_of(self.records, self.swept.sweep.metric)
        for record in self.records if best else ():
            merged = self.folder / record.name / "merge"
            if best and record is not best and merged.is_dir():
                shutil.rmtree(merged)
                self.say(f"         removed {merged}: trial {best.number} is better (sweep.keep_merged)")


def chat_call(built: Built, folder: Path) -> str:
    """The command that talks to a trial's model."""
    return call("chat", built.spec, runs_dir=folder)


def study_name(swept: Swept) -> str:
    """Names Optuna's study by all that its results depend on: the spec and the sweep, but for how many trials are asked for."""
    tree = swept.compiled.tree
    sweep = {key: node.plain() for key, node in tree.children["sweep"].children.items() if key not in ("method", "keep_merged")}
    ((_, settings),) = tree.children["sweep"].children["method"].children.items()
    drawn = {key: node.plain() for key, node in settings.children.items() if key != "trials"}
    rest = Node(value={key: node for key, node in tree.children.items() if key not in ("sweep", "description", "profiles")})
    text = json.dumps([rest.plain(), sweep, drawn], sort_keys=True, ensure_ascii=False)
    return f"{swept.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def left_over(folder: Path, records: list[Record]) -> Iterator[Path]:
    """Run folders of trials that are none of this sweep any more."""
    names = {record.name for record in records}
    yield from (mark.parent for mark in sorted(folder.glob("*/.specgen")) if mark.parent.name not in names)


def _failed(trial: Trial, name: str, key: str, fault: str) -> Record:
    return Record(number=trial.number, label=trial.label, name=name, values=_plain(trial), key=key, state="failed", fault=fault)


def _plain(trial: Trial) -> dict[str, object]:
    return {path: node.plain() for path, node in trial.values.items()}
