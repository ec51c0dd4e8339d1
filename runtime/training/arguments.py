"""The config in the terms of transformers' TrainingArguments."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from transformers import TrainingArguments

from runtime.config import Config
from runtime.devices import pick_device
from runtime.faults import WRONG, RunFault
from runtime.training.optimizers import optim_args_text, require_optimizer
from runtime.training.trackers import PROJECT

LOOKING = 4  # processes that make pixel values of pictures while a GPU computes: some 10 ms each
LEAST_TIMEOUT_S = 1800  # of the libraries' own exchanges; what answers sooner is the supervisor, who knows which process hangs


def training_arguments(config: Config, out: Path, build: Path, *, validates: bool) -> TrainingArguments:
    """The config in transformers' terms. Also starts the process group, and DeepSpeed's hooks for ZeRO-3."""
    train = config.train
    on_gpu = pick_device(config.hardware.device, setting="hardware.device").type == "cuda"
    _require_fit(config, on_gpu=on_gpu, validates=validates)
    return TrainingArguments(
        output_dir=str(out),
        max_steps=train.total_steps,
        per_device_train_batch_size=train.micro_batch_size,
        per_device_eval_batch_size=train.micro_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.schedule,
        lr_scheduler_kwargs=dict(train.lr_scheduler_kwargs),
        warmup_steps=train.warmup_steps,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        gradient_checkpointing=train.gradient_checkpointing,
        seed=train.seed,
        optim=train.optimizer,
        optim_args=optim_args_text(train.optim_args),
        optim_target_modules=list(train.optim_target_modules) or None,
        adam_beta1=train.adam_beta1,
        adam_beta2=train.adam_beta2,
        adam_epsilon=train.adam_epsilon,
        neftune_noise_alpha=train.neftune_noise_alpha,
        label_smoothing_factor=train.label_smoothing_factor,  # loss.py smooths
        torch_compile=train.torch_compile,
        use_liger_kernel=train.use_liger_kernel,
        bf16=config.model.dtype == "bfloat16",
        fp16=config.model.dtype == "float16",
        use_cpu=not on_gpu,
        eval_strategy="steps" if validates else "no",  # before the checkpoint of the same step, which then knows the loss
        eval_steps=train.eval_steps or train.steps_per_epoch,
        metric_for_best_model="loss" if validates else None,
        greater_is_better=False if validates else None,
        restore_callback_states_from_checkpoint=True,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=train.save_steps,
        save_total_limit=None,  # old checkpoints go when the new one is sealed: see saving.py
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],  # trackers are fed by the first process alone: see trackers.py
        run_name=config.name,
        project=PROJECT,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        dataloader_num_workers=LOOKING if on_gpu and config.model.vision is not None else 0,
        ddp_find_unused_parameters=False,
        ddp_timeout=max(LEAST_TIMEOUT_S, config.distributed.ddp_timeout),
        deepspeed=str(build / "deepspeed.json") if config.distributed.zero_stage else None,
    )


def _require_fit(config: Config, *, on_gpu: bool, validates: bool) -> None:
    """Raises RunFault for settings that this machine, or these rows, cannot do."""
    train = config.train
    require_optimizer(train.optimizer, on_gpu=on_gpu)
    if train.use_liger_kernel:
        _require_liger(on_gpu=on_gpu)
    if config.model.dtype == "float16" and not on_gpu:
        raise RunFault("SG432", "float16 trains only on a GPU", "write model.dtype: bfloat16 or float32", exit_code=WRONG)
    if train.schedule == "reduce_lr_on_plateau" and not validates:
        message = "train.schedule is reduce_lr_on_plateau, and no rows are held out whose loss could tell"
        raise RunFault("SG613", message, "give data.validation more rows", exit_code=WRONG)


def _require_liger(*, on_gpu: bool) -> None:
    if not on_gpu:
        raise RunFault("SG437", "train.use_liger_kernel needs a GPU", "write use_liger_kernel: false", exit_code=WRONG)
    if importlib.util.find_spec("liger_kernel") is None:
        message = "train.use_liger_kernel needs the package liger_kernel, which is not installed"
        raise RunFault("SG437", message, "pip install liger-kernel", exit_code=WRONG)
