"""A job done by a plain PyTorch loop; with `best` in the job, by one with everything that is known to help: the output layer on trained
positions only, no casts of every input, eager attention for short rows (and tcmalloc, which the caller preloads)."""

import contextlib
from typing import Any

import torch
from job import LORA, Clock, asked, merged_and_answered, rows_of
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from peft.helpers import disable_input_dtype_casting
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, get_cosine_schedule_with_warmup

job = asked()
is_best = job["best"]
tokenizer = AutoTokenizer.from_pretrained(job["base"])
dtype = getattr(torch, job["dtype"])


def tokenized(row: list[dict[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels [T]: only the last message has a loss."""
    whole = tokenizer.apply_chat_template(row, return_dict=True)["input_ids"]
    before = tokenizer.apply_chat_template(row[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    return torch.tensor(whole), torch.tensor([-100] * len(before) + whole[len(before) :])


def padded(batch: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Rows [T] of ids and labels as a batch [B, T], padded at the right; labels there are -100."""
    ids, labels = zip(*batch, strict=True)
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones_like(each) for each in ids], batch_first=True)
    return {"input_ids": pad(ids, batch_first=True), "labels": pad(labels, batch_first=True, padding_value=-100), "attention_mask": mask}


def loss_of(batch: dict[str, torch.Tensor]) -> Any:
    """The mean loss of a batch: transformers' own, or with `is_best` the output layer at trained positions alone."""
    if not is_best:
        return model(**batch, use_cache=False).loss
    labels = functional.pad(batch["labels"], (0, 1), value=-100)[:, 1:]
    inner = model.get_base_model()
    hidden = inner.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).last_hidden_state
    return functional.cross_entropy(inner.lm_head(hidden[labels != -100]).float(), labels[labels != -100])


torch.manual_seed(42)
quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=job["dtype"]) if job["nf4"] else None
attention = {"attn_implementation": "eager"} if is_best else {}
base = AutoModelForCausalLM.from_pretrained(job["base"], dtype=dtype, quantization_config=quantization, **attention)
if quantization:
    base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
model = get_peft_model(base, LoraConfig(**LORA)).train()
for weight in model.parameters():
    if weight.requires_grad:
        weight.data = weight.data.float()
rows = [tokenized(row) for row in rows_of(job)]
loader = torch.utils.data.DataLoader(rows, batch_size=job["batch_size"], shuffle=True, collate_fn=padded)
weights = [weight for weight in model.parameters() if weight.requires_grad]
optimizer = torch.optim.AdamW(weights, lr=job["learning_rate"], weight_decay=0.0)
schedule = get_cosine_schedule_with_warmup(optimizer, 2, job["steps"])
clock, step = Clock(job["timings"]), 0
casts = disable_input_dtype_casting(model) if is_best else contextlib.nullcontext()
clock.begin()
with casts:
    while step < job["steps"]:
        for batch in loader:
            clock.count(batch)
            with torch.autocast("cpu", torch.bfloat16, enabled=job["dtype"] == "bfloat16"):
                loss = loss_of(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            loss.item()
            clock.end()
            step += 1
            if step == job["steps"]:
                break
clock.write()
if job["is_whole"]:
    model.save_pretrained(job["out"])
    merged_and_answered(model, tokenizer, job["out"])
