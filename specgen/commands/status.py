"""specgen status: where a run stands, or how it ended, from another terminal or long after."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from specgen.compose import with_profile
from specgen.diagnostics import Diagnostic, SpecError
from specgen.extend import load
from specgen.folder import is_compiled
from specgen.runfolder import UNASKED, Run, is_run, read_run, runs_below
from specgen.sizes import size
from specgen.stages import STAGES

ENDED = ("done", "stopped", "failed", "interrupted", "preempted", "killed", "unknown")
WIDTH = 100  # of a line that shows an answer


def find(named: str | None, runs_dir: Path, profile: str | None = None) -> Path:
    """The run folder that is meant: a path, a name below the runs folder, a spec (with one of its profiles) or a compiled
    folder; without any, the one that was written to last. Raises SpecError."""
    if profile and (named is None or not _is_spec(Path(named))):
        raise click.UsageError("--profile belongs to a spec: name it, or the run itself without --profile")
    if named is None:
        found = max(runs_below(runs_dir), key=_written, default=None)
        if found is None:
            raise SpecError(Diagnostic(code="SG671", message=f"there is no run below {runs_dir}", hint="specgen run SPEC makes one"))
        return found
    name = _name_of(Path(named), profile)
    for folder in (Path(named), runs_dir / name):
        if is_run(folder):
            return folder
    known = [str(folder.relative_to(runs_dir)) for folder in runs_below(runs_dir)]
    hint = f"below {runs_dir} are {', '.join(known)}" if known else "specgen run SPEC makes one; --runs-dir says where runs are"
    raise SpecError(Diagnostic(code="SG671", message=f"{named} has no run below {runs_dir}", hint=hint))


def _is_spec(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml") and not is_compiled(path)


def _name_of(path: Path, profile: str | None) -> str:
    """The name of the run of a spec or a compiled folder; else the words themselves."""
    file = path / "config.yaml" if is_compiled(path) else path
    if not (is_compiled(path) or _is_spec(path)):
        return str(path)
    name = with_profile(load(file), profile).at("name")
    return str(name.value) if name is not None else str(path)


def _written(folder: Path) -> float:
    newest = (folder / name for name in ("progress.json", "manifest.json", ".specgen"))
    return max((file.stat().st_mtime for file in newest if file.is_file()), default=0.0)


def status(folder: Path, form: str) -> tuple[str, bool]:
    """What is to be said of the run in a folder, as text or JSON; and whether nothing more is to be expected of it."""
    run = read_run(folder)
    return as_json(run) if form == "json" else as_text(run, time.time()), run.state in ENDED


def as_json(run: Run) -> str:
    """All that is known, for other programs; times are seconds since 1970."""
    checkpoints = [{"name": name, "whole": whole} for name, whole in run.checkpoints]
    content = {
        "folder": str(run.folder),
        "state": run.state,
        **{key: value for key, value in run.progress.items() if key != "state"},
        "stages": {name: record.get("seconds") for name, record in run.stages.items()},
        "validation": run.validation[-1] if run.validation else None,
        "best_validation": run.best_validation,
        "previews": _last_previews(run),
        "checkpoints": checkpoints,
        "smoke_passed": run.summary("smoke").get("passed"),
        "eval_passed": run.summary("eval").get("passed"),
    }
    return json.dumps(content, ensure_ascii=False, indent=2)


def as_text(run: Run, now: float) -> str:
    """A headline, then a line for each thing that there is to say. `now` in seconds since 1970."""
    lines = {
        "": _how_it_goes_on(run),
        "run": _where(run, now),
        "stages": "  ".join(_stage(run, name) for name in STAGES if name not in UNASKED or name in run.stages),
        "train": _figures(run),
        "validation": _validation(run),
        **{f"preview {index}": text for index, text in enumerate(_previews(run))},
        "checkpoint": ", ".join(f"{name}{'' if whole else ' (not whole)'}" for name, whole in run.checkpoints),
        "smoke": _smoke(run),
        "eval": _eval(run),
    }
    headline = f"{run.config.get('name', run.folder.name)}  {_headline(run, now)}"
    return "\n".join([headline, *(f"  {label.split(' ')[0]:<10} {text}".rstrip() for label, text in lines.items() if text)])


def _headline(run: Run, now: float) -> str:
    step, total = run.progress.get("step"), run.progress.get("total")
    stage = run.progress.get("stage")
    if run.state == "running":
        share = f" step {step} of {total} ({100 * step / total:.0f} %)" if step is not None and total else ""
        eta = run.progress.get("eta_s")
        left = f" · ETA {clock(max(0.0, eta - (now - run.progress['updated'])))}" if eta is not None else ""
        return f"running · {stage or 'starting'}{share}{left}"
    if run.state == "done":
        seconds = run.progress.get("updated", 0) - run.progress.get("started", 0)
        return f"done in {clock(seconds)}" if seconds else "done"
    if run.state == "stopped":
        return f"ended after {stage}, as it was asked to" if stage else "ended; nothing was to be done"
    if run.state == "unknown":
        return "not finished; how it ended was not written down"
    where = f" at step {step} of {total}" if step is not None and total else ""
    if run.state == "silent":
        host, ago = run.progress.get("host"), clock(now - run.progress.get("updated", now))
        return f"not heard of for {ago}{where}; whether it lives can only be seen on {host}"
    return f"{run.state} in {stage}{where}" if stage else run.state


def _how_it_goes_on(run: Run) -> str:
    """For a run that did not come to its end: its fault, and from where the same command goes on."""
    if run.state not in ("failed", "interrupted", "preempted", "killed"):
        return ""
    fault = run.progress.get("fault") or {}
    told = []
    if fault.get("message"):
        told.append(f"{fault['code']}: {fault['message']}" if fault.get("code") else str(fault["message"]))
    if fault.get("hint"):
        told.append(f"hint: {fault['hint']}")
    stage = run.progress.get("stage")
    if stage == "train":
        whole = next((name for name, is_whole in run.checkpoints if is_whole), None)
        from_there = f"{whole} is whole: the same command goes on from there"
        told.append(from_there if whole else "no checkpoint is whole yet: the same command trains from the start")
    elif stage and not fault:
        told.append(f"the same command goes on with {stage}")
    return "\n             ".join(told)


def _where(run: Run, now: float) -> str:
    progress = run.progress
    if not progress:
        return str(run.folder)
    began = datetime.fromtimestamp(progress["started"], tz=timezone.utc).astimezone()
    process = f" · process {progress['pid']} on {progress['host']}"
    heard = f", last heard {clock(now - progress['updated'])} ago" if run.state in ("running", "silent") else ""
    return f"{run.folder}{process} · began {began:%Y-%m-%d %H:%M:%S}{heard}"


def _stage(run: Run, name: str) -> str:
    if run.state == "running" and run.progress.get("stage") == name:
        return f"{name} …"
    record = run.stages.get(name)
    return f"{name} ✓ {clock(record['seconds'])}" if record else name


def _figures(run: Run) -> str:
    """Loss, rate and speed: of the step that the progress is at, else what the stage ended with."""
    now, end = run.progress, run.summary("train")
    if now.get("stage") == "train" and "loss" in now:
        figures = (now["loss"], now.get("tokens_per_s"), now.get("memory_bytes"))
    else:
        figures = (end.get("final_loss"), end.get("tokens_per_s"), end.get("peak_memory_bytes"))
    loss, speed, memory = figures
    rate = run.metric.get("learning_rate")
    norm = run.metric.get("grad_norm")
    told = [
        f"loss {loss:.4f}" if loss is not None else "",
        f"lr {rate:.2g}" if rate is not None else "",
        f"grad norm {norm:.3g}" if norm is not None else "",
        f"{speed:,.0f} tok/s" if speed is not None else "",
        size(memory) if memory is not None else "",
    ]
    return "  ".join(text for text in told if text)


def _validation(run: Run) -> str:
    if not run.validation or run.best_validation is None:
        return ""
    last, best = run.validation[-1], run.best_validation
    other = f"  (best: {best['loss']:.4f} at step {best['step']})" if best["step"] != last["step"] else ""
    return f"step {last['step']}  loss {last['loss']:.4f}  perplexity {last['perplexity']:.4g}{other}"


def _last_previews(run: Run) -> list[dict[str, Any]]:
    step = run.previews[-1]["step"] if run.previews else None
    return [preview for preview in run.previews if preview["step"] == step]


def _previews(run: Run) -> list[str]:
    return [f"step {one['step']}  {_short(one['prompt'], 40)} → {_short(one['answer'], WIDTH)}" for one in _last_previews(run)]


def _smoke(run: Run) -> str:
    transcript = run.summary("smoke").get("transcript")
    if not transcript:
        return ""
    return f"{sum(not entry['problems'] for entry in transcript)} of {len(transcript)} passed"


def _eval(run: Run) -> str:
    """The figures of the evaluation, as far as this config asks for one."""
    results = run.summary("eval").get("results") if run.config.get("eval") else None
    return "  ".join(f"{'✗ ' if result['problems'] else ''}{result['name']} {result['tuned']:.4g}" for result in results or ())


def _short(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
