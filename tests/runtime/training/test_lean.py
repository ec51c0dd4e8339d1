"""runtime/training/lean.py: what is kept from step to step is what transformers' Trainer works out at each."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from runtime.training.lean import LeanTrainer


def trainers(folder):
    """transformers' and ours, of the same small model of which one layer is frozen."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4))
    model.model.layers[0].requires_grad_(False)
    arguments = TrainingArguments(str(folder), use_cpu=True, report_to=[], max_grad_norm=0.5)
    return [kind(model=model, args=arguments) for kind in (Trainer, LeanTrainer)]


def test_operations_are_counted_as_transformers_counts_them(tmp_path):
    plain, lean = trainers(tmp_path)
    for shape in ((2, 9), (1, 300)):
        inputs = {"input_ids": torch.zeros(shape, dtype=torch.long)}
        assert lean.floating_point_ops(inputs) == plain.floating_point_ops(inputs) > 0


def test_gradients_are_clipped_as_transformers_clips_them(tmp_path):
    plain, lean = trainers(tmp_path)
    ids = torch.arange(18).view(2, 9)
    found = []
    for trainer in (plain, lean):
        trainer.model.zero_grad()
        trainer.model(input_ids=ids, labels=ids).loss.backward()
        norm = trainer._clip_grad_norm(trainer.model)
        found.append((norm, [weight.grad.clone() for weight in trainer.model.parameters() if weight.grad is not None]))
    (norm, clipped), (lean_norm, lean_clipped) = found
    assert norm == lean_norm > 0.5
    assert all(map(torch.equal, clipped, lean_clipped))
