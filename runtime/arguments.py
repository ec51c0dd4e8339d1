"""The config in the terms of transformers' TrainingArguments."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainingArguments

from runtime.config import Config, TrainConfig
from runtime.faults import WRONG, RunFault
from runtime.model import pick_device, require_bitsandbytes
from runtime.trackers import PROJECT


def training_arguments(train: TrainConfig, config: Config, out: Path, build: Path, *, validates: bool) -> TrainingArguments:
    """The config in transformers' terms. Also starts the process group, and DeepSpeed's hooks for ZeRO-3."""
    on_gpu = pick_device(config.hardware.device, setting="hardware.device").type == "cuda"
    if "8bit" in train.optimizer or "paged" in train.optimizer:
        require_bitsandbytes(f"train.optimizer: {train.optimizer}")
    if config.model.dtype == "float16" and not on_gpu:
        raise RunFault("SG432", "float16 trains only on a GPU", "write model.dtype: bfloat16 or float32", exit_code=WRONG)
    return TrainingArguments(
        output_dir=str(out),
        max_steps=train.total_steps,
        per_device_train_batch_size=train.micro_batch_size,
        per_device_eval_batch_size=train.micro_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(train.schedule, train.schedule),
        warmup_steps=train.warmup_steps,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        gradient_checkpointing=train.gradient_checkpointing,
        seed=train.seed,
        optim=train.optimizer,
        adam_beta1=train.adam_beta1,
        adam_beta2=train.adam_beta2,
        bf16=config.model.dtype == "bfloat16",
        fp16=config.model.dtype == "float16",
        use_cpu=not on_gpu,
        eval_strategy="epoch" if validates else "no",
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
        ddp_find_unused_parameters=False,
        deepspeed=str(build / "deepspeed.json") if config.distributed.zero_stage else None,
    )
