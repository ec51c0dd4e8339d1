"""A run: which stages of the graph are carried out, in which order, and what several nodes and processes do of it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime import console, progress
from runtime.config import Config, read_tree
from runtime.exports.hub import push as push_parts
from runtime.exports.hub import require_push
from runtime.faults import FAILED, WRONG, Preempted, RunFault
from runtime.models import gguf
from runtime.models.base import begin_conversion
from runtime.models.from_run import CONFIG
from runtime.models.model import folder_of_model
from runtime.packages import require_trackers
from runtime.processes.launch import require_processes, train_in_processes
from runtime.processes.meeting import Meeting, meeting
from runtime.processes.nodes import Leader, Member, introduction
from runtime.processes.rank import is_supervised
from runtime.run.graph import stages
from runtime.run.run_lock import locked
from runtime.stages import Stage, adopt, carry_out, is_done, keys, open_folder, read_stage, write_json
from runtime.training import checkpoints, resume
from runtime.training.contract import contract_of
from runtime.training.resume import Change
from runtime.training.schedule import settled
from runtime.vision.pictures import BadPicture, checked

TESTS = {"smoke": "smoke test", "eval": "evaluation"}  # the stages that a model can fail


def run(
    config: Config,
    *,
    build: Path,
    runs_dir: Path,
    only: Sequence[str],
    talk: str,
    reuse: bool = False,
    change: Change = "refuse",
    push: bool = False,
) -> int:
    """Carries out the stages that are not up to date; returns the exit code. `talk` is how to chat with the result.

    With `reuse` a stage that another run in `runs_dir` has done with the same key is taken from there. `change` says what happens
    to an unfinished training run where what it was made from has changed. `push` uploads what was exported, once all is good.
    """
    if push:
        require_push(config)
    folder = runs_dir / config.name
    place = meeting(config.distributed.nodes, build=build) if _meets(config, only, folder, build) else None
    if place is not None and not place.leads:
        return follow(config, place, build=build, folder=folder)
    open_folder(folder)
    started = time.monotonic()
    with saved_is_told(folder), gguf.conversions_end(), contextlib.ExitStack() as entered:
        graph = stages(build)
        with _told_to_all(place, folder, build):
            entered.enter_context(locked(folder))
            config = known(config, build, folder)
            if not only or {"data", "train"} & {*only}:
                _check(config, folder, graph, change)
            pending = any(_is_pending(stage, graph, config, folder, only) for stage in graph)
            if pending:
                entered.enter_context(progress.recorded(folder))
                write_json(folder / CONFIG, read_tree(build))
                require_trackers(config.train.report_to)
                _require_evaluation(graph, config, folder, only)
                _require_pictures(graph, config, folder, only)
        leader = entered.enter_context(_led(place, folder, build))
        if only != ("data",) and not is_done(folder, "merge", keys(graph, config)["merge"]):
            begin_conversion(config.model.base)
        for stage in graph:
            if _is_wanted(stage, config, only):
                if not (reuse and _adopted(stage, graph, config, folder)):
                    _bring_up_to_date(stage, graph, config, folder, build, leader, change)
                config = known(config, build, folder)
        failed = _failed(graph, config, folder)
        if pending:
            progress.end(folder, "stopped" if only else "failed" if failed else "done", **(_fault_of(failed) if failed else {}))
    if only:
        return FAILED if {*failed} & {*only} else 0
    if failed:
        report = folder / "report" / "report.html"
        print(f"\nThe {_tests(failed)} failed. Everything is kept in {folder}; the answers are in {report}")
        return FAILED
    if push:
        push_parts(config, folder)
    print(f"\ndone in {console.clock(time.monotonic() - started)}. The model is in {folder / 'merge'}. Talk to it: {talk}")
    return 0


def _failed(graph: Sequence[Stage], config: Config, folder: Path) -> list[str]:
    """The tests that the model has failed."""
    names = [stage.name for stage in graph if stage.name in TESTS and stage.asked(config)]
    return [name for name in names if not read_stage(folder, name).get("summary", {}).get("passed", True)]


def _tests(failed: Sequence[str]) -> str:
    return " and the ".join(TESTS[name] for name in failed)


def _fault_of(failed: Sequence[str]) -> dict[str, Any]:
    return {"fault": {"code": None, "message": f"the {_tests(failed)} failed", "hint": None}}


def _require_evaluation(graph: Sequence[Stage], config: Config, folder: Path, only: Sequence[str]) -> None:
    """Before anything is trained: what the evaluation needs is there, if it is to run."""
    if any(stage.name == "eval" and _is_pending(stage, graph, config, folder, only) for stage in graph):
        from runtime.evaluation.harness import require_tasks

        require_tasks(config.eval.tasks if config.eval else ())


def _require_pictures(graph: Sequence[Stage], config: Config, folder: Path, only: Sequence[str]) -> None:
    """Before anything is trained: the pictures that the smoke test shows can be used, if it, or the proof of the merge, is to run."""
    if any(stage.name in ("merge", "smoke") and _is_pending(stage, graph, config, folder, only) for stage in graph):
        for image in dict.fromkeys(item.image for item in config.smoke if item.image is not None):
            try:
                checked(image)
            except BadPicture as fault:
                raise RunFault(fault.code, f"smoke: {image}: {fault.message}", fault.hint, exit_code=WRONG) from None


def _meets(config: Config, only: Sequence[str], folder: Path, build: Path) -> bool:
    """Whether several nodes are needed: to train. All else is done by one."""
    if config.distributed.nodes == 1 or (only and "train" not in only):
        return False
    trained = is_done(folder, "train", keys(stages(build), known(config, build, folder))["train"])
    return not trained or "MASTER_ADDR" in os.environ


@contextlib.contextmanager
def _told_to_all(place: Meeting | None, folder: Path, build: Path) -> Iterator[None]:
    """A fault from before the nodes meet is told to the others, too, which would look for this one for ten minutes and then blame the
    network."""
    try:
        yield
    except RunFault as fault:
        if place is not None:
            with contextlib.suppress(RunFault), _led(place, folder, build):
                raise fault
        raise


@contextlib.contextmanager
def _led(place: Meeting | None, folder: Path, build: Path) -> Iterator[Leader | None]:
    """Within this the other nodes of a run are there, if it has any."""
    if place is None:
        yield None
        return
    with Leader(place, own=introduction(build)) as leader:
        leader.gather(folder)
        yield leader


def follow(config: Config, place: Meeting, *, build: Path, folder: Path) -> int:
    """The part of a node other than the first: it trains with the others, and waits as long as there is nothing to train."""
    with saved_is_told(folder), Member(place, own=introduction(build)) as member, gguf.conversions_end():
        member.look(folder)
        folder_of_model(config.model)  # the first node makes the data meanwhile
        rendezvous = member.wait()
        if rendezvous is None:
            console.say("train", "nothing to do for this node")
            return 0
        require_processes(config)
        train_in_processes(config, folder, build=build, rendezvous=rendezvous, lost=member.lost)
    console.say("train", "done here; the first node goes on")
    return 0


def known(config: Config, build: Path, folder: Path) -> Config:
    """The config with what only the data can tell, once the data stage is up to date. Raises RunFault where the two differ."""
    if not is_done(folder, "data", keys(stages(build)[:1], config)["data"]):
        return config
    return settled(config, read_stage(folder, "data")["summary"])


def _is_wanted(stage: Stage, config: Config, only: Sequence[str]) -> bool:
    """Whether a stage is to be looked at; one that is called by name though the spec asks for nothing says so."""
    if not stage.asked(config) and stage.name in only:
        console.say(stage.name, "the spec asks for none")
    return stage.asked(config) and (not only or stage.name in only)


def _is_pending(stage: Stage, graph: Sequence[Stage], config: Config, folder: Path, only: Sequence[str]) -> bool:
    return stage.asked(config) and (not only or stage.name in only) and not is_done(folder, stage.name, keys(graph, config)[stage.name])


def _adopted(stage: Stage, graph: Sequence[Stage], config: Config, folder: Path) -> bool:
    """Whether a stage that is not up to date could be taken from another run beside this one."""
    key = keys(graph, config)[stage.name]
    if is_done(folder, stage.name, key) or not (done := adopt(stage, folder, key)):
        return False
    console.say(stage.name, f"the same as in {done.parent.name}: taken from there")
    return True


def _bring_up_to_date(
    stage: Stage, graph: Sequence[Stage], config: Config, folder: Path, build: Path, leader: Leader | None, change: Change
) -> None:
    all_keys = keys(graph, config)
    if is_done(folder, stage.name, all_keys[stage.name]):
        console.say(stage.name, "up to date")
        return
    for need in stage.needs:
        if need in all_keys and not is_done(folder, need, all_keys[need]):
            raise RunFault(
                "SG405", f"stage {stage.name} needs {need}, which is not up to date", f"run it first: --stage {need}", exit_code=WRONG
            )
    if stage.name == "train":
        _prepare(config, folder, change)
    # DeepSpeed wants a launcher for one process, too
    if stage.name == "train" and (config.distributed.world_size > 1 or config.distributed.zero_stage) and "RANK" not in os.environ:
        require_processes(config)
        if leader is None:
            train_in_processes(config, folder, build=build)
        else:
            train_in_processes(config, folder, build=build, rendezvous=leader.begin(), lost=leader.lost)
        if not is_done(folder, "train", all_keys["train"]):
            raise RunFault("SG434", "training ended in another process without a result")
        return
    progress.StageProgress(folder, stage.name)
    carry_out(stage, config, folder, all_keys)


def _check(config: Config, folder: Path, graph: Sequence[Stage], change: Change) -> None:
    """Before anything is made anew that an unfinished training run was made from. Raises RunFault where that cannot go on."""
    all_keys = keys(graph, config)
    if is_done(folder, "train", all_keys["train"]):
        return
    rows = _rows(folder) if is_done(folder, "data", all_keys["data"]) else None
    contract = contract_of(config, rows=rows)
    resume.check(folder / "train.partial", contract, change=change, total_steps=config.train.total_steps)


def _prepare(config: Config, folder: Path, change: Change) -> None:
    contract = contract_of(config, rows=_rows(folder))
    resume.prepare(folder / "train.partial", contract, change=change, total_steps=config.train.total_steps)


def _rows(folder: Path) -> str | None:
    sha256: str | None = read_stage(folder, "data").get("summary", {}).get("sha256")
    return sha256


def train_rank(config: Config, *, build: Path, runs_dir: Path) -> None:
    """The part of a process other than the first: it trains, and the first process looks after the files."""
    from runtime.training.train import train

    folder = runs_dir / config.name
    # the first node looks at the data's key: files that it is made of may be younger on this one
    train(settled(config, read_stage(folder, "data")["summary"]), folder, folder / "train.partial", build=build)


def train_first_rank(config: Config, *, build: Path, runs_dir: Path, change: Change) -> None:
    """The part of the first of several processes: training, and its output put in place."""
    folder = runs_dir / config.name
    is_own = not is_supervised()  # else the process that started this one holds the folder
    with locked(folder) if is_own else contextlib.nullcontext(), progress.recorded(folder, begins=is_own):
        config = known(config, build, folder)
        graph = stages(build)
        all_keys = keys(graph, config)
        (stage,) = (stage for stage in graph if stage.name == "train")
        if not is_done(folder, "train", all_keys["train"]):
            progress.StageProgress(folder, "train")
            _prepare(config, folder, change)
            carry_out(stage, config, folder, all_keys)
        if is_own:
            progress.end(folder, "stopped")


@contextlib.contextmanager
def saved_is_told(folder: Path) -> Iterator[None]:
    """A preemption that leaves this says at which step training was saved, if it was."""
    try:
        yield
    except Preempted:
        saved = [checkpoint for checkpoint in checkpoints.checkpoints(folder / "train.partial") if (checkpoint / checkpoints.SEAL).exists()]
        raise Preempted(f"saved at step {checkpoints.step_of(saved[0])}; " if saved else "") from None
