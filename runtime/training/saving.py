"""transformers' Trainer with checkpoints that are whole or absent, and with nothing empty in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState, TrainerControl, TrainerState

from runtime.faults import RunFault
from runtime.stages import write_json
from runtime.training import checkpoints
from runtime.training.contract import CONTRACT
from runtime.training.lean import LeanTrainer
from runtime.weights import shards


class SavingTrainer(LeanTrainer):
    """Trainer that writes a checkpoint aside, holds its weights against the model, adds `contract`, and puts it in place.

    `keep` checkpoints stay, all where it is None. With `keep_best` that of the lowest validation loss is one of them. With
    `new_settings` what a checkpoint brings for the optimizer is its state alone: rates and decay are those of today. What one
    process writes the others `wait` for.
    """

    def __init__(
        self,
        *,
        wait: Callable[[], None] | None = None,
        contract: Mapping[str, Any] | None = None,
        keep: int | None = None,
        keep_best: bool = False,
        new_settings: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.wait = wait or self.accelerator.wait_for_everyone
        self.contract, self.keep, self.keep_best, self.new_settings = contract or {}, keep, keep_best, new_settings
        self._aside: Path | None = None
        self._settings: list[dict[str, Any]] = []
        self.add_callback(Resumed())
        if keep_best:
            self.add_callback(SavesTheBest())

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As Trainer does; then the optimizer is still as the config says, before a checkpoint is loaded into it."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        self._settings = [{name: value for name, value in group.items() if name != "params"} for group in self.optimizer.param_groups]
        return scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.new_settings:
            self._set_anew()

    def _set_anew(self) -> None:
        """The settings of today in place of those that the checkpoint brought; the rates as the schedule has them at this step."""
        schedule = self.lr_scheduler
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if isinstance(schedule, LambdaLR):  # else the rate is state
            schedule.base_lrs = [settings["initial_lr"] for settings in self._settings]
            rates = [rate * factor(schedule.last_epoch) for rate, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
            schedule._last_lr = rates
        for group, settings, rate in zip(self.optimizer.param_groups, self._settings, rates, strict=True):
            group.update({**settings, "lr": rate})

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """As Trainer does. Random states are as before afterwards: how often is evaluated changes nothing."""
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            metrics: dict[str, float] = super().evaluate(*arguments, **options)
        return metrics

    def _get_output_dir(self, trial: Any) -> str:
        folder: str = super()._get_output_dir(trial)
        return folder if self._aside is None else str(self._aside)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Every process writes its part; the first one sees to the rest, and the others wait for it."""
        folder = Path(self.args.output_dir)
        name = f"checkpoint-{self.state.global_step}"
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):  # one that the checkpoint gone on from does not know
                self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())
        self._aside = folder / checkpoints.ASIDE
        super()._save_checkpoint(model, trial)
        self._aside = None
        # the folder is renamed, and once more when training is done: the best one is known by best_global_step
        self.state.best_model_checkpoint = None
        self.wait()
        if self.args.process_index == 0:
            written = folder / checkpoints.ASIDE / name
            self.state.save_to_json(str(written / TRAINER_STATE_NAME))
            self.require_whole(written)
            write_json(written / CONTRACT, self.contract)
            checkpoints.put_in_place(folder, name)
            if self.keep is not None:
                checkpoints.prune(folder, self.keep, self.state.best_global_step if self.keep_best else None)
        self.wait()

    def require_whole(self, folder: Path) -> None:
        """Raises RunFault where the weights that were saved there are fewer than the model has, or empty: what a model that is
        shared out among processes leaves when it is saved without being gathered."""
        saved = shapes(folder)
        names, tied = _names(self.accelerator.unwrap_model(self.model))
        missing = sorted(names - saved.keys() - tied)
        empty = sorted(name for name, shape in saved.items() if 0 in shape)
        if missing or empty:
            what = f"{len(missing)} of {len(names)} tensors are missing" if missing else f"{len(empty)} of {len(saved)} tensors are empty"
            hint = "leave distributed.deepspeed.zero_optimization as specgen derives it; distributed.zero_stage: 2 saves without gathering"
            raise RunFault("SG444", f"{what} in the weights saved at step {self.state.global_step}, {(missing or empty)[0]} first", hint)


class SavesTheBest(TrainerCallback):
    """Saves at every evaluation that is the best so far, beside what save_steps says: the best is always there."""

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **_: Any) -> None:
        """Saves where the loss is the lowest so far."""
        if state.best_metric is None or metrics["eval_loss"] < state.best_metric:
            control.should_save = True


class Resumed(TrainerCallback):
    """What a checkpoint brings of intervals and callbacks gives way to what the config says today."""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The intervals of logging, evaluating and saving are those of today's settings, not of the checkpoint."""
        state.compute_steps(args, state.max_steps)


def shapes(folder: Path) -> dict[str, list[int]]:
    """Tensor name → shape, of all weight files of a folder, whatever an index says of them."""
    return dict(shards.shapes({name: file for file in folder.glob("*.safetensors") for name in shards.names_in(file)}))


def _names(model: Any) -> tuple[set[str], set[str]]:
    """The tensors that a saved model has, and those that may be left out as others hold the same."""
    if isinstance(model, PeftModel):
        return set(get_peft_model_state_dict(model, save_embedding_layers=False)), set()
    return set(model.state_dict()), set(model.all_tied_weights_keys)
