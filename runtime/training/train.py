"""Training: transformers' Trainer, on one process or many, with or without DeepSpeed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from peft.helpers import disable_input_dtype_casting
from transformers import PrinterCallback, TrainingArguments

from runtime import console, shortage
from runtime.arithmetic import told_if_slow
from runtime.config import Config, EarlyStoppingConfig
from runtime.console import training_bar
from runtime.data.dataset import Packs, Rows, load_rows
from runtime.generation.generate import generator_of
from runtime.models.model import torch_dtype
from runtime.processes.in_step import InStep
from runtime.processes.rank import beating
from runtime.processes.stopping import stop_on_request
from runtime.processes.together import Together
from runtime.training import checkpoints, contract, room, trackers, universal
from runtime.training import resume as resuming
from runtime.training.arguments import training_arguments
from runtime.training.attention import Attention
from runtime.training.early_stopping import EarlyStopping, is_over
from runtime.training.fused_lora import fused
from runtime.training.guard import Guard
from runtime.training.metrics import previous_metrics, previous_validation
from runtime.training.optimizers import require_resumable, trainer_options
from runtime.training.previews import Previews
from runtime.training.ready import Ready, made_ready
from runtime.training.trackers import Trackers
from runtime.training.trainable import autocasts
from runtime.training.trainer import SpanTrainer
from runtime.training.watch import Watch

FINAL = "final"


def train(config: Config, folder: Path, out: Path, *, build: Path) -> dict[str, Any]:
    """Trains in `out`, from the newest whole checkpoint there if any; leaves the adapter, or the whole model, in `out/final`.

    Returns figures for the manifest. Raises Interrupted on Ctrl-C, Preempted on SIGTERM and SIGUSR1, with a checkpoint written.
    """
    rows, held_out = load_rows(folder / "data")
    arguments = training_arguments(config, out, build, validates=len(held_out) > 0)
    is_main = arguments.process_index == 0
    if config.distributed.zero_stage:
        import deepspeed

        deepspeed.init_distributed()  # ZeRO-3 asks for the number of processes while the model is loaded
    ready = made_ready(config, rows, out, arguments.device)
    if is_main:
        _tell_how(ready.attention, torch_dtype(config.model.dtype), arguments.device)
    together = Together(config.distributed.ddp_timeout)
    resume, has_changed = _goes_on_from(out, config, arguments, together)
    assert config.train.total_steps is not None, "the data stage's figures settle it"
    beats = beating(arguments.process_index)
    with training_bar(config.train.total_steps, shown=is_main) as bar, stop_on_request() as stop, beats as pulse:
        saved = {"contract": contract.read(out), "new_settings": has_changed, "wait": together.wait}
        trainer = _trainer(config, arguments, ready, rows, held_out, **saved)
        previews = Previews(config, trainer, bar, out, generator_of(config, ready.tokenizer, config.chat))
        watch = Watch(config, trainer, bar, out, previews, stop, previous_metrics(out, resume), previous_validation(out, resume))
        trainer.add_callback(InStep(together, stop, pulse))
        trainer.add_callback(_guard(config, trainer, together, ready, watch))
        trainer.add_callback(watch)
        if config.train.early_stopping:
            trainer.add_callback(_early_stopping(config.train.early_stopping, arguments, watch, resume))
        if is_main and config.train.report_to:
            trackers.prepare(config.train.report_to, folder, out, resumed=resume is not None)
            trainer.add_callback(Trackers(config.train.report_to, bar))
        if is_main:
            room.told_if_scarce(ready.model, config, out)
        _carry_out(config, trainer, ready, out, resume)
    stop.carry_out()
    _save_result(trainer, out, best=config.train.load_best_model_at_end)
    return watch.summary(len(rows)) | _how_it_went(config, ready, trainer)


def _trainer(config: Config, arguments: TrainingArguments, ready: Ready, rows: Rows | Packs, held_out: Rows, **saved: Any) -> SpanTrainer:
    """The Trainer without its callbacks; `saved` is what it needs for its checkpoints (SavingTrainer)."""
    trainer = SpanTrainer(
        model=ready.model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=held_out if len(held_out) else None,
        data_collator=ready.collate,
        callbacks=[],
        by_length=config.train.group_by_length,
        keep=config.train.save_total_limit,
        keep_best=config.train.load_best_model_at_end,
        **trainer_options(config, arguments),
        **saved,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _guard(config: Config, trainer: SpanTrainer, together: Together, ready: Ready, watch: Watch) -> Guard:
    """Every process has one, as all of them stop; the first tells."""
    losses = [metric.loss for metric in watch.metrics]
    tell = functools.partial(watch.bar.note, "train") if watch.is_main else _silent
    return Guard(trainer, together, ready.tokenizer, spike=config.train.loss_spike, losses=losses, tell=tell)


def _early_stopping(config: EarlyStoppingConfig, arguments: TrainingArguments, watch: Watch, resume: Path | None) -> EarlyStopping:
    """Training that was over when it was interrupted takes no step more: `arguments` then end where it goes on from."""
    if resume and is_over(config, watch.validation):
        arguments.max_steps = checkpoints.step_of(resume)
    return EarlyStopping(config, watch.validation, watch.bar if watch.is_main else None)


def _carry_out(config: Config, trainer: SpanTrainer, ready: Ready, out: Path, resume: Path | None) -> None:
    """All steps. Raises RunFault for want of memory or disk space."""
    where = functools.partial(_where, trainer)
    shortages = shortage.told(out, where, changes=shortage.savings(config), discard=out / checkpoints.ASIDE)
    # under autocast peft's own casts of every input to float32 and back cost an eighth of a step, and memory
    casts = disable_input_dtype_casting(ready.model, active=autocasts(config))
    with shortages, casts, fused(ready.model, active=not config.train.torch_compile):
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)


def _how_it_went(config: Config, ready: Ready, trainer: SpanTrainer) -> dict[str, Any]:
    """What was chosen on the way, for the manifest."""
    return {
        "attention": ready.attention.name,
        "attention_reason": ready.attention.why,
        "device": str(trainer.args.device),
        "packed_difference": trainer.packed_difference if config.data.packing else None,
        "whole_logits_because": trainer.output_loss.whole_because if trainer.output_loss else None,
    }


def _tell_how(attention: Attention, dtype: torch.dtype, device: torch.device) -> None:
    console.say("train", f"attention {attention.name}: {attention.why}")
    told_if_slow(dtype, device)


def _where(trainer: SpanTrainer) -> str:
    step = f"at step {trainer.state.global_step + 1}"
    if not trainer.parts:
        return step
    rows = trainer.parts[-1][1]
    longest = max(map(len, rows))
    return f"{step}, on a micro batch [{len(rows)}, {longest}], whose longest row has {longest} tokens"


def _silent(_line: str) -> None:
    pass


def _goes_on_from(out: Path, config: Config, arguments: TrainingArguments, together: Together) -> tuple[Path | None, bool]:
    """The newest whole checkpoint, or what was made of it for this number of processes; and whether a change was accepted since.

    The first process looks for it, and tells the others: they would all read all of it. Raises RunFault where the optimizer cannot
    go on.
    """
    found: list[Any] = [None, False]
    if arguments.process_index == 0:
        tell = functools.partial(console.say, "train")
        checkpoints.clean(out, tell)
        universal.remove(out)
        if resume := checkpoints.newest_whole(out, tell):
            tell(f"goes on from {resume.name}")
            checkpoints.remove_newer(out, resume)
            changed = bool(resuming.accepted(out, resume))
            if config.distributed.zero_stage and universal.processes(contract.read(resume)) != arguments.world_size:
                resume = universal.made_of(resume)
            found = [resume.name, changed]
    together.wait()
    name, has_changed = broadcast_object_list(found)
    if name is None:
        return None, False
    require_resumable(config.train.optimizer, name)
    if name.startswith(universal.UNIVERSAL):
        arguments.deepspeed_plugin.deepspeed_config["checkpoint"] = {"load_universal": True}
    return out / name, has_changed


def _save_result(trainer: SpanTrainer, out: Path, *, best: bool) -> None:
    """Writes what was trained to `out/final`: the last weights, or with `best` those of the lowest validation loss."""
    is_main = trainer.args.process_index == 0
    if best and trainer.state.best_global_step:
        if is_main:
            checkpoint = out / f"checkpoint-{trainer.state.best_global_step}"
            checkpoints.take_weights(checkpoint, out / FINAL)
            console.say("train", f"the result is {checkpoint.name}: validation loss {trainer.state.best_metric:.4f}, the lowest")
    else:
        trainer.optimizer.eval()  # schedule-free: the mean of the weights that it tried, which validation has seen, too
        trainer.save_model(str(out / FINAL))
    if is_main:
        trainer.require_whole(out / FINAL)
        universal.remove(out)
