"""Sample answers while training, with the chat settings of the spec."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runtime import console
from runtime.config import Config, PreviewConfig
from runtime.console import TrainingBar
from runtime.generation.generate import Generator
from runtime.models.model import torch_dtype
from runtime.training.metrics import read_lines
from runtime.training.trainable import autocasts

if TYPE_CHECKING:
    from runtime.training.trainer import SpanTrainer

FILE = "previews.jsonl"


class Previews:
    """Asks the prompts of the config, and keeps the answers in previews.jsonl."""

    def __init__(self, config: Config, trainer: SpanTrainer, bar: TrainingBar, out: Path, generator: Generator) -> None:
        self.config, self.trainer, self.bar, self.out, self.generator = config, trainer, bar, out, generator
        self.is_main = trainer.args.process_index == 0

    def begin(self) -> None:
        """Forgets the answers of an earlier run, and asks for the first time."""
        if self.is_main:
            (self.out / FILE).unlink(missing_ok=True)
        self.show(0)

    def go_on(self, step: int) -> None:
        """Forgets what was answered after this step, from which training goes on: it is asked again. A line that was cut off when
        the last process ended goes, too, or the next one would be joined to it."""
        if self.is_main and (self.out / FILE).exists():
            kept = [line for line in read_lines(self.out / FILE) if line["step"] <= step]
            (self.out / FILE).write_text("".join(map(_line, kept)), encoding="utf-8")

    def is_due(self, step: int) -> bool:
        """Whether answers are asked for after this step, while training goes on; at its end they always are."""
        preview = self.config.train.preview
        return preview is not None and step % preview.every == 0

    def show(self, step: int) -> None:
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
        with (self.out / FILE).open("a", encoding="utf-8") as stream:
            for prompt in preview.prompts:
                asked = [{"role": "user", "content": prompt}]
                answer = self.generator.answer(model, asked, max_new_tokens=preview.max_new_tokens).text
                stream.write(_line({"step": step, "prompt": prompt, "answer": answer}))
                stream.flush()
                self.bar.note("", f"step {step:<4} {console.one_line(prompt, 40)} → {console.one_line(answer, 80)}")


def _line(preview: dict[str, Any]) -> str:
    return json.dumps(preview, ensure_ascii=False) + "\n"
