"""runtime/weights/streaming.py: merged tensor by tensor, with the bytes of peft's merge_and_unload."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from runtime.weights import adapters
from runtime.weights.streaming import is_tied, merge_files, write_config

IDS = torch.arange(3, 13)[None]
SIZES = {"vocab_size": 48, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "num_key_value_heads": 1, "attention_bias": True}
ALL = ["q_proj", "v_proj", "down_proj"]
KINDS = {
    "lora": {"target_modules": ALL},
    "patterns": {"target_modules": ALL, "rank_pattern": {"layers.1.self_attn.q_proj": 3}, "alpha_pattern": {"down_proj": 5}},
    "rslora": {"target_modules": ALL, "use_rslora": True, "rank_pattern": {"v_proj": 3}},
    "dora": {"target_modules": ALL, "use_dora": True},
    "bias": {"target_modules": ALL, "bias": "lora_only"},
    "all biases": {"target_modules": ALL, "bias": "all"},
    "lora bias": {"target_modules": ["q_proj", "v_proj"], "lora_bias": True},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "embedding dora": {"target_modules": ["embed_tokens"], "use_dora": True},
    "output layer": {"target_modules": ["lm_head"]},
    "modules_to_save": {"target_modules": ALL, "modules_to_save": ["lm_head", "input_layernorm"]},
}


def llama(**settings):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, **settings)).eval()


def saved_adapter(model, folder, seed=1, **settings):
    """An adapter whose every tensor is random, DoRA's lengths above zero."""
    peft_model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **{"r": 2, "lora_alpha": 6, **settings}))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in peft_model.named_parameters():
        if parameter.requires_grad:
            values = torch.randn(parameter.shape, generator=generator)
            parameter.data = values.abs() + 0.5 if "magnitude" in name else values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_model.save_pretrained(folder)
    return folder


@pytest.fixture
def merged_both_ways(tmp_path):
    """An adapter for a base, merged here and by peft; two state dicts and the folder written here."""

    def merge(model, dtype, **settings):
        model.save_pretrained(tmp_path / "base")
        saved_adapter(type(model).from_pretrained(tmp_path / "base"), tmp_path / "adapter", **settings)
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            by_peft = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload()
        (tmp_path / "out").mkdir()
        added = [adapters.read(tmp_path / "adapter")]
        written = merge_files(tmp_path / "base", added, tmp_path / "out", dtype=dtype, max_shard_size="2GB")
        write_config(tmp_path / "base", tmp_path / "out", dtype=dtype, tied=written.tied)
        return load_file(tmp_path / "out" / "model.safetensors"), by_peft

    return merge


def equal_bytes(one, other):
    return one.dtype == other.dtype and torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_those_of_peft(merged_both_ways, kind, dtype):
    base = llama()
    found, by_peft = merged_both_ways(base, dtype, **KINDS[kind])
    wanted = by_peft.state_dict()
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not equal_bytes(found[name], wanted[name])] == []
    changed = [name for name, weight in base.state_dict().items() if not torch.equal(found[name], weight.to(dtype))]
    assert changed


def test_the_file_is_the_one_that_transformers_writes(merged_both_ways, tmp_path):
    _, by_peft = merged_both_ways(llama(), torch.bfloat16, **KINDS["lora"])
    by_peft.save_pretrained(tmp_path / "by_peft")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tmp_path / "by_peft" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}])
def test_weights_that_lie_the_other_way_round_have_the_bytes_of_peft(merged_both_ways, settings):
    """GPT-2's Conv1D, fan_in_fan_out; c_proj of attention is square."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    targets = ["c_attn", "c_proj"]
    found, by_peft = merged_both_ways(model, torch.float32, target_modules=targets, fan_in_fan_out=True, **settings)
    wanted = {name: tensor for name, tensor in by_peft.state_dict().items() if name != "lm_head.weight"}
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not equal_bytes(found[name], wanted[name])] == []


TIED = {
    "both brought whole, not alike": ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}, False),
    "one brought whole": ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, False),
    "the input embedding adapted": ({"target_modules": ["q_proj", "embed_tokens"]}, False),
    "the output layer adapted": ({"target_modules": ["q_proj", "lm_head"]}, False),
    "neither": ({"target_modules": ["q_proj"]}, True),
}


@pytest.mark.parametrize("kind", TIED)
def test_tied_embeddings_stay_what_was_trained(merged_both_ways, tmp_path, kind):
    """Case o20: reloaded, the model answers as base + adapter; config.json says whether the two embeddings are one."""
    settings, tied = TIED[kind]
    found, _ = merged_both_ways(llama(tie_word_embeddings=True), torch.float32, **settings)
    assert is_tied(tmp_path / "out") is tied
    assert ("lm_head.weight" in found) is not tied
    trained = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert (trained(IDS).logits - reloaded(IDS).logits).abs().max() <= 1e-4


def test_embeddings_brought_whole_and_alike_stay_one(tmp_path):
    base = llama(tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    folder = saved_adapter(base, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    brought = load_file(folder / "adapter_model.safetensors")
    brought["base_model.model.lm_head.weight"] = brought["base_model.model.model.embed_tokens.weight"].clone()
    save_file(brought, folder / "adapter_model.safetensors")
    (tmp_path / "out").mkdir()
    written = merge_files(tmp_path / "base", [adapters.read(folder)], tmp_path / "out", dtype=None, max_shard_size="2GB")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert written.tied
    assert "lm_head.weight" not in found
    assert torch.equal(found["model.embed_tokens.weight"], brought["base_model.model.lm_head.weight"])


def test_several_adapters_come_on_top_of_each_other_by_their_weights(tmp_path):
    """The reference: peft's layers, scaled by set_scale and merged in turn."""
    llama().save_pretrained(tmp_path / "base")
    for name, seed in (("one", 1), ("two", 2)):
        saved_adapter(llama(), tmp_path / name, seed=seed, target_modules=ALL)
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16), tmp_path / "one", "one"
    )
    model.load_adapter(tmp_path / "two", "two")
    for layer in (module for module in model.modules() if hasattr(module, "set_scale")):
        layer.set_scale("two", 0.3)
    wanted = model.merge_and_unload(adapter_names=["one", "two"]).state_dict()
    (tmp_path / "out").mkdir()
    both = [adapters.read(tmp_path / "one"), adapters.read(tmp_path / "two", weight=0.3)]
    merge_files(tmp_path / "base", both, tmp_path / "out", dtype=torch.bfloat16, max_shard_size="2GB")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert [name for name in wanted if not equal_bytes(found[name], wanted[name])] == []


@pytest.mark.parametrize(("form", "suffix"), [("safetensors", "safetensors"), ("bin", "bin")])
def test_a_base_in_shards_is_merged_into_shards(tmp_path, form, suffix):
    llama().save_pretrained(tmp_path / "base", max_shard_size="6KB")
    folder = saved_adapter(llama(), tmp_path / "adapter", target_modules=ALL)
    (tmp_path / "out").mkdir()
    merge_files(tmp_path / "base", [adapters.read(folder)], tmp_path / "out", dtype=torch.bfloat16, max_shard_size="4KB", form=form)
    write_config(tmp_path / "base", tmp_path / "out", dtype=torch.bfloat16, tied=False)
    assert len(list((tmp_path / "out").glob(f"*.{suffix}"))) == 3
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
    wanted = PeftModel.from_pretrained(base, folder).merge_and_unload().state_dict()
    assert all(equal_bytes(tensor, wanted[name]) for name, tensor in found.state_dict().items())


@pytest.fixture
def adapter(tmp_path):
    """A base folder and an adapter for it, to be changed."""
    llama().save_pretrained(tmp_path / "base")
    (tmp_path / "out").mkdir()
    return saved_adapter(llama(), tmp_path / "adapter", target_modules=ALL)


def merging(tmp_path, *, base=None):
    merge_files(base or tmp_path / "base", [adapters.read(tmp_path / "adapter")], tmp_path / "out", dtype=None, max_shard_size="2GB")


def with_settings(folder, **changed):
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **changed}))


REFUSED = [
    (
        {"peft_type": "IA3"},
        "SG467",
        "is of type IA3; LoRA adapters are merged (with DoRA, rsLoRA, patterns, modules_to_save)",
        "merge it with peft",
    ),
    ({"use_qalora": True}, "SG467", "has use_qalora: its layers compute something else than weight + B A", "merge it with peft"),
    (
        {"init_lora_weights": "mica"},
        "SG467",
        "has init_lora_weights: mica: its layers compute something else than weight + B A",
        "merge it with peft",
    ),
]


@pytest.mark.parametrize(("changed", "code", "message", "hint"), REFUSED)
def test_adapters_of_other_methods_are_refused(tmp_path, adapter, fault_of, changed, code, message, hint):
    with_settings(adapter, **changed)
    assert fault_of(merging, tmp_path) == f"error {code}: the adapter in {adapter} {message}\n  hint: {hint}"


def test_a_pattern_that_names_no_module_is_refused(tmp_path, adapter, fault_of):
    with_settings(adapter, rank_pattern={"k_proj": 8})
    assert fault_of(merging, tmp_path) == (
        f"error SG467: rank_pattern of the adapter in {adapter} names k_proj, which is none of its modules\n"
        "  hint: correct rank_pattern in its adapter_config.json"
    )


def test_a_rank_that_the_weights_do_not_have_is_refused(tmp_path, adapter, fault_of):
    with_settings(adapter, r=4)
    assert fault_of(merging, tmp_path) == (
        f"error SG467: the adapter in {adapter} has rank 2 in model.layers.0.mlp.down_proj, its adapter_config.json says 4\n"
        "  hint: r and rank_pattern have to be those that it was trained with"
    )


def test_an_adapter_of_another_size_of_model_is_refused(tmp_path, adapter, fault_of):
    LlamaForCausalLM(LlamaConfig(**{**SIZES, "intermediate_size": 32})).save_pretrained(tmp_path / "base")
    assert fault_of(merging, tmp_path) == (
        f"error SG442: the adapter in {adapter} does not fit the base model: "
        "model.layers.0.mlp.down_proj.weight is [16, 24] in the adapter, [16, 32] in the base model"
    )


def test_an_adapter_for_layers_that_are_not_there_is_refused(tmp_path, adapter, fault_of):
    LlamaForCausalLM(LlamaConfig(**{**SIZES, "num_hidden_layers": 1})).save_pretrained(tmp_path / "base")
    assert fault_of(merging, tmp_path) == (
        f"error SG442: the adapter in {adapter} does not fit the base model: it has no model.layers.1.mlp.down_proj.weight"
    )


def test_half_of_a_module_is_refused(tmp_path, adapter, fault_of):
    brought = load_file(adapter / "adapter_model.safetensors")
    del brought["base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"]
    save_file(brought, adapter / "adapter_model.safetensors")
    assert fault_of(merging, tmp_path) == (
        f"error SG441: the adapter in {adapter} cannot be read: model.layers.1.self_attn.q_proj has no lora_B"
    )


def test_empty_tensors_are_refused(tmp_path, adapter, fault_of):
    """What ZeRO-3 leaves where weights are saved without being gathered."""
    brought = load_file(adapter / "adapter_model.safetensors")
    save_file({name: tensor[:0] for name, tensor in brought.items()}, adapter / "adapter_model.safetensors")
    assert fault_of(merging, tmp_path) == (
        f"error SG443: {min(brought)} of the adapter in {adapter} is empty\n  hint: save it again, gathered from all processes"
    )


def test_a_file_that_is_cut_off_is_refused(tmp_path, adapter, fault_of):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])
    assert fault_of(merging, tmp_path).startswith(f"error SG441: the adapter in {adapter} cannot be read: ")


def test_two_adapters_that_bring_the_same_weight_are_refused(tmp_path, adapter, fault_of):
    saved_adapter(llama(), adapter, target_modules=ALL, modules_to_save=["lm_head"])
    one = adapters.read(adapter)
    both = [one, replace(one)]
    options = {"dtype": None, "max_shard_size": "2GB"}
    assert fault_of(merge_files, tmp_path / "base", both, tmp_path / "out", **options) == (
        f"error SG467: the adapters in {adapter} and {adapter} both bring lm_head.weight whole\n  hint: merge one of them"
    )


def test_no_part_of_a_weight_brought_whole_is_merged(tmp_path, adapter, fault_of):
    saved_adapter(llama(), adapter, target_modules=ALL, modules_to_save=["lm_head"])
    assert fault_of(adapters.read, adapter, 0.5) == (
        f"error SG467: the adapter in {adapter} brings lm_head.weight, of which no part can be merged\n  hint: give it without a weight"
    )
