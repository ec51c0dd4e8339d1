"""The same steps cut in several ways: a plain loop over whole batches, and the runtime's trainer on one process or many.

python -m tests.invariants.trajectory --write                                      writes trajectory.json anew, by the plain loop
torchrun --nproc-per-node 2 -m tests.invariants.trajectory --stage 2 --out FILE    trains on two processes, in every way of CUTS
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate.data_loader import SeedableRandomSampler
from accelerate.state import AcceleratorState, GradientState, PartialState
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback, TrainingArguments

from runtime.data.dataset import collate
from runtime.starting import leave
from runtime.training.trainer import SpanTrainer

COMMITTED = Path(__file__).with_suffix(".json")
BATCH, STEPS, ROWS, HELD_OUT, SEED, RATE = 8, 6, 20, 7, 5, 5.0e-3  # an epoch is of 8, 8 and 4 rows
KINDS = ("even", "weighted", "lora", "lora on the output layer")
CUTS = ((4, 1), (2, 2))  # on two processes: rows of a micro batch, and how many of them make a step


def model_of(kind):
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=97, tie_word_embeddings=False, pad_token_id=0, **sizes))
    if "lora" not in kind:
        return model
    targets = "all-linear" if kind == "lora" else ["q_proj", "down_proj", "lm_head"]
    return get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))


def rows_of(kind):
    """Rows of 6 to 40 tokens, of which 1 to all but one are trained; weighted ones count from nothing to three times each."""
    chance = np.random.default_rng(0)
    rows = []
    for index in range(ROWS):
        length = int(chance.integers(6, 41))
        trained = np.zeros(length, np.uint8)
        trained[-1 if index % 4 == 0 else int(chance.integers(1, length)) :] = 1
        row = {"input_ids": chance.integers(1, 97, length, dtype=np.int32), "trained": trained}
        if kind == "weighted":
            row["weights"] = (trained * chance.choice([0.0, 0.5, 1.0, 3.0], length)).astype(np.float32)
        rows.append(row)
    return rows


def plain(kind):
    """Losses and norms of gradients of a loop over whole batches: transformers' model, PyTorch's cross entropy of all logits, AdamW."""
    model, rows = model_of(kind), rows_of(kind)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    sampler, found = SeedableRandomSampler(rows, generator=torch.Generator(), data_seed=SEED), []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        for start in range(0, ROWS, BATCH):
            loss = plain_loss(model, [rows[index] for index in order[start : start + BATCH]])
            optimizer.zero_grad()
            loss.backward()
            found.append({"loss": loss.item(), "grad_norm": float(torch.nn.utils.clip_grad_norm_(trained, 1.0))})
            optimizer.step()
    with torch.no_grad():
        return [*found, {"validation_loss": plain_loss(model, rows[:HELD_OUT]).item()}]


def plain_loss(model, rows):
    """Of one batch: the mean over its trained tokens, as they count."""
    batch = collate(rows, pad_id=0)
    logits_BTV = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    losses_BT = functional.cross_entropy(logits_BTV[:, :-1].transpose(1, 2), batch["labels"][:, 1:], reduction="none")
    weights_BT = batch.get("weights", (batch["labels"] != -100).float())[:, 1:]
    return (losses_BT * weights_BT).sum() / weights_BT.sum()


class Logs(TrainerCallback):
    def __init__(self):
        self.found, self.trainer, self.tokens = [], None, 0

    def on_log(self, args, state, control, logs, **_):
        if "grad_norm" in logs:
            self.tokens += int(self.trainer.counts[0])
            self.found.append({"loss": logs["loss"], "grad_norm": float(logs["grad_norm"])})


def trained(kind, *, micro, accumulation, stage=0):
    """The same by the runtime's trainer, on as many processes as there are; (what it logged, what else is to be known)."""
    for state in (AcceleratorState, GradientState):
        state._reset_state()
    config = {
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": 1.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage},
    }
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=micro, per_device_eval_batch_size=3, gradient_accumulation_steps=accumulation,
            max_steps=STEPS, learning_rate=RATE, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, seed=SEED,
            logging_steps=1, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, remove_unused_columns=False,
            optim="adamw_torch", ddp_find_unused_parameters=False, deepspeed=config if stage else None,
        )  # fmt: skip
        logs, rows = Logs(), rows_of(kind)
        trainer = SpanTrainer(
            model=model_of(kind), args=arguments, train_dataset=rows, eval_dataset=rows[:HELD_OUT], callbacks=[logs],
            data_collator=partial(collate, pad_id=0),
        )  # fmt: skip
        logs.trainer = trainer
        trainer.train()
        logs.found.append({"validation_loss": trainer.evaluate()["eval_loss"]})
    return logs.found, {"whole_because": trainer.output_loss.whole_because, "tokens": logs.tokens}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--stage", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.write:
        COMMITTED.write_text(json.dumps({kind: plain(kind) for kind in KINDS}, indent=1) + "\n")
        return
    found = {}
    for kind in KINDS:
        for micro, accumulation in CUTS:
            found[f"{kind}, {micro} x {accumulation}"] = trained(kind, micro=micro, accumulation=accumulation, stage=options.stage)
    if PartialState().process_index == 0:
        options.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
    leave(0)
