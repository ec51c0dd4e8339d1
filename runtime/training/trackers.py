"""Trackers that get the metrics, too: transformers' own integrations, fed by the first process.

Keys, addresses and modes come from the environment, as each tracker names them (WANDB_MODE=offline, SWANLAB_MODE=local, …). What a
tracker keeps on this machine lies in the run folder, below logs/.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import TrainerControl, TrainerState

from runtime.console import TrainingBar
from runtime.faults import RunFault

LOGS = "logs"
PROJECT = "specgen"  # where the environment names none
RUN_ID = "tracker_run"  # a file beside the checkpoints: training that goes on is the same run to the tracker
OFFLINE = {
    "wandb": "set WANDB_API_KEY, or WANDB_MODE=offline",
    "swanlab": "set SWANLAB_API_KEY, or SWANLAB_MODE=local",
    "mlflow": "set MLFLOW_TRACKING_URI to a server that answers, or leave it out",
}


def prepare(names: Sequence[str], folder: Path, out: Path, *, resumed: bool) -> None:
    """Tells the trackers by their environment variables where to keep what, and to which run it belongs. What is set stays."""
    for name in names:
        (folder / LOGS / name).mkdir(parents=True, exist_ok=True)
    logs = (folder / LOGS).absolute()
    again = {"RUN_ID": _run_id(out / RUN_ID, resumed=resumed), "RESUME": "allow", "PROJECT": PROJECT}
    variables: dict[str, dict[str, object]] = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": logs / "tensorboard"},
        "wandb": {"WANDB_DIR": logs / "wandb", "WANDB_SILENT": "true"} | {f"WANDB_{name}": value for name, value in again.items()},
        "mlflow": {
            "MLFLOW_TRACKING_URI": (logs / "mlflow").as_uri(),
            "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3 wants to be asked for plain files
            "MLFLOW_EXPERIMENT_NAME": PROJECT,
        },
        "trackio": {"TRACKIO_DIR": logs / "trackio"},
        "swanlab": {"SWANLAB_LOG_DIR": logs / "swanlab"} | {f"SWANLAB_{name}": value for name, value in again.items()},
    }
    for name in names:
        for variable, value in variables[name].items():
            os.environ.setdefault(variable, str(value))


def _run_id(file: Path, *, resumed: bool) -> str:
    """21 letters and digits, as SwanLab wants them: those of the training that goes on, else new ones."""
    if not (resumed and file.exists()):
        file.write_text(secrets.token_hex(11)[:21])
    return file.read_text()


class Trackers(TrainerCallback):
    """Passes what happens on to the trackers. One that cannot start is a fault; one that fails later is told, and left."""

    def __init__(self, names: Sequence[str], bar: TrainingBar) -> None:
        self.bar = bar
        self.trackers = {name: kind() for name, kind in zip(names, get_reporting_integration_callbacks(list(names)), strict=True)}

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Raises RunFault where a tracker cannot start."""
        for name, tracker in self.trackers.items():
            try:
                tracker.on_train_begin(args, state, control, **given)
            except Exception as error:
                raise RunFault("SG465", f"{name} cannot start: {_said(error)}", OFFLINE.get(name)) from None

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Passes the figures on."""
        self.pass_on("on_log", args, state, control, **given)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Passes it on."""
        self.pass_on("on_save", args, state, control, **given)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Passes it on: trackers finish their runs."""
        self.pass_on("on_train_end", args, state, control, **given)

    def pass_on(self, event: str, *arguments: Any, **given: Any) -> None:
        """One event to all trackers: training is worth more than its log."""
        for name, tracker in list(self.trackers.items()):
            try:
                getattr(tracker, event)(*arguments, **given)
            except Exception as error:
                del self.trackers[name]
                self.bar.note("train", f"{name} fails, and gets no more figures: {_said(error)}")


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
