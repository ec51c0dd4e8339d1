"""specgen merge: adapters into a base model, without a run."""

from __future__ import annotations

import functools
import json
import shutil
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, CLIPVisionConfig, CLIPVisionModel

from runtime.conversion import merging
from runtime.training import trained_on
from tests.e2e.commands import specgen

MERGED = "out/model.safetensors"


@pytest.fixture
def merge(command):
    """What `python -m runtime.conversion.merging` ends with, and all it says."""
    return functools.partial(command, merging)


@pytest.fixture
def base(tmp_path, saved_llama):
    return saved_llama(tmp_path / "base", hidden_size=64)


def adapter_for(model, folder, seed=1, targets=("q_proj", "down_proj"), task="CAUSAL_LM", **settings):
    """A random adapter."""
    peft_model = get_peft_model(model, LoraConfig(task_type=task, r=2, lora_alpha=6, target_modules=list(targets), **settings))
    generator = torch.Generator().manual_seed(seed)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tmp_path, base):
    return adapter_for(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")


def by_peft(model, *folders):
    for folder in folders:
        model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    return model.state_dict()


def require_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert [name for name, tensor in wanted.items() if not torch.equal(found[name], tensor)] == []


def test_the_command_merges_as_peft_does_and_says_what_it_wrote(tmp_path, base, adapter):
    done = specgen("merge", "base", "adapter", "out", cwd=tmp_path)
    assert done.code == 0, done.output
    size = (tmp_path / MERGED).stat().st_size
    assert done.output.startswith("merge    1 adapter into the full base · the base's types · ")
    assert done.output.endswith("wrote out; next: specgen chat out\n")
    require_same(load_file(tmp_path / MERGED), by_peft(AutoModelForCausalLM.from_pretrained(base), adapter))
    assert size > 0
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert not (tmp_path / "out.partial").exists()


def test_several_adapters_in_another_type_and_form_and_in_shards(tmp_path, base, adapter, merge):
    adapter_for(AutoModelForCausalLM.from_pretrained(base), tmp_path / "other", seed=2)
    words = ("--dtype", "bfloat16", "--format", "bin", "--max-shard-size", "4MB", "--device", "cpu")
    code, said = merge("base", "adapter", "other", "out", *words)
    assert code == 0, said
    assert len(list((tmp_path / "out").glob("pytorch_model-*.bin"))) > 1
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").state_dict()
    require_same(found, by_peft(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), adapter, tmp_path / "other"))


def test_a_vision_tower_is_merged(tmp_path, merge):
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    CLIPVisionModel(CLIPVisionConfig(**sizes)).save_pretrained(tmp_path / "base")
    tower = CLIPVisionModel.from_pretrained(tmp_path / "base")
    adapter_for(tower, tmp_path / "adapter", targets=("q_proj", "fc1"), task="FEATURE_EXTRACTION")
    code, said = merge("base", "adapter", "out", "--is-clip")
    assert code == 0, said
    found = CLIPVisionModel.from_pretrained(tmp_path / "out").state_dict()
    require_same(found, by_peft(CLIPVisionModel.from_pretrained(tmp_path / "base"), tmp_path / "adapter"))


@pytest.mark.parametrize(
    "settings", [BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"), BitsAndBytesConfig(load_in_8bit=True)]
)
def test_an_adapter_of_a_quantized_base_goes_into_what_that_stood_for(tmp_path, base, adapter, settings, merge):
    """The reference: transformers' dequantized base, and peft's merge into that."""
    trained_on.write(adapter, settings.to_dict(), dtype="float32", taken=False)
    code, said = merge("base", "adapter", "out")
    assert code == 0, said
    assert "into the dequantized base" in said
    quantized = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, quantization_config=settings, device_map={"": "cpu"})
    wanted = by_peft(quantized.dequantize().float(), adapter)
    found = load_file(tmp_path / MERGED)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5)
    code, said = merge("base", "adapter", "whole", "--into", "full")
    assert code == 0, said
    require_same(load_file(tmp_path / "whole/model.safetensors"), by_peft(AutoModelForCausalLM.from_pretrained(base), adapter))


@pytest.fixture
def refused(merge):
    def run(*words):
        code, said = merge(*words)
        assert code == 2, said
        return said

    return run


def test_a_base_in_8_bits_keeps_its_type(base, adapter, merge):
    weights, name = load_file(base / "model.safetensors"), "model.layers.0.self_attn.q_proj"
    eight = weights[f"{name}.weight"].to(torch.float8_e4m3fn)
    save_file({**weights, f"{name}.weight": eight}, base / "model.safetensors", metadata={"format": "pt"})
    code, said = merge(base, adapter, "out", "--dtype", "auto")
    assert code == 0, said
    brought = load_file(adapter / "adapter_model.safetensors")
    first, second = (brought[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    wanted = (eight.float() + (second @ first).mul_(6 / 2)).to(torch.float8_e4m3fn)
    found = load_file(MERGED)[f"{name}.weight"]
    assert found.dtype == torch.float8_e4m3fn
    assert torch.equal(found.float(), wanted.float())


def test_an_adapter_is_merged_once(tmp_path, adapter, merge, refused):
    assert merge("base", "adapter", "out")[0] == 0
    shutil.copytree(adapter, tmp_path / "copy")
    assert refused("out", "copy", "again") == (
        "error SG460: the adapter in copy is in out already (merged.json says so), or is given twice\n"
        "  hint: merge it into the base model that it was trained on, once\n"
    )
    assert "error SG460: the adapter in adapter is in base already" in refused("base", "adapter", "adapter", "again")


def test_what_is_there_already_is_not_touched(tmp_path, adapter, refused):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    assert refused("base", "adapter", "out") == (
        "error SG459: out is there already; nothing was touched\n  hint: give a new folder, or move that one away\n"
    )
    assert (tmp_path / "out/mine").read_text() == "mine"


TOLD = {
    ("nowhere", "adapter", "out"): (
        "SG450: there is no folder nowhere",
        "give a model folder, a .gguf file or a repository on the hub",
    ),
    ("adapter", "adapter", "out"): ("SG450: adapter is no model: it has no config.json", "give a folder as transformers writes it"),
    ("base", "nowhere", "out"): ("SG450: there is no folder nowhere", "give the folder that holds the adapter_config.json"),
    ("base", "base", "out"): (
        "SG450: base is no adapter: it has no adapter_config.json",
        "give a folder as peft writes it, or runs/NAME/convert",
    ),
    ("base", "adapter=half", "out"): ("SG468: adapter=half: 'half' is no weight", "write ADAPTER=0.5"),
    ("base", "adapter", "out", "--is-clip"): (
        "SG469: --is-clip: base is a model of type llama, no CLIP model",
        "leave out --is-clip for a chat model",
    ),
}


@pytest.mark.parametrize("words", TOLD)
def test_what_cannot_be_merged_is_told(tmp_path, adapter, words, refused):
    message, hint = TOLD[words]
    assert refused(*words) == f"error {message}\n  hint: {hint}\n"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_quantized_weights_are_no_base(tmp_path, base, adapter, refused):
    settings = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(
        json.dumps({**settings, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    )
    assert refused("base", "adapter", "out") == (
        "error SG466: base holds weights that are quantized (bitsandbytes): an adapter added to them is lost\n"
        "  hint: give the model that it was made from; --into dequantized rounds it as training did\n"
    )


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("base/config.json", "{", "base/config.json cannot be read: it holds no JSON object"),
        ("adapter/adapter_config.json", "[]", "the adapter in adapter cannot be read: adapter_config.json holds no object"),
        (
            "adapter/adapter_config.json",
            '{"peft_type": "LORA", "r": 2, "lora_alpha": null}',
            "the adapter in adapter cannot be read: lora_alpha is None in adapter_config.json",
        ),
        ("adapter/trained_on.json", "{}", "adapter/trained_on.json cannot be read: it is not as a run writes it"),
        ("base/merged.json", "[]", "base/merged.json cannot be read: it is not as a merge writes it"),
        ("base/merged.json", '{"adapters": ["x"]}', "base/merged.json cannot be read: it is not as a merge writes it"),
    ],
)
def test_damaged_small_files_are_told(merge, adapter, tmp_path, file, content, message):
    (tmp_path / file).write_text(content)
    _, said = merge("base", "adapter", "out")
    assert said == f"error SG441: {message}\n"
    assert not (tmp_path / "out").exists()


def test_the_next_command_can_be_pasted(merge, adapter):
    assert merge("base", "adapter", "o 2 ü")[1].endswith("wrote o 2 ü; next: specgen chat 'o 2 ü'\n")


@pytest.mark.parametrize("size", ["banana", "0", "-5GB", "1.5GB", "2GB\n"])
def test_a_size_that_is_none_is_told_by_the_command(cli, tmp_path, size):
    ran = cli("merge", "base", "adapter", "out", "--max-shard-size", size, cwd=tmp_path)
    assert ran.code == 2
    assert "is no size: write a whole number and KB, MB or GB, such as 2GB" in ran.err


@pytest.mark.parametrize("alpha", ["nan", "0", "-1", "inf"])
def test_an_alpha_that_is_none_is_told_by_the_command(cli, tmp_path, alpha):
    ran = cli("convert", "a.pth", "out", f"--lora-alpha={alpha}", cwd=tmp_path)
    assert ran.code == 2
    assert "is no number above 0" in ran.err
