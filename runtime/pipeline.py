"""The stages, and the order in which a run takes them. Heavy imports stay inside the stages' functions."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime import checkpoints, console, gguf, progress, resume
from runtime.base import begin_conversion, identity_of_parts
from runtime.config import Config, exports_more, read_tree
from runtime.contract import contract_of, what_changes_weights
from runtime.exports.hub import push as push_parts
from runtime.exports.hub import require_push
from runtime.faults import FAILED, WRONG, Preempted, RunFault
from runtime.from_run import identity_of_run
from runtime.meeting import Meeting, meeting
from runtime.model import folder_of_model
from runtime.nodes import Leader, Member, introduction
from runtime.packages import require_trackers
from runtime.processes import require_processes, train_in_processes
from runtime.resume import Change
from runtime.schedule import settled, without_counts, without_rows
from runtime.stages import Stage, adopt, carry_out, is_done, keys, open_folder, read_stage, write_json
from runtime.vision.parts import adapter_of
from runtime.vision.pictures import BadPicture, checked

TOKENIZER = ("transformers", "tokenizers")
MODEL = ("torch", "transformers", "peft")
CONFIG = "config.json"  # what was run, for specgen runs
LOCK_ATTEMPTS = 3
TESTS = {"smoke": "smoke test", "eval": "evaluation"}  # the stages that a model can fail


def stages(build: Path) -> tuple[Stage, ...]:
    """The stage graph of a compiled folder."""
    return (
        Stage(name="data", needs=(), part=_data_part, libraries=TOKENIZER, work=_data),
        Stage(name="train", needs=("data",), part=_train_part, libraries=(*MODEL, "accelerate"), work=_train(build), resumable=True),
        Stage(name="convert", needs=("train",), part=_convert_part, libraries=("peft",), work=_convert),
        Stage(name="merge", needs=("convert",), part=_merge_part, libraries=MODEL, work=_merge),
        Stage(
            name="smoke", needs=("merge",), part=lambda config: {"chat": config.chat, "smoke": config.smoke}, libraries=MODEL, work=_smoke
        ),
        Stage(
            name="eval",
            needs=("merge",),
            part=_eval_part,
            libraries=MODEL,
            work=_evaluate,
            asked=lambda config: config.eval is not None,
        ),
        Stage(name="export", needs=("merge",), part=_export_part, libraries=(*MODEL, "gguf"), work=_export, asked=exports_more),
        Stage(
            name="report",
            needs=("data", "train", "convert", "merge", "smoke", "eval", "export"),
            part=lambda config: config,
            libraries=("matplotlib",),
            work=_report,
        ),
    )


def _data_part(config: Config) -> object:
    seed = config.train.seed
    objective = config.train.objective
    data = without_counts(config.data)
    found = {"base": identity_of_parts(config.model), "template": config.template, "data": data, "seed": seed, "objective": objective}
    return found if config.model.vision is None else {**found, "vision": config.model.vision}


def _train_part(config: Config) -> object:
    begun = {} if config.model.from_run is None else {"from_run": identity_of_run(config.model)}
    return {
        **begun,
        "model": config.model,
        "adapter": config.adapter,
        "train": what_changes_weights(config.train),
        "distributed": replace(config.distributed, nvme_path=None, ddp_timeout=0),
    }


def _convert_part(config: Config) -> object:
    return config.export.merged if adapter_of(config) is None else config.export.adapter


def _merge_part(config: Config) -> object:
    # the chat settings of the exported generation_config are written once more by the smoke test: they are not worth a merge
    return {"export": config.export.merged, "template": config.template}


def _eval_part(config: Config) -> object:
    return {"chat": config.chat, "eval": replace(config.eval, sources=without_rows(config.eval.sources)) if config.eval else None}


def _export_part(config: Config) -> object:
    export = config.export
    asked = config.smoke if export.quantized is not None else ()
    wanted = {"gguf": export.gguf, "quantized": export.quantized}
    return {**wanted, "name": config.name, "description": config.description, "chat": config.chat, "smoke": asked}


def _data(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.data.stage import make_data

    return make_data(config, folder, out)


def _train(build: Path) -> Any:
    def work(config: Config, folder: Path, out: Path) -> dict[str, Any]:
        from runtime.train import train

        gc.freeze()  # a third of a second for each collection among the libraries' objects, some of them in the middle of a step
        return train(config, folder, out, build=build)

    return work


def _convert(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.convert import convert

    return convert(config, folder, out)


def _merge(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.merge import merge

    return merge(config, folder, out)


def _smoke(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.smoke import smoke

    return smoke(config, folder, out)


def _evaluate(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.evaluate import evaluate

    return evaluate(config, folder, out)


def _export(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.exports.stage import export

    return export(config, folder, out)


def _report(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    from runtime.report import report

    return report(config, folder, out)


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
    with saved_is_told(folder), locked(folder), gguf.conversions_end(), contextlib.ExitStack() as entered:
        graph = stages(build)
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
        from runtime.harness import require_tasks

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
    from runtime.train import train

    folder = runs_dir / config.name
    # the first node looks at the data's key: files that it is made of may be younger on this one
    train(settled(config, read_stage(folder, "data")["summary"]), folder, folder / "train.partial", build=build)


def train_first_rank(config: Config, *, build: Path, runs_dir: Path, change: Change) -> None:
    """The part of the first of several processes: training, and its output put in place."""
    folder = runs_dir / config.name
    with held_or_locked(folder) as is_own, progress.recorded(folder, begins=is_own):
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
        raise Preempted(f"saved at step {saved[0].name.rpartition('-')[2]}; " if saved else "") from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run folder. Raises RunFault where another process does. The lock ends with the process that holds it."""
    with held_or_locked(folder) as is_own:
        if not is_own:
            message = f"another run is active in {folder}"
            raise RunFault("SG406", message, "wait for it, or choose another folder with --runs-dir", exit_code=WRONG)
        yield


@contextlib.contextmanager
def held_or_locked(folder: Path) -> Iterator[bool]:
    """Holds the run folder; False where another process does. Tries for a moment: specgen status looks whether it is held."""
    import fcntl

    with (folder / ".specgen").open() as stream:
        for attempt in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(0.02 if attempt + 1 < LOCK_ATTEMPTS else 0)
                continue
            yield True
            return
        yield False
