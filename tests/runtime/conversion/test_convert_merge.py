"""runtime/conversion/convert.py and merge.py: the adapter as peft has it, and one model folder that is proven to be base + adapter."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from runtime.conversion import merge as merging
from runtime.conversion.convert import convert
from runtime.conversion.merge import merge
from runtime.models.adapter import WEIGHTS, attach, read_adapter, write_adapter

SCALE = 8 / 4  # alpha / r
IDS = torch.arange(5, 25)[None]


@pytest.fixture(scope="module")
def run(tmp_path_factory, finished):
    """A run folder whose adapter is random and strong: its effect stands well above rounding."""
    folder = tmp_path_factory.mktemp("strong") / "tiny"
    shutil.copytree(finished[1] / "train", folder / "train")
    generator = torch.Generator().manual_seed(1)
    trained = read_adapter(folder / "train" / "final")
    strong = {name: torch.randn(tensor.shape, generator=generator) / 4 for name, tensor in trained.items()}
    write_adapter(
        strong,
        LoraConfig.from_pretrained(folder / "train" / "final"),
        folder / "train" / "final",
        dtype=torch.float32,
        max_shard_size="1GB",
    )
    settings = LoraConfig.from_pretrained(folder / "train" / "final")
    write_adapter(strong, settings, folder / "convert", dtype=torch.float32, max_shard_size="1GB")
    return folder


@pytest.fixture
def changed_run(tmp_path, run):
    return shutil.copytree(run, tmp_path / "tiny")


@pytest.fixture
def exporting(tmp_path, configured):
    """The config of the tiny spec with one part of its export changed."""
    return lambda part, **changed: configured(tmp_path, export={part: changed})


def base_of(tiny_base, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=dtype).eval()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_adapter_is_written_in_the_dtype_of_the_export(tmp_path, run, exporting, dtype):
    figures = convert(exporting("adapter", dtype=dtype), run, tmp_path / "out")
    trained, written = read_adapter(run / "train" / "final"), read_adapter(tmp_path / "out")
    assert written.keys() == trained.keys()
    for name, tensor in trained.items():
        assert torch.equal(written[name], tensor.to(getattr(torch, dtype)))
    assert figures["bytes"] == sum(tensor.numel() for tensor in trained.values()) * (4 if dtype == "float32" else 2)


def test_peft_loads_the_folder_as_the_same_model(tmp_path, run, tiny_base, exporting):
    convert(exporting("adapter", dtype="float32"), run, tmp_path / "out")
    by_peft = PeftModel.from_pretrained(base_of(tiny_base), tmp_path / "out").eval()
    assert torch.equal(by_peft(IDS).logits, attach(base_of(tiny_base), run / "train" / "final").eval()(IDS).logits)
    assert not torch.allclose(by_peft(IDS).logits, base_of(tiny_base)(IDS).logits, atol=1e-2)


def test_shards_are_as_large_as_allowed_and_read_back_equal(tmp_path, run, exporting):
    convert(exporting("adapter", max_shard_size="4KB"), run, tmp_path / "out")
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(shards) > 3
    assert all(shard.stat().st_size < 4_000 + 2_000 for shard in shards)  # the header comes on top
    trained, written = read_adapter(run / "train" / "final"), read_adapter(tmp_path / "out")
    assert written.keys() == trained.keys()
    assert all(torch.equal(written[name], trained[name]) for name in trained)


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "float32"), (float("inf"), "bfloat16"), (1e6, "float16")])
def test_weights_that_are_not_finite_are_refused(tmp_path, changed_run, exporting, fault_of, value, dtype):
    final = changed_run / "train" / "final"
    tensors = read_adapter(final)
    name = sorted(tensors)[0]
    tensors[name][0, 0] = value
    save_file(tensors, final / WEIGHTS)
    hint = "\n  hint: write export.adapter.dtype: float32" if dtype == "float16" else ""  # others lose nothing that float32 has
    told = fault_of(convert, exporting("adapter", dtype=dtype), changed_run, tmp_path / "out")
    assert told == f"error SG443: {name} is empty or not finite in {dtype}{hint}"


def test_a_missing_adapter_file_is_a_fault(changed_run, fault_of):
    (changed_run / "convert" / WEIGHTS).unlink()
    assert fault_of(read_adapter, changed_run / "convert") == (
        f"error SG441: the adapter in {changed_run}/convert cannot be read: "
        "there is neither adapter_model.safetensors nor adapter_model.bin, nor an index of shards"
    )


def test_an_adapter_of_another_model_is_refused(changed_run, tiny_base, fault_of):
    folder = changed_run / "convert"
    tensors = {name.replace("layers.1.", "layers.9."): tensor for name, tensor in read_adapter(folder).items()}
    write_adapter(tensors, LoraConfig.from_pretrained(folder), folder, dtype=torch.float32, max_shard_size="1GB")
    text = fault_of(attach, base_of(tiny_base), folder)
    assert text.startswith(f"error SG442: the adapter in {folder} does not fit the base model: base_model.model.model.layers.1.")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_weights_are_base_plus_scaled_product_rounded_once(tmp_path, run, tiny_base, exporting, dtype):
    """The reference: W + alpha / r · B A in float32, W as the base has it in the export's dtype."""
    figures = merge(exporting("merged", dtype=dtype), run, tmp_path / "out")
    adapter = read_adapter(run / "convert")
    merged = base_of(tmp_path / "out", getattr(torch, dtype)).state_dict()
    products = 0
    for name, weight in base_of(tiny_base, getattr(torch, dtype)).state_dict().items():
        first, second = (adapter.get(f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight") for part in "AB")
        if first is None:
            assert torch.equal(merged[name], weight), name
        else:
            products += 1
            wanted = (weight.float() + SCALE * (second @ first)).to(weight.dtype)
            torch.testing.assert_close(merged[name], wanted, atol=1e-6, rtol=0.0 if dtype == "float32" else 2**-7)
    assert products == 2 * 7
    assert figures["distance"] <= figures["limit"]


def shrink(weights, base):
    return base + 0.9 * (weights - base)


def lose(weights, base):
    return base


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tamper", [shrink, lose])
def test_a_merged_model_that_is_not_base_plus_adapter_is_refused(tmp_path, run, tiny_base, exporting, monkeypatch, fault_of, tamper, dtype):
    write = merging.write_merged

    def write_tampered(config, folder, out, device):
        write(config, folder, out, device)
        base = base_of(tiny_base, getattr(torch, dtype)).state_dict()
        found = {name: tamper(weights, base[name]) for name, weights in load_file(out / "model.safetensors").items()}
        save_file(found, out / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(merging, "write_merged", write_tampered)
    text = fault_of(merge, exporting("merged", dtype=dtype), run, tmp_path / "out")
    assert text.startswith("error SG451: the merged model differs from base + adapter by ")
    assert text.endswith("\n  hint: the adapter is kept; merge in float32: export.merged.dtype: float32")


def test_the_merged_folder_is_complete_for_others(tmp_path, run, tiny_base, exporting):
    """Loaded as anyone would: weights, tokenizer, chat template and strict generation settings."""
    merge(exporting("merged", dtype="bfloat16"), run, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(tiny_base).chat_template
    settings = GenerationConfig.from_pretrained(tmp_path / "out")
    settings.validate(strict=True)
    assert (settings.do_sample, settings.eos_token_id) == (False, [2])
    assert "lora" not in (tmp_path / "out" / "config.json").read_text()
    assert "# tiny" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_the_template_of_the_spec_goes_with_the_merged_model(tmp_path, run, configured):
    jinja = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    jinja += "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
    merge(configured(tmp_path, template={"jinja": jinja}), run, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == jinja


def test_generation_settings_that_contradict_each_other_do_not_come_over_from_the_base(tmp_path, tiny_base, run, configured, case_file):
    """Case o24: a base whose own generation_config says greedy and sampling at once."""
    base = shutil.copytree(tiny_base, tmp_path / "base")
    shutil.copy(case_file("o24_generation_config.json"), base / "generation_config.json")
    merge(configured(tmp_path, model={"base": str(base)}), run, tmp_path / "out")
    settings = GenerationConfig.from_pretrained(tmp_path / "out")
    settings.validate(strict=True)
    assert (settings.do_sample, settings.temperature, settings.eos_token_id) == (False, None, [2])


def test_shards_of_the_merged_model_are_as_large_as_allowed(tmp_path, run, exporting):
    figures = merge(exporting("merged", max_shard_size="3MB", dtype="bfloat16"), run, tmp_path / "out")
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert len(shards) == len(set(index["weight_map"].values())) > 1
    assert all(shard.stat().st_size <= 3_200_000 for shard in shards)  # the embedding alone is 3.15 MB
    assert figures["bytes"] == sum(shard.stat().st_size for shard in shards)


@pytest.mark.parametrize("quantization", [{"nf4": {}}, {"int8": {}}], ids=["nf4", "int8"])
def test_the_base_that_training_saw_is_nearer_to_what_was_trained(tmp_path, run, configured, quantization):
    """The adapter of a quantized model, merged into the weights that it stands for, and into those before."""
    found = {}
    for base in ("dequantized", "full"):
        config = configured(tmp_path, model={"quantization": quantization}, export={"merged": {"base": base}})
        figures = found[base] = merge(config, run, tmp_path / base)
        assert figures["base"] == base
        assert figures["distance"] <= figures["limit"]
        assert json.loads((tmp_path / base / "merged.json").read_text())["into"] == base
    assert found["dequantized"]["distance_to_trained"] < found["full"]["distance_to_trained"]


def test_a_run_merges_with_the_bytes_of_peft(tmp_path, run, tiny_base, exporting):
    merge(exporting("merged", dtype="bfloat16"), run, tmp_path / "out")
    by_peft = PeftModel.from_pretrained(base_of(tiny_base).bfloat16(), run / "convert").merge_and_unload()
    wanted = by_peft.state_dict()
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in written.items())
