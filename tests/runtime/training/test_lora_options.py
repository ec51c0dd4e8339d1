"""rsLoRA, DoRA and modules trained whole beside an adapter: trained, converted, merged. Tied embeddings: case o20."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from runtime.models.adapter import attach, read_adapter
from runtime.models.model import load_model
from runtime.stages import read_stage
from runtime.training.trainable import prepared

IDS = torch.tensor([[1, 9690, 198, 2683, 359]])
TRAIN = {"max_steps": 5, "batch_size": 2}


def logits(model):
    with torch.inference_mode():
        return model.eval()(IDS).logits


def base_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def tied_base(tmp_path_factory, saved_llama):
    return saved_llama(tmp_path_factory.mktemp("tied"), hidden_size=32, tied=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, compiled, carried_out):
    """The run folder of a base trained with these settings of an adapter; the same for the same settings."""
    made = {}

    def run(base, lora):
        key = str((base, lora))
        if key not in made:
            folder = tmp_path_factory.mktemp("lora")
            build = compiled(folder, model={"base": str(base)}, adapter={"lora": lora}, train=TRAIN)
            made[key] = carried_out(build, folder, "data", "train", "convert", "merge")
        return made[key]

    return run


@pytest.mark.parametrize("saved", [["embed_tokens", "lm_head"], ["embed_tokens"], ["lm_head"]], ids="+".join)
def test_case_o20_tied_embeddings_that_are_trained_whole_survive_the_merge(trained, tied_base, saved):
    lora = {"r": 8, "alpha": 16, "targets": ["q_proj"], "modules_to_save": saved}
    run = trained(tied_base, lora)
    adapter = attach(base_of(tied_base), run / "convert")
    merged = base_of(run / "merge")
    assert (logits(adapter) - logits(merged)).abs().max() <= 1e-4
    file = load_file(run / "merge" / "model.safetensors")
    embedding, output = file["model.embed_tokens.weight"], file.get("lm_head.weight")
    if AutoConfig.from_pretrained(run / "merge").tie_word_embeddings:
        assert output is None
        copies = [tensor for name, tensor in read_adapter(run / "convert").items() if "embed_tokens" in name or "lm_head" in name]
        assert all(torch.equal(tensor, embedding) for tensor in copies)
    else:
        assert output is not None
    base = base_of(tied_base).model.embed_tokens.weight
    assert not torch.equal(embedding, base) or not torch.equal(output, base)


def test_modules_that_are_trained_whole_are_in_the_adapter_folder(trained, tiny_base):
    run = trained(tiny_base, {"modules_to_save": ["embed_tokens", "lm_head"], "targets": ["q_proj"]})
    adapter = read_adapter(run / "convert")
    names = ("base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight")
    merged, base = base_of(run / "merge").state_dict(), base_of(tiny_base).state_dict()
    for name in names:
        plain = name.removeprefix("base_model.model.")
        assert torch.equal(merged[plain], adapter[name])
        assert not torch.equal(merged[plain], base[plain])
    assert len(adapter) == 2 + 2 * 2
    assert "trained whole: embed_tokens, lm_head" in (run / "merge" / "README.md").read_text()


@pytest.mark.parametrize("option", ["use_rslora", "use_dora"])
def test_the_option_is_trained_exported_and_merged(trained, tiny_base, option):
    run = trained(tiny_base, {option: True, "r": 4, "alpha": 8})
    assert json.loads((run / "convert" / "adapter_config.json").read_text())[option] is True
    adapter = read_adapter(run / "convert")
    assert any("magnitude" in name for name in adapter) == (option == "use_dora")
    difference = (logits(attach(base_of(tiny_base), run / "convert")) - logits(base_of(run / "merge"))).abs().max()
    assert difference <= 1e-4
    figures = read_stage(run, "merge")["summary"]
    assert figures["distance"] <= figures["limit"]
    assert f"{'rsLoRA' if option == 'use_rslora' else 'DoRA'} r 4" in (run / "merge" / "README.md").read_text()


def test_rslora_scales_by_the_root_of_the_rank(trained, tiny_base):
    run = trained(tiny_base, {"use_rslora": True, "r": 4, "alpha": 8})
    adapter, merged, base = read_adapter(run / "convert"), base_of(run / "merge").state_dict(), base_of(tiny_base).state_dict()
    name = "model.layers.0.self_attn.q_proj"
    first, second = (adapter[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    wanted = base[f"{name}.weight"] + 8 / 4**0.5 * (second @ first)
    torch.testing.assert_close(merged[f"{name}.weight"], wanted, atol=1e-6, rtol=0.0)


def test_whole_modules_are_trained_in_float32_beside_a_bfloat16_base(tmp_path, configured, tiny_base):
    """peft casts its own weights only; a copy of a module would stay in 16 bits, where small updates vanish."""
    config = configured(tmp_path, model={"dtype": "bfloat16"}, adapter={"lora": {"modules_to_save": ["lm_head"]}})
    model = prepared(config, load_model(config.model, device=torch.device("cpu")))
    trained = [parameter.dtype for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter.dtype for parameter in model.parameters() if not parameter.requires_grad]
    assert set(trained) == {torch.float32}
    assert set(frozen) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"targets": ["q_porj"]}, "error SG241: the target q_porj matches 0 modules of the base model"),
        ({"modules_to_save": ["lm_haed"]}, "error SG244: modules_to_save names lm_haed, which matches 0 modules of the base model"),
    ],
)
def test_a_name_that_is_no_module_is_refused_by_the_run_too(tmp_path, configured, tiny_model, fault_of, lora, message):
    from dataclasses import replace

    config = configured(tmp_path)
    changed = {name: tuple(names) for name, names in lora.items()}
    config = replace(config, adapter=replace(config.adapter, **changed))
    assert fault_of(prepared, config, tiny_model) == message
