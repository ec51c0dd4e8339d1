"""Training: transformers' Trainer, on one process or many, with or without DeepSpeed."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from transformers import PrinterCallback, Trainer, TrainingArguments

from runtime import checkpoints, console
from runtime.config import Config, TrainConfig
from runtime.console import training_bar
from runtime.data.dataset import collate, load_rows
from runtime.faults import WRONG, Interrupted, RunFault
from runtime.generate import Generator
from runtime.isolation import prove_apart
from runtime.loss import total_weight, trained_positions_loss
from runtime.model import load_model, load_tokenizer, pick_device, require_bitsandbytes
from runtime.sampling import ByLength
from runtime.text_format import row_format
from runtime.trainable import autocasts, prepared, weights_dtype
from runtime.watch import Watch, previous_metrics, previous_validation, stop_on_interrupt

FINAL = "final"


def train(config: Config, folder: Path, out: Path, *, build: Path) -> dict[str, Any]:
    """Trains in `out`, from the newest whole checkpoint there if any; leaves the adapter, or the whole model, in `out/final`.

    Returns figures for the manifest. Raises Interrupted on Ctrl-C, with a checkpoint written.
    """
    rows, held_out = load_rows(folder / "data")
    arguments = training_arguments(config.train, config, out, build, validates=len(held_out) > 0)
    is_main = arguments.process_index == 0
    if config.distributed.zero_stage:
        import deepspeed

        deepspeed.init_distributed()  # ZeRO-3 asks for the number of processes while the model is loaded
    tokenizer = load_tokenizer(config.model, config.template)
    base = load_model(config.model, device=arguments.device, longest=rows.longest, dtype=weights_dtype(config))
    model = prepared(config, base)
    form = row_format(tokenizer, config, system=config.chat.system)
    chosen: str = base.config._attn_implementation  # auto leaves it to transformers, model by model
    collator = functools.partial(collate, pad_id=int(tokenizer.pad_token_id), flat=chosen == "flash_attention_2")
    resume = checkpoints.newest_whole(out, lambda text: console.say("train", text) if is_main else None)
    if resume and is_main:
        console.say("train", f"goes on from {resume.name}")
        checkpoints.remove_newer(out, resume)
    before = previous_metrics(out, resume)
    assert config.train.total_steps is not None, "the data stage's figures settle it"
    with training_bar(config.train.total_steps, shown=is_main) as bar, stop_on_interrupt(arguments.world_size) as stop:
        trainer = SpanTrainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=held_out if len(held_out) else None,
            data_collator=collator,
            callbacks=[],
            by_length=config.train.group_by_length,
        )
        watch = Watch(config, trainer, bar, out, Generator(tokenizer, form, config.chat), stop, before, previous_validation(out, resume))
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watch)
        # under autocast peft's own casts of every input to float32 and back cost an eighth of a step, and memory
        is_adapter = isinstance(model, PeftModel)
        with disable_input_dtype_casting(model, active=autocasts(config)) if is_adapter else contextlib.nullcontext():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if stop.requested:
        raise Interrupted
    trainer.save_model(str(out / FINAL))
    return watch.summary(len(rows)) | {
        "attention": chosen,
        "device": str(arguments.device),
        "packed_difference": trainer.packed_difference,
    }


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
        save_total_limit=None,  # old checkpoints go when the new one is sealed: see Watch.on_save
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
        deepspeed=str(build / "deepspeed.json") if config.distributed.zero_stage else None,
    )


class SpanTrainer(Trainer):
    """Trainer with the loss over trained positions, normalised by their number, or by their weights together, over the whole
    optimizer step.

    With `by_length` rows of like length are in a batch: the training data are Rows then, not Packs. With Packs,
    `packed_difference` tells how well the model keeps rows apart (isolation.py); None if nothing was packed.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *, by_length: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.by_length = by_length
        self.packed_difference: float | None = None
        self.model_accepts_loss_kwargs = True  # makes Trainer count the labels of all micro batches and processes
        self.tokens_seen = 0

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        if not self.by_length:
            sampler: torch.utils.data.Sampler[int] | None = super()._get_train_sampler(train_dataset)
            return sampler
        batch_size = self._train_batch_size * self.args.gradient_accumulation_steps
        return ByLength(self.train_dataset.lengths, batch_size, seed=self.args.seed)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | int | None:
        """What the summed losses of a whole optimizer step are divided by; Trainer's own counts labels."""
        if not batch_samples or "weights" not in batch_samples[0]:
            count: torch.Tensor | int | None = super()._get_num_items_in_batch(batch_samples, device)
            return count
        total = torch.stack([total_weight(batch) for batch in batch_samples]).sum().to(device)
        return self.accelerator.gather(total).sum() if self.args.world_size > 1 else total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        plain = self.accelerator.unwrap_model(self.model)
        if "position_ids" in inputs and self.packed_difference is None:
            self.packed_difference = prove_apart(model, plain.config._attn_implementation)
        output_layer = plain.get_output_embeddings()
        summed = trained_positions_loss(model, output_layer, inputs)
        if num_items_in_batch is None:
            total = total_weight(inputs)
            loss = summed / torch.where(total > 0, total, 1)
        else:
            # gradients are averaged over processes, and the count is over all of them
            loss = summed / num_items_in_batch * self.accelerator.num_processes
            self.tokens_seen += int(inputs["tokens"].sum()) if model.training else 0
        return (loss, {"loss": loss}) if return_outputs else loss
