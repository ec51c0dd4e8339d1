"""specgen merge --is-clip: an adapter of a vision tower alone, as XTuner keeps one, into a CLIP or SigLIP model of either form."""

from __future__ import annotations

import functools
import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionModel, SiglipConfig, SiglipModel, SiglipVisionModel

from runtime.conversion import merging
from tests.runtime.vision.conftest import SIZES

CLASSES = {"clip": (CLIPVisionModel, CLIPModel, CLIPConfig), "siglip": (SiglipVisionModel, SiglipModel, SiglipConfig)}
TEXTS = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 60}
TEXTS |= {"bos_token_id": 1, "eos_token_id": 2}
PREFIX = "base_model.model."
TARGETS = ["q_proj", "out_proj", "fc1"]


@pytest.fixture
def merge(command):
    return functools.partial(command, merging)


def whole_model(kind, folder):
    """A model of texts and images; returns what sees of it."""
    _, model, settings = CLASSES[kind]
    more = {"projection_dim": 8} if kind == "clip" else {}
    torch.manual_seed(3)
    made = model(settings(vision_config=SIZES, text_config=TEXTS, **more)).eval()
    made.save_pretrained(folder)
    return made.vision_model


def adapt(tower, folder, *, prefixed):
    """A random adapter of the tower, by the names of transformers 4 where `prefixed`; returns the tower with it on top."""
    model = get_peft_model(tower, LoraConfig(r=2, lora_alpha=6, target_modules=TARGETS, modules_to_save=["post_layernorm"]))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    model.save_pretrained(folder)
    if prefixed:
        tensors = load_file(folder / "adapter_model.safetensors")
        renamed = {PREFIX + "vision_model." + name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        save_file(renamed, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return model.eval()


def hidden_states(model):
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(pixels, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("kind", list(CLASSES))
@pytest.mark.parametrize("prefixed", [False, True], ids=["transformers 5", "XTuner"])
@pytest.mark.parametrize("form", ["alone", "whole", "published"])
def test_the_merged_tower_sees_what_base_and_adapter_see(tmp_path, merge, towers, kind, prefixed, form):
    if form == "whole":
        tower = whole_model(kind, tmp_path / "base")
    else:
        shutil.copytree(towers[kind], tmp_path / "base")
        tower = CLASSES[kind][0].from_pretrained(tmp_path / "base").eval()
    if form == "published":  # transformers 4 wrote the tower's names with a prefix
        tensors = load_file(tmp_path / "base" / "model.safetensors")
        save_file({f"vision_model.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "base" / "model.safetensors")
    wanted = hidden_states(adapt(tower, tmp_path / "adapter", prefixed=prefixed))
    code, said = merge("base", "adapter", "out", "--is-clip")
    assert code == 0, said
    assert json.loads((tmp_path / "out/config.json").read_text())["architectures"] == [CLASSES[kind][0].__name__]
    model, found = CLASSES[kind][0].from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(found[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), found
    for own, other in zip(hidden_states(model.eval()), wanted, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)


def test_a_merged_tower_is_a_tower_for_llava(tmp_path, merge, towers, seeing, tiny_base):
    from runtime.vision.folders import assemble

    tower = CLIPVisionModel.from_pretrained(towers["clip"])
    adapt(tower, tmp_path / "adapter", prefixed=True)
    code, said = merge(towers["clip"], "adapter", "out", "--is-clip")
    assert code == 0, said
    (tmp_path / "llava").mkdir()
    assemble(tiny_base, tmp_path / "out", seeing(tmp_path / "out"), tmp_path / "llava")
    assert (tmp_path / "llava" / "model.safetensors").exists()


def test_peft_reads_what_the_tests_write(tmp_path, towers):
    wanted = hidden_states(adapt(CLIPVisionModel.from_pretrained(towers["clip"]), tmp_path / "adapter", prefixed=False))
    by_peft = PeftModel.from_pretrained(CLIPVisionModel.from_pretrained(towers["clip"]), tmp_path / "adapter").eval()
    assert torch.equal(hidden_states(by_peft)[-1], wanted[-1])
