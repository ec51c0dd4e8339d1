"""Training: transformers' Trainer with peft's LoRA, on one process or many, with or without DeepSpeed."""

from __future__ import annotations

import functools
import json
import math
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.helpers import disable_input_dtype_casting
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from runtime import checkpoints, console
from runtime.chat_template import ChatFormat
from runtime.config import Config, PreviewConfig, TrainConfig
from runtime.console import TrainingBar, training_bar
from runtime.data.dataset import collate, load_rows
from runtime.faults import WRONG, Interrupted, RunFault
from runtime.generate import Generator
from runtime.loss import trained_positions_loss
from runtime.model import attention, load_model, load_tokenizer, torch_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FINAL = "final"
METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
PREVIEWS = "previews.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One optimizer step. `tokens` are real ones, over all processes; `seconds` are of this step."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float


def train(config: Config, folder: Path, out: Path, *, build: Path) -> dict[str, Any]:
    """Trains the adapter in `out`, from the newest whole checkpoint there if any; leaves it in `out/final`.

    Returns figures for the manifest. Raises Interrupted on Ctrl-C, with a checkpoint written.
    """
    rows, held_out = load_rows(folder / "data")
    arguments = training_arguments(config.train, config, out, build, validates=len(held_out) > 0)
    is_main = arguments.process_index == 0
    if config.distributed.zero_stage:
        import deepspeed

        deepspeed.init_distributed()  # ZeRO-3 asks for the number of processes while the model is loaded
    tokenizer = load_tokenizer(config.model, config.template)
    model = adapted(config, load_model(config.model, device=arguments.device, longest=rows.longest))
    chat_format = ChatFormat(tokenizer, system=config.chat.system)
    resume = checkpoints.newest_whole(out, lambda text: console.say("train", text) if is_main else None)
    if resume and is_main:
        console.say("train", f"goes on from {resume.name}")
        checkpoints.remove_newer(out, resume)
    before = previous_metrics(out, resume)
    with training_bar(config.train.total_steps, shown=is_main) as bar, stop_on_interrupt(arguments.world_size) as stop:
        trainer = SpanTrainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=held_out if len(held_out) else None,
            data_collator=functools.partial(collate, pad_id=int(tokenizer.pad_token_id)),
            callbacks=[],
        )
        watch = Watch(
            config, trainer, bar, out, Generator(tokenizer, chat_format, config.chat), stop, before, previous_validation(out, resume)
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watch)
        # under autocast peft's own casts of every input to float32 and back cost an eighth of a step, and memory
        with disable_input_dtype_casting(model, active=autocasts(config)):
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if stop.requested:
        raise Interrupted
    trainer.save_model(str(out / FINAL))
    return watch.summary(len(rows)) | {
        "attention": attention(config.model.attention, longest=rows.longest),
        "device": str(arguments.device),
    }


def training_arguments(train: TrainConfig, config: Config, out: Path, build: Path, *, validates: bool) -> TrainingArguments:
    """The config in transformers' terms. Also starts the process group, and DeepSpeed's hooks for ZeRO-3."""
    on_gpu = torch.cuda.is_available()
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
        optim="adamw_torch",
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


def autocasts(config: Config) -> bool:
    """Whether the arithmetic is in 16 bits by autocast; DeepSpeed casts the whole model instead."""
    return config.model.dtype != "float32" and not config.distributed.zero_stage


def adapted(config: Config, model: PreTrainedModel) -> PeftModel:
    """The base model with a fresh LoRA adapter. Raises RunFault where a target names no module."""
    lora = config.adapter
    targets: str | list[str] = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    names = [name for name, _ in model.named_modules()]
    for target in targets if isinstance(targets, list) else []:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise RunFault("SG241", f"the target {target} matches 0 modules of the base model", exit_code=WRONG)
    if config.model.quantization is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=config.train.gradient_checkpointing)
    elif config.train.gradient_checkpointing:
        model.enable_input_require_grads()
    torch.manual_seed(config.train.seed)
    settings = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM")
    return get_peft_model(model, settings)


class SpanTrainer(Trainer):
    """Trainer with the loss over trained positions, normalised by their number over the whole optimizer step."""

    loss_is_scaled_for_ga = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.model_accepts_loss_kwargs = True  # makes Trainer count the labels of all micro batches and processes
        self.tokens_seen = 0

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        output_layer = self.accelerator.unwrap_model(self.model).get_output_embeddings()
        summed = trained_positions_loss(model, output_layer, inputs)
        if num_items_in_batch is None:
            loss = summed / (inputs["labels"][:, 1:] != -100).sum().clamp(min=1)
        else:
            # gradients are averaged over processes, and the count is over all of them
            loss = summed / num_items_in_batch * self.accelerator.num_processes
            self.tokens_seen += int(inputs["attention_mask"].sum())
        return (loss, {"loss": loss}) if return_outputs else loss


class StopFlag:
    """Set by the first Ctrl-C; a second one ends the process at once."""

    requested = False


@contextmanager
def stop_on_interrupt(world_size: int) -> Iterator[StopFlag]:
    """Within this, Ctrl-C asks training to stop after the step that runs. Several processes could disagree on which step
    that is: they stop at once, and go on from their last checkpoint."""
    stop = StopFlag()
    if world_size > 1:
        yield stop
        return

    def request(_signal: int, _frame: object) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class Watch(TrainerCallback):
    """Bar, metrics, previews, checkpoint seals and the stop flag."""

    def __init__(
        self,
        config: Config,
        trainer: SpanTrainer,
        bar: TrainingBar,
        out: Path,
        generator: Generator,
        stop: StopFlag,
        before: list[Metric],
        validation_before: list[tuple[int, float]],
    ) -> None:
        self.config, self.trainer, self.bar, self.out, self.generator, self.stop = config, trainer, bar, out, generator, stop
        self.metrics = before
        self.validation = validation_before
        self.is_main = trainer.args.process_index == 0
        self.step_started = time.monotonic()
        self.tokens_before = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.is_main:
            (self.out / VALIDATION).write_text("".join(json.dumps(point) + "\n" for point in self.validation))
            (self.out / METRICS).write_text("".join(json.dumps(asdict(metric)) + "\n" for metric in self.metrics))
        if state.global_step == 0:
            if self.is_main:
                (self.out / PREVIEWS).unlink(missing_ok=True)
            self.preview(0)
        self.step_started = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.stop.requested:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs:
            return
        if "eval_loss" in logs:
            self.validation.append((state.global_step, logs["eval_loss"]))
            if self.is_main:
                with (self.out / VALIDATION).open("a") as stream:
                    stream.write(json.dumps(self.validation[-1]) + "\n")
                self.bar.note("train", f"step {state.global_step}  validation loss {logs['eval_loss']:.4f}")
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            hint = "lower train.learning_rate; with float16, take bfloat16"
            raise RunFault("SG433", f"the loss is {logs['loss']} at step {state.global_step}", hint)
        now = time.monotonic()
        tokens = (self.trainer.tokens_seen - self.tokens_before) * args.world_size
        metric = Metric(
            step=state.global_step,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=float(logs.get("grad_norm") or 0.0),
            tokens=tokens,
            seconds=round(now - self.step_started, 4),
        )
        self.step_started, self.tokens_before = now, self.trainer.tokens_seen
        self.metrics.append(metric)
        if self.is_main:
            with (self.out / METRICS).open("a") as stream:
                stream.write(json.dumps(asdict(metric)) + "\n")
            self.bar.update(
                metric.step,
                loss=metric.loss,
                learning_rate=metric.learning_rate,
                tokens_per_s=metric.tokens / max(metric.seconds, 1e-9),
                memory_gb=peak_memory() / 1e9,
            )
        preview = self.config.train.preview
        if preview and (metric.step % preview.every == 0 or metric.step == state.max_steps):
            self.preview(metric.step)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer.accelerator.wait_for_everyone()
        if self.is_main:
            checkpoints.seal(self.out / f"checkpoint-{state.global_step}")
            checkpoints.prune(self.out, self.config.train.save_total_limit)
        self.step_started = time.monotonic()

    def preview(self, step: int) -> None:
        """Sample answers by the first process. Random states are as before afterwards."""
        preview = self.config.train.preview
        if preview is None:
            return
        with self.whole_model() as model:
            if self.is_main:
                was_training = model.training
                model.eval()
                dtype = torch_dtype(self.config.model.dtype)
                autocast = torch.autocast(model.device.type, dtype=dtype, enabled=autocasts(self.config))
                with torch.random.fork_rng(devices=range(torch.cuda.device_count())), autocast:
                    self.show_answers(model, preview, step)
                model.train(was_training)
        self.step_started = time.monotonic()

    @contextmanager
    def whole_model(self) -> Iterator[Any]:
        """The model as one process can use it; ZeRO-3 gathers its weights for that, and every process takes part."""
        if self.config.distributed.zero_stage == 3:
            from deepspeed.runtime.zero import unwrap_model_for_generation

            with unwrap_model_for_generation(self.trainer.model_wrapped) as engine:
                yield engine.module
        else:
            yield self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped)

    def show_answers(self, model: Any, preview: PreviewConfig, step: int) -> None:
        """Asks every prompt; writes the answers down and shows them above the bar."""
        with (self.out / PREVIEWS).open("a", encoding="utf-8") as stream:
            for prompt in preview.prompts:
                asked = [{"role": "user", "content": prompt}]
                answer = self.generator.answer(model, asked, max_new_tokens=preview.max_new_tokens).text
                stream.write(json.dumps({"step": step, "prompt": prompt, "answer": answer}, ensure_ascii=False) + "\n")
                self.bar.note("", f"step {step:<4} {console.one_line(prompt, 40)} → {console.one_line(answer, 80)}")

    def summary(self, rows: int) -> dict[str, Any]:
        """Figures of the whole run, over all its parts if it was interrupted."""
        seconds = sum(metric.seconds for metric in self.metrics)
        tokens = sum(metric.tokens for metric in self.metrics)
        return {
            "steps": self.metrics[-1].step if self.metrics else 0,
            "rows": rows,
            "final_loss": self.metrics[-1].loss if self.metrics else None,
            "validation_loss": self.validation,
            "tokens": tokens,
            "tokens_per_s": round(tokens / seconds) if seconds else None,
            "seconds_in_steps": round(seconds, 2),
            "peak_memory_bytes": peak_memory(),
            "world_size": self.trainer.args.world_size,
        }


def previous_metrics(out: Path, resume: Path | None) -> list[Metric]:
    """Metrics up to the checkpoint that training goes on from."""
    if resume is None or not (out / METRICS).exists():
        return []
    last = int(resume.name.rpartition("-")[2])
    metrics = [Metric(**json.loads(line)) for line in (out / METRICS).read_text().splitlines() if line.endswith("}")]
    return [metric for metric in metrics if metric.step <= last]


def previous_validation(out: Path, resume: Path | None) -> list[tuple[int, float]]:
    """Validation losses up to the checkpoint that training goes on from."""
    if resume is None or not (out / VALIDATION).exists():
        return []
    last = int(resume.name.rpartition("-")[2])
    points = [json.loads(line) for line in (out / VALIDATION).read_text().splitlines() if line.endswith("]")]
    return [(step, loss) for step, loss in points if step <= last]


def peak_memory() -> int:
    """Highest memory so far in bytes: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
