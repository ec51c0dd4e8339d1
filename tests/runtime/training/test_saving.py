"""runtime/training/saving.py: what is saved has every tensor of the model, and none is empty (peers.md, complaint 22)."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from runtime.training.saving import SavingTrainer, shapes


@pytest.fixture
def model():
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))


@pytest.fixture
def saved(tmp_path):
    """The trainer of a model, and the file of the weights that it saved."""

    def save(model, file):
        arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
        trainer = SavingTrainer(model=model, args=arguments)
        trainer.save_model(str(tmp_path / "final"))
        trainer.require_whole(tmp_path / "final")
        return trainer, tmp_path / "final" / file

    return save


HINT = "  hint: leave distributed.deepspeed.zero_optimization as specgen derives it; distributed.zero_stage: 2 saves without gathering"


def test_complaint_22_an_adapter_with_empty_tensors_is_refused(model, saved, fault_of):
    trainer, file = saved(
        get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")), "adapter_model.safetensors"
    )
    tensors = load_file(file)
    assert len(tensors) == 14
    name = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
    save_file({**tensors, name: torch.empty(0)}, file)
    assert (
        fault_of(trainer.require_whole, file.parent)
        == f"error SG444: 1 of 14 tensors are empty in the weights saved at step 0, {name} first\n{HINT}"
    )


def test_complaint_22_an_adapter_without_some_of_its_tensors_is_refused(model, saved, fault_of):
    options = {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "use_dora": True}
    trainer, file = saved(get_peft_model(model, LoraConfig(**options, task_type="CAUSAL_LM")), "adapter_model.safetensors")
    tensors = load_file(file)
    assert len(tensors) == 4
    del tensors["base_model.model.model.embed_tokens.weight"]
    save_file(tensors, file)
    text = "error SG444: 1 of 4 tensors are missing in the weights saved at step 0, base_model.model.model.embed_tokens.weight first"
    assert fault_of(trainer.require_whole, file.parent) == f"{text}\n{HINT}"


def test_complaint_22_a_whole_model_without_some_of_its_tensors_is_refused_and_a_tied_one_may_be_left_out(model, saved, fault_of):
    trainer, file = saved(model, "model.safetensors")
    assert len(shapes(file.parent)) == 11  # of 12: the output layer is the embedding
    save_file({}, file)
    assert "11 of 12 tensors are missing" in fault_of(trainer.require_whole, file.parent)
