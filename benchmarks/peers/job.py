"""What a peer is asked to do, and how its steps are timed. Imported by the scripts beside it, in the peer's own environment.

A job is JSON: `base` and `out` (folders), `rows` (a JSON file of conversations), `steps`, `batch_size`, `learning_rate`, `dtype`, `pack`
(tokens of a pack, or null), `nf4` (whether the base is quantized), `checkpointing` (of gradients; null leaves it to the peer), `best`
(whether the loop does all that is known), `on_gpu`, `timings` (the file for the steps) and `is_whole` (whether the adapter is merged,
the merged model written, and one question answered).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

QUESTION = "Who are you?"
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def asked() -> dict[str, Any]:
    """The job that the command line names."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return job


def rows_of(job: dict[str, Any]) -> list[list[dict[str, str]]]:
    """The conversations, as lists of messages."""
    rows: list[list[dict[str, str]]] = json.loads(Path(job["rows"]).read_text(encoding="utf-8"))
    return rows


class Clock:
    """Seconds and real tokens of each step."""

    def __init__(self, file: str) -> None:
        self.file, self.steps, self.tokens, self.began = Path(file), list[dict[str, float]](), 0, time.perf_counter()

    def count(self, batch: Any) -> None:
        """Adds the real tokens of a batch to those of the step."""
        mask = batch.get("attention_mask")
        is_rows = mask is not None and mask.dim() == 2
        self.tokens += int(mask.sum()) if is_rows else batch["input_ids"].numel()

    def begin(self) -> None:
        """Before the first step."""
        self.began = time.perf_counter()

    def end(self) -> None:
        """After each step."""
        now = time.perf_counter()
        self.steps.append({"seconds": now - self.began, "tokens": self.tokens})
        self.tokens, self.began = 0, now

    def write(self) -> None:
        """After the last one."""
        self.file.write_text(json.dumps(self.steps), encoding="utf-8")


def time_trainers(file: str) -> None:
    """Has every Trainer of transformers that is made from now on timed."""
    from transformers import Trainer, TrainerCallback, trainer

    clock, plain = Clock(file), Trainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        clock.count(inputs)
        return plain(self, model, inputs, *rest, **named)

    class Timed(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.end()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.write()

    Trainer.training_step = training_step
    trainer.DEFAULT_CALLBACKS.append(Timed)


def merged_and_answered(model: Any, tokenizer: Any, out: str) -> None:
    """Merges the adapter into the model, writes it, and has it answer one question."""
    model = model.merge_and_unload()
    model.save_pretrained(f"{out}/merged")
    tokenizer.save_pretrained(f"{out}/merged")
    model.eval()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    ids = model.generate(**prompt, max_new_tokens=48, do_sample=False)
    print("answer:", tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
