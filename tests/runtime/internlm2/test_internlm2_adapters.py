"""LoRA adapters of InternLM2's names and of a Llama's: the same sum, whichever layout it is added in."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from runtime.conversion import converting, merging
from runtime.internlm2.adapters import fitted, to_llama, to_original
from runtime.internlm2.folders import readable
from runtime.internlm2.settings import sizes_of
from runtime.models.adapter import attach
from runtime.talking.talker import Loading, of_folder
from runtime.weights.adapters import read

NAME = "rope_dynamic_gqa3"
PREFIX = "base_model.model."
# [out, in] of the modules of its one layer
MODULES = {
    "model.layers.0.attention.wqkv": (80, 48),
    "model.layers.0.attention.wo": (48, 48),
    "model.layers.0.feed_forward.w1": (64, 48),
    "model.layers.0.feed_forward.w2": (48, 64),
    "model.layers.0.feed_forward.w3": (64, 48),
    "output": (128, 48),
}
R, ALPHA = 2, 6
QUERY, KEY, VALUE = (f"{PREFIX}model.layers.0.self_attn.{part}_proj" for part in "qkv")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def original(root):
    return root / "tests/internlm2" / NAME


@pytest.fixture
def llama(original):
    """The config.json of the Llama."""
    return json.loads((readable(original) / "config.json").read_text())


@pytest.fixture
def sizes(llama, original):
    return sizes_of(llama, original)


@pytest.fixture
def factors():
    """A random adapter by InternLM2's names, as peft writes it."""
    generator = torch.Generator().manual_seed(3)
    found = {}
    for module, (outputs, inputs) in MODULES.items():
        found[f"{PREFIX}{module}.lora_A.weight"] = torch.randn(R, inputs, generator=generator)
        found[f"{PREFIX}{module}.lora_B.weight"] = torch.randn(outputs, R, generator=generator)
    return found


@pytest.fixture
def settings():
    leaves = sorted({module.rpartition(".")[2] for module in MODULES})
    return LoraConfig(task_type="CAUSAL_LM", r=R, lora_alpha=ALPHA, target_modules=leaves)


@pytest.fixture
def adapter(tmp_path, factors, settings):
    """The folder of that adapter."""
    settings.save_pretrained(str(tmp_path / "adapter"))
    save_file(factors, tmp_path / "adapter/adapter_model.safetensors")
    return tmp_path / "adapter"


@pytest.fixture
def by_hand(tmp_path, original, factors):
    """The checkpoint with W + s B A in its own layout, read as a Llama: what every other way has to come to."""
    folder = shutil.copytree(original, tmp_path / "by hand")
    weights = load_file(folder / "model.safetensors")
    for module in MODULES:
        first, second = (factors[f"{PREFIX}{module}.lora_{part}.weight"] for part in "AB")
        weights[f"{module}.weight"] += ALPHA / R * second @ first
    save_file(weights, folder / "model.safetensors")
    return load_file(readable(folder) / "model.safetensors")


def require_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-5, msg=name)


def product(tensors, module, alpha, rank):
    return alpha / rank * tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]


@pytest.mark.parametrize("layout", ["llama", "original"])
def test_a_merge_is_the_same_model_in_both_layouts(command, tmp_path, original, adapter, by_hand, layout):
    code, said = command(merging, original, adapter, "out", "--layout", layout)
    assert code == 0, said
    own = json.loads((tmp_path / "out/config.json").read_text())
    assert own["model_type"] == ("internlm2" if layout == "original" else "llama")
    assert ("auto_map" in own) == (layout == "original")
    require_close(load_file(readable(tmp_path / "out") / "model.safetensors"), by_hand)
    told = command(merging, "out", adapter, "twice")
    assert f"error SG460: the adapter in {adapter} is in " in told[1], "what was merged is known in either layout"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_only_internlm2_has_the_original_layout(command, original, adapter):
    code, said = command(merging, readable(original), adapter, "out", "--layout", "original")
    assert code == 2
    assert said.startswith("error SG644: the original layout is InternLM2's, and the base model in ")


def test_the_adapter_is_put_on_the_loaded_model(original, adapter, by_hand):
    model = AutoModelForCausalLM.from_pretrained(readable(original)).eval()
    merged = AutoModelForCausalLM.from_pretrained(readable(original)).eval()
    merged.load_state_dict(by_hand)
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        assert (attach(model, adapter).eval()(ids).logits - merged(ids).logits).abs().max() < 1e-4


def test_chat_takes_a_folder_of_internlm2_with_such_an_adapter(tmp_path, original, root, adapter):
    folder = shutil.copytree(original, tmp_path / "chat")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(root / "tests/internlm2_tokenizer" / name, folder / name)
    talker = of_folder(folder, Loading(adapter=adapter, dtype="fp32"))
    assert (talker.name, talker.has_adapter, talker.context) == ("chat", True, 128)


def test_an_adapter_of_xtuner_gets_the_names_of_its_base(command, tmp_path, original, factors, by_hand):
    state = {f"llm.{name.replace('.weight', '.default.weight')}": tensor for name, tensor in factors.items()}
    torch.save({"state_dict": state, "meta": {"cfg": f"lora_alpha={ALPHA}\n"}}, tmp_path / "iter_3.pth")
    assert command(converting, "iter_3.pth", "named", "--fp32", "--base", original)[0] == 0
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(readable(original)), "named").merge_and_unload()
    require_close(merged.state_dict(), by_hand)
    assert command(converting, "iter_3.pth", "unnamed", "--fp32")[0] == 0
    assert command(merging, original, "unnamed", "out")[0] == 0
    require_close(load_file("out/model.safetensors"), by_hand)
    hint = "  hint: give the folder of the base model: --base DIR\n"
    reason = "iter_3.pth is to have its base model's names, and that has no config.json"
    assert command(converting, "iter_3.pth", "nowhere", "--base", "absent") == (2, f"error SG496: {reason}\n{hint}")


def test_a_whole_model_of_xtuner_is_internlm2_as_its_base_is(command, tmp_path, original):
    weights = load_file(original / "model.safetensors")
    torch.save({"state_dict": {f"llm.{name}": 2 * tensor for name, tensor in weights.items()}}, tmp_path / "iter_3.pth")
    assert command(converting, "iter_3.pth", "out", "--fp32", "--base", original)[0] == 0
    found = load_file(tmp_path / "out/model.safetensors")
    assert all(torch.equal(found[name], 2 * tensor) for name, tensor in weights.items())
    assert torch.equal(load_file(readable(tmp_path / "out") / "model.safetensors")["lm_head.weight"], 2 * weights["output.weight"])


def test_wqkv_shares_its_first_factor_and_parts_the_rows_of_its_second(factors, settings, llama, tmp_path):
    turned = to_llama(factors, settings.to_dict(), llama, tmp_path)
    own = factors[f"{PREFIX}model.layers.0.attention.wqkv.lora_A.weight"]
    assert all(torch.equal(turned.tensors[f"{module}.lora_A.weight"], own) for module in (QUERY, KEY, VALUE))
    rows = factors[f"{PREFIX}model.layers.0.attention.wqkv.lora_B.weight"].view(2, 5, 8, R)  # two groups of three, one and one head
    assert torch.equal(turned.tensors[f"{QUERY}.lora_B.weight"], rows[:, :3].reshape(48, R))
    assert torch.equal(turned.tensors[f"{KEY}.lora_B.weight"], rows[:, 3].reshape(16, R))
    assert torch.equal(turned.tensors[f"{VALUE}.lora_B.weight"], rows[:, 4].reshape(16, R))
    names = ["down_proj", "gate_proj", "k_proj", "lm_head", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert turned.settings == {"target_modules": names, "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}}


def test_there_and_back_is_the_same_adapter(factors, settings, llama, sizes, tmp_path):
    turned = to_llama(factors, settings.to_dict(), llama, tmp_path)
    back = to_original(turned.tensors, {**settings.to_dict(), **turned.settings}, sizes, tmp_path)
    assert back.tensors.keys() == factors.keys()
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in factors.items())
    assert set(back.settings["target_modules"]) == settings.target_modules
    assert (back.settings["rank_pattern"], back.settings["alpha_pattern"]) == ({}, {})


@pytest.mark.parametrize("parts", ["qkv", "qv", "k"])
@pytest.mark.parametrize("by_root", [False, True], ids=["LoRA", "rsLoRA"])
def test_adapters_of_their_own_are_one_of_wqkv(llama, sizes, tmp_path, parts, by_root):
    """Each with another rank and alpha: one product of a higher rank, whose rows are those of each, and zero where there is none."""
    generator = torch.Generator().manual_seed(5)
    ranks, alphas = {"q": 2, "k": 3, "v": 4}, {"q": 6, "k": 5, "v": 8}
    modules = {"q": QUERY, "k": KEY, "v": VALUE}
    tensors = {}
    for part in parts:
        tensors[f"{modules[part]}.lora_A.weight"] = torch.randn(ranks[part], 48, generator=generator)
        tensors[f"{modules[part]}.lora_B.weight"] = torch.randn(48 if part == "q" else 16, ranks[part], generator=generator)
    patterns = {
        name: {modules[part].removeprefix(PREFIX): values[part] for part in parts}
        for name, values in (("rank_pattern", ranks), ("alpha_pattern", alphas))
    }
    settings = {"r": 2, "lora_alpha": 6, "use_rslora": by_root, **patterns}
    found = to_original(tensors, settings, sizes, tmp_path)
    path = "model.layers.0.attention.wqkv"
    rank = found.settings["rank_pattern"].get(path, 2)
    alpha = found.settings["alpha_pattern"].get(path, 6)
    assert rank == sum(ranks[part] for part in parts)

    def scaled(rank):
        return rank**0.5 if by_root else rank

    whole = product(found.tensors, PREFIX + path, alpha, scaled(rank)).view(2, 5, 8, 48)
    rows = {"q": whole[:, :3].reshape(48, 48), "k": whole[:, 3].reshape(16, 48), "v": whole[:, 4].reshape(16, 48)}
    for part in "qkv":
        wanted = product(tensors, modules[part], alphas[part], scaled(ranks[part])) if part in parts else torch.zeros_like(rows[part])
        torch.testing.assert_close(rows[part], wanted)


def test_ranks_and_alphas_of_their_own_follow_their_modules(tmp_path, factors, llama, original, adapter):
    """wqkv has rank 3 and alpha 9 by a pattern, and so have all that came of it."""
    for part, shape in (("A", (3, 48)), ("B", (80, 3))):
        factors[f"{PREFIX}model.layers.0.attention.wqkv.lora_{part}.weight"] = torch.ones(shape)
    patterns = {"rank_pattern": {"wqkv": 3}, "alpha_pattern": {"layers.0.attention.wqkv": 9}}
    turned = to_llama(factors, {"r": R, "lora_alpha": ALPHA, **patterns}, llama, tmp_path)
    paths = [module.removeprefix(PREFIX) for module in (QUERY, KEY, VALUE)]
    assert turned.settings["rank_pattern"] == dict.fromkeys(paths, 3)
    assert turned.settings["alpha_pattern"] == dict.fromkeys(paths, 9)
    save_file(factors, adapter / "adapter_model.safetensors")
    own = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**own, **patterns}))
    change = fitted(read(adapter), readable(original)).change(paths[1], [16, 48])
    assert (change.scaling, change.second.shape, change.first.shape) == (3.0, (16, 3), (3, 48))


def test_dora_is_cut_by_rows_and_joined_again(factors, llama, sizes, tmp_path):
    settings = {"r": R, "lora_alpha": ALPHA, "use_dora": True}
    lengths = f"{PREFIX}model.layers.0.attention.wqkv.lora_magnitude_vector"
    own = {name: tensor for name, tensor in factors.items() if ".wqkv." in name} | {lengths: torch.arange(80.0)}
    turned = to_llama(own, settings, llama, tmp_path)
    assert turned.tensors[f"{KEY}.lora_magnitude_vector"].tolist() == [*range(24, 32), *range(64, 72)]
    back = to_original(turned.tensors, {**settings, **turned.settings}, sizes, tmp_path)
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in own.items())
    del turned.tensors[f"{KEY}.lora_A.weight"], turned.tensors[f"{KEY}.lora_B.weight"], turned.tensors[f"{KEY}.lora_magnitude_vector"]
    with pytest.raises(Exception, match=r"the lora_magnitude_vector of model\.layers\.0\.self_attn\.k_proj is the base's"):
        to_original(turned.tensors, settings, sizes, tmp_path)


def test_modules_that_are_saved_whole_are_renamed(factors, llama, tmp_path):
    embedding = f"{PREFIX}model.tok_embeddings.weight"
    turned = to_llama({**factors, embedding: torch.ones(128, 48)}, {"r": R, "lora_alpha": ALPHA}, llama, tmp_path)
    assert f"{PREFIX}model.embed_tokens.weight" in turned.tensors
    assert turned.settings["modules_to_save"] == ["embed_tokens"]


def test_an_adapter_of_a_llama_and_one_of_another_model_are_left_alone(factors, settings, llama, tmp_path, original, adapter):
    theirs = {f"{QUERY}.lora_A.weight": torch.ones(R, 48), f"{QUERY}.lora_B.weight": torch.ones(48, R)}
    assert to_llama(theirs, settings.to_dict(), llama, tmp_path).tensors is theirs
    assert to_llama(factors, settings.to_dict(), {**llama, "model_type": "bert"}, tmp_path).tensors is factors


def test_a_module_that_no_internlm2_has_is_told(command, tmp_path, original, factors, adapter):
    strange = {f"{PREFIX}v_head.lora_{part}.weight": torch.ones(shape) for part, shape in (("A", (R, 48)), ("B", (1, R)))}
    save_file({**factors, **strange}, adapter / "adapter_model.safetensors")
    hint = "  hint: merge it with peft\n"
    message = f"error SG499: the adapter in {adapter} cannot be mapped between InternLM2 and Llama: v_head\n{hint}"
    code, said = command(merging, original, adapter, "out")
    assert (code, said.endswith(message)) == (2, True), said
