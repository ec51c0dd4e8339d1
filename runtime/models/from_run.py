"""model.from_run: training begins with what an earlier run ended with, in place of the base model's own weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.config import HubBase, LocalBase, ModelConfig, PackageBase, to_plain
from runtime.faults import WRONG, RunFault
from runtime.stages import read_stage

CONFIG = "config.json"  # in a run folder: what it was made from, for specgen runs, too
SAME = ("base", "vision")
TAGS = (PackageBase.TAG, HubBase.TAG, LocalBase.TAG)
OWN = ("image_tokens", "pad_to_square")  # what the compiler counted, and may not have known then; what each stage may have its own way


def result_of(model: ModelConfig) -> Path:
    """The merged model of the earlier run, as it lies there. Raises RunFault where it is not there, not whole, or of another model."""
    run = _required(model)
    own = to_plain(model)
    before = _made_from(run)
    for key in SAME:
        if _compared(before.get(key)) != _compared(own[key]):
            message = f"model.{key} is another one than that of the run in {run}, which model.from_run goes on from"
            raise RunFault("SG407", message, f"write the model.{key} of that run's spec", exit_code=WRONG)
    return run / "merge"


def identity_of_run(model: ModelConfig) -> dict[str, object]:
    """What tells one result of the earlier run from another; part of stages' keys."""
    return {"merge": read_stage(_required(model), "merge")["key"]}


def _required(model: ModelConfig) -> Path:
    assert model.from_run is not None
    run = Path(model.from_run)
    if not run.is_dir():
        message = f"model.from_run is {model.from_run}, and there is no such folder (looked in {Path.cwd()})"
        raise RunFault("SG407", message, "run that spec first: specgen run SPEC", exit_code=WRONG)
    if not read_stage(run, "merge").get("key") or not (run / CONFIG).is_file():
        message = f"model.from_run is {model.from_run}, and there is no finished model in it"
        raise RunFault("SG407", message, "run that spec to its end: specgen run SPEC", exit_code=WRONG)
    return run


def _made_from(run: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((run / CONFIG).read_text(encoding="utf-8"))["model"]
    except (ValueError, KeyError, TypeError):
        raise RunFault("SG407", f"{run / CONFIG} does not say what that run was made from", "run it again", exit_code=WRONG) from None
    return found


def _compared(part: Any) -> Any:
    """Without what may differ, and without the names of variants."""
    if not isinstance(part, dict):
        return part
    if len(part) == 1 and (tag := next(iter(part))) in TAGS:
        return _compared(part[tag])
    return {key: _compared(value) for key, value in part.items() if key not in OWN}
