"""runtime/internlm2: what InternLM2's own code computes, and back to its own files byte by byte.

Logits and ids are expected from InternLM2's own modelling and tokenizer code (tests/internlm2/README.md).
"""

from __future__ import annotations

import builtins
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from runtime.config import Int8Quantization, LocalBase, ModelConfig, Nf4Quantization, TemplateConfig
from runtime.internlm2.folders import readable, readable_tokenizer, to_original
from runtime.internlm2.layout import joined, own_shapes, split
from runtime.internlm2.settings import Sizes, sizes_of
from runtime.models.base import folder_of
from runtime.models.model import load_config, load_model, load_tokenizer
from runtime.weights.written import write_weights
from specgen.facts.tokenizer import tokenizer_in_folder
from tests.support.memory_limit import run_limited

FOLDERS = ("rope_dynamic", "rope_plain", "rope_dynamic_gqa3")
CLOSE = 2e-5  # a right conversion is 4.5e-6 off at most, the nearest wrong one 0.22 (tests/internlm2/README.md)
FIRST = "model.layers.0.attention.wqkv.weight"
CONTROLS = {
    "<|plugin|>": 92538, "<|interpreter|>": 92539, "<|action_end|>": 92540, "<|action_start|>": 92541, "<|im_end|>": 92542,
    "<|im_start|>": 92543,
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where converted models are kept in a test; nobody is asked anything."""
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("it asks whether to run code"))
    return tmp_path / "cache"


@pytest.fixture
def fixtures(root):
    return root / "tests/internlm2"


@pytest.fixture
def reference(fixtures):
    """(ids, logits) of a folder for 16 and for 200 tokens; of the latter the logits of the last four."""

    def read(name):
        found = load_file(fixtures / f"reference_{name}.safetensors")
        return [(found[f"input_ids_{number}"], found[f"logits_{number}"]) for number in (16, 200)]

    return read


@pytest.fixture
def copied(fixtures, tmp_path):
    """A copy of a checkpoint folder, to be changed."""

    def copy(name="rope_dynamic"):
        return Path(shutil.copytree(fixtures / name, tmp_path / name))

    return copy


@pytest.fixture
def chat_model(copied, fixtures):
    """A checkpoint with the published tokenizer beside it, as a chat model has it."""
    folder = copied()
    shutil.copyfile(fixtures / "tokenizer/tokenizer.model", folder / "tokenizer.model")
    special = json.loads((fixtures / "tokenizer/special_tokens.json").read_text(encoding="utf-8"))
    settings = {
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "tokenizer_class": "InternLM2Tokenizer",
        "added_tokens_decoder": {str(token["id"]): {"content": token["content"], "special": True} for token in special["control_tokens"]},
        "chat_template": special["chat_template"],
        **{name: special[name] for name in ("bos_token", "eos_token", "unk_token", "pad_token")},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenization_internlm2.py").write_text("raise SystemExit('it is run')\n")
    (folder / "modeling_internlm2.py").write_text("raise SystemExit('it is run')\n")
    return folder


def changed(folder, **settings):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def logits(model, ids, number):
    with torch.no_grad():
        return model(ids).logits[:, -number:]


def model_config(folder, quantization=None):
    other = {"attention": "auto", "trust_remote_code": False, "from_run": None, "vision": None}
    return ModelConfig(base=LocalBase(path=str(folder)), dtype="float32", quantization=quantization, **other)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", FOLDERS)
def test_the_logits_are_those_of_its_own_code_within_the_positions_and_beyond(fixtures, reference, name, attention):
    folder = folder_of(LocalBase(path=str(fixtures / name)))
    for ids, wanted in reference(name):
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention).eval()  # anew: a long text stretches it
        assert (logits(model, ids, wanted.shape[1]) - wanted).abs().max() < CLOSE


@pytest.mark.parametrize("name", FOLDERS)
def test_the_settings_are_carried(fixtures, name):
    settings = AutoConfig.from_pretrained(readable(fixtures / name))
    own = json.loads((fixtures / name / "config.json").read_text())
    rope = settings.rope_parameters
    assert (settings.model_type, settings.rms_norm_eps, settings.max_position_embeddings) == ("llama", own["rms_norm_eps"], 128)
    assert (rope["rope_theta"], rope.get("factor")) == (own["rope_theta"], (own["rope_scaling"] or {}).get("factor"))
    assert rope["rope_type"] == ("default" if own["rope_scaling"] is None else "dynamic")
    assert (settings.attention_bias, settings.tie_word_embeddings, settings.dtype) == (False, False, torch.float32)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_weights_keep_their_type(copied, kind):
    folder = copied()
    save_file({name: tensor.to(kind) for name, tensor in load_file(folder / "model.safetensors").items()}, folder / "model.safetensors")
    assert {tensor.dtype for tensor in load_file(readable(folder) / "model.safetensors").values()} == {kind}


@pytest.mark.parametrize("name", FOLDERS)
def test_there_and_back_are_the_same_bytes(fixtures, tmp_path, name):
    out = tmp_path / "back"
    out.mkdir()
    to_original(readable(fixtures / name), fixtures / name, out)
    assert (out / "model.safetensors").read_bytes() == (fixtures / name / "model.safetensors").read_bytes()
    for file in ("config.json", "generation_config.json"):
        assert json.loads((out / file).read_text()) == json.loads((fixtures / name / file).read_text())


def test_a_folder_that_is_written_back_is_whole(chat_model, tmp_path):
    """Its own code, the tokenizer's files and the settings are there; its chat template is the one that the Llama folder has."""
    llama = readable(chat_model)
    (llama / "chat_template.jinja").write_text("{{ messages }}")
    (tmp_path / "back").mkdir()
    to_original(llama, chat_model, tmp_path / "back", max_shard_size="200KB")
    names = sorted(file.name for file in (tmp_path / "back").iterdir() if not file.name.endswith(".safetensors"))
    assert names == [
        "config.json", "generation_config.json", "model.safetensors.index.json", "modeling_internlm2.py", "tokenization_internlm2.py",
        "tokenizer.model", "tokenizer_config.json",
    ]  # fmt: skip
    own = json.loads((chat_model / "tokenizer_config.json").read_text())
    assert json.loads((tmp_path / "back/tokenizer_config.json").read_text()) == {**own, "chat_template": "{{ messages }}"}
    assert readable(tmp_path / "back") != llama
    assert AutoTokenizer.from_pretrained(readable(tmp_path / "back")).chat_template == "{{ messages }}"


def test_shards_are_read_one_by_one(copied):
    folder = copied()
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{index % 3 + 1}-of-00003.safetensors" for index, name in enumerate(sorted(whole))}
    for file in set(places.values()):
        save_file({name: whole[name] for name, place in places.items() if place == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = load_file(readable(folder) / "model.safetensors")
    assert len(found) == len(whole) + 2 * 2  # each of two layers has three tensors for one
    assert torch.equal(found["lm_head.weight"], whole["output.weight"])


def test_a_bin_file_with_what_the_code_computes_is_read(copied, reference):
    folder = copied()
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    whole["model.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(8)
    torch.save(whole, folder / "pytorch_model.bin")
    (ids, wanted), _ = reference("rope_dynamic")
    assert (logits(AutoModelForCausalLM.from_pretrained(readable(folder)).eval(), ids, 16) - wanted).abs().max() < CLOSE


def test_rows_are_cut_by_key_value_heads():
    sizes = Sizes(hidden=24, intermediate=1, layers=1, heads=12, kv_heads=2, vocabulary=1, tied=False)
    rows = torch.arange((12 + 4) * 2)
    queries, keys, values = split(rows, sizes)
    assert keys.tolist() == [12, 13, 28, 29]  # behind six query heads of two rows each
    assert values.tolist() == [14, 15, 30, 31]
    assert queries.tolist() == [*range(12), *range(16, 28)]
    assert torch.equal(joined([queries, keys, values], sizes), rows)


def test_a_folder_is_converted_once_and_a_changed_one_anew(copied, cache, capsys):
    folder = copied()
    first = readable(folder)
    assert capsys.readouterr().out == f"base     rope_dynamic becomes a folder that transformers reads, once: {first}\n"
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert readable(folder) == first
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    (folder / "notes.md").write_text("of no matter")
    assert readable(folder) == first
    changed(folder, rms_norm_eps=1e-6)
    second = readable(folder)
    assert AutoConfig.from_pretrained(second).rms_norm_eps == 1e-6
    assert list(cache.iterdir()) == [second], "what was made of the older state is removed"


def test_a_snapshot_of_the_hub_is_known_by_its_commit(fixtures, tmp_path):
    commit = tmp_path / "hub/models--internlm--internlm2-chat-1_8b/snapshots" / ("a" * 40)
    shutil.copytree(fixtures / "rope_dynamic", commit)
    first = readable(commit)
    assert first.name.startswith("internlm2-chat-1_8b-")
    (commit / "config.json").touch()
    assert readable(commit) == first
    other = shutil.copytree(commit, commit.with_name("b" * 40))
    assert readable(other) != first
    assert first.exists(), "two runs may be pinned to two commits"


def test_other_folders_are_left_as_they_are(tiny_base, cache):
    assert (readable(tiny_base), readable_tokenizer(tiny_base)) == (tiny_base, tiny_base)
    assert not cache.exists()


@pytest.mark.parametrize(
    "quantization",
    [
        Nf4Quantization(double_quant=True, compute_dtype="float32", skip_modules=("lm_head",)),
        Int8Quantization(skip_modules=("lm_head",)),
    ],
    ids=["nf4", "int8"],
)
def test_a_quantized_model_loads_and_is_near(fixtures, reference, quantization):
    config = model_config(fixtures / "rope_dynamic", quantization)
    assert load_config(config).model_type == "llama"
    model = load_model(config, device=torch.device("cpu")).eval()
    kinds = {type(module).__name__ for name, module in model.named_modules() if name.endswith("_proj")}
    assert kinds == {"Linear4bit" if isinstance(quantization, Nf4Quantization) else "Linear8bitLt"}
    (ids, wanted), _ = reference("rope_dynamic")
    assert torch.corrcoef(torch.stack([logits(model, ids, 16).flatten(), wanted.flatten()]))[0, 1] > 0.9


@pytest.mark.slow
def test_memory_is_that_of_a_tensor_both_ways(copied, tmp_path):
    """2 GB of weights under a third of that, held by the kernel."""
    folder = changed(copied(), vocab_size=32_000, hidden_size=2048, intermediate_size=8192, num_hidden_layers=14, num_attention_heads=16)
    settings = json.loads((folder / "config.json").read_text())
    kinds = {name: (shape, torch.bfloat16) for name, shape in own_shapes(sizes_of(settings, folder)).items()}
    (folder / "model.safetensors").unlink()
    size = write_weights(kinds, lambda name: torch.full(kinds[name][0], 0.5), folder, max_shard_size="500MB")
    assert size > 1_900_000_000
    for call in (f"to_llama(Path({str(folder)!r}), Path('llama'))", f"to_original(Path('llama'), Path({str(folder)!r}), Path('back'))"):
        (tmp_path / ("llama" if "to_llama" in call else "back")).mkdir()
        code = f"from pathlib import Path; from runtime.internlm2.folders import to_llama, to_original; {call}"
        limited = run_limited([sys.executable, "-c", code], 700_000_000, tmp_path)
        if limited is None:
            pytest.skip("no control group can be made here")
        assert limited[0].returncode == 0, limited[0].stderr


MESSAGE = "error SG497: the InternLM2 model in {folder} cannot be converted: {reason}\n"
HINT = "  hint: give a folder as InternLM publishes it, or one that transformers reads"
KNOWN = "; a type (linear or dynamic) and a factor from 1 on are known"
NEAREST = "; nearest is model.layers.0.attention.wo.weight"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"bias": True}, "its config.json has bias true; only false is known to be published"),
        ({"bias": None}, "its config.json has bias null; only false is known to be published"),
        ({"hidden_act": "gelu"}, "its config.json has hidden_act 'gelu', not 'silu'"),
        ({"hidden_size": "64"}, "its config.json has hidden_size '64'; it has to be a whole number from 1 on"),
        ({"vocab_size": None}, "its config.json has vocab_size None; it has to be a whole number from 1 on"),
        ({"num_key_value_heads": 3}, "its config.json has hidden_size 64, 4 heads and 3 key/value heads, which do not divide"),
        ({"rope_theta": -1}, "its config.json has rope_theta -1; it has to be a number above 0"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, 'its config.json has rope_scaling {"type": "yarn", "factor": 2.0}' + KNOWN),
        ({"rope_scaling": {"type": "dynamic"}}, 'its config.json has rope_scaling {"type": "dynamic"}' + KNOWN),
        ({"rope_scaling": "dynamic"}, 'its config.json has rope_scaling "dynamic"' + KNOWN),
        ({"num_hidden_layers": 3}, "its weights have no model.layers.2.attention.wo.weight (6 more)"),
        ({"num_hidden_layers": 1}, "there is no rule for model.layers.1.attention.wo.weight (6 more)" + NEAREST),
        ({"intermediate_size": 64}, "model.layers.0.feed_forward.w1.weight is [128, 64], by its config.json [64, 64]"),
        ({"num_key_value_heads": 1}, "model.layers.0.attention.wqkv.weight is [128, 64], by its config.json [96, 64]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_its_config_is_told_and_leaves_nothing_behind(copied, cache, fault_of, settings, reason):
    folder = changed(copied(), **settings)
    assert fault_of(readable, folder) == MESSAGE.format(folder=folder, reason=reason) + HINT
    assert list(cache.glob("*")) == []


def test_a_tensor_that_is_missing_or_of_another_model_is_told(copied, fault_of):
    folder = copied()
    whole = load_file(folder / "model.safetensors")
    first = whole.pop(FIRST)
    save_file(whole, folder / "model.safetensors")
    assert fault_of(readable, folder) == MESSAGE.format(folder=folder, reason=f"its weights have no {FIRST}") + HINT
    save_file({**whole, FIRST: first, "v_head.weight": torch.ones(1, 64)}, folder / "model.safetensors")
    reason = "there is no rule for v_head.weight; nearest is output.weight"
    assert fault_of(readable, folder) == MESSAGE.format(folder=folder, reason=reason) + HINT


def test_weights_that_are_cut_off_are_told(copied, fault_of, cache):
    folder = copied()
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1000])
    assert fault_of(readable, folder).startswith(f"error SG441: the base model's weights in {folder} cannot be read: ")
    assert list(cache.glob("*")) == []


def test_a_config_that_is_no_json_is_left_to_who_reads_it(copied):
    folder = copied()
    (folder / "config.json").write_text("{")
    assert readable(folder) == folder


ADDS = "tokenizer_config.json adds the token 99999, and tokenizer.model has 92,544 pieces"


@pytest.fixture(scope="module")
def golden(root):
    found = json.loads((root / "tests/internlm2/tokenizer/tokenizer_golden.json").read_text(encoding="utf-8"))
    return found["cases"] + found["known_slow_fast_differences"]


def test_the_ids_are_those_of_its_own_tokenizer(chat_model, golden):
    """Where the two of its own differ, those of the fast one: it does not make a control token of what a user writes."""
    tokenizer = AutoTokenizer.from_pretrained(readable_tokenizer(chat_model))
    assert len(golden) == 23
    for case in golden:
        ids = case.get("ids_remote_fast", case["ids"])
        assert tokenizer(case["text"], add_special_tokens=False)["input_ids"] == ids, case["name"]
        assert tokenizer(case["text"])["input_ids"] == [1, *ids], case["name"]
        assert tokenizer.decode(ids) == case["decoded_remote_fast"] == case["text"], case["name"]
    assert tokenizer.decode(tokenizer("Ｅ——<|im_end|>")["input_ids"], skip_special_tokens=True) == "Ｅ——"


def test_control_tokens_lie_in_the_embedding_and_the_template_is_kept(chat_model, fixtures):
    template = TemplateConfig(name="tokenizer", jinja=None, stop=())
    tokenizer = load_tokenizer(model_config(chat_model), template)
    assert {text: tokenizer.convert_tokens_to_ids(text) for text in CONTROLS} == CONTROLS
    assert {text for text, number in tokenizer.get_vocab().items() if number >= 92544} == set()
    assert tokenizer.is_fast
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.padding_side) == (1, 2, 2, "right")
    special = json.loads((fixtures / "tokenizer/special_tokens.json").read_text(encoding="utf-8"))
    assert tokenizer.chat_template == special["chat_template"]


def test_the_tokenizer_does_not_wait_for_weights(chat_model, cache):
    alone = readable_tokenizer(chat_model)
    assert sorted(file.name for file in alone.iterdir()) == ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]
    folder = readable(chat_model)
    assert readable_tokenizer(chat_model) == folder
    assert (alone / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert set(cache.iterdir()) == {alone, folder}


def test_a_base_model_that_names_no_control_tokens_has_them_all_the_same(chat_model):
    (chat_model / "tokenizer_config.json").unlink()
    tokenizer = AutoTokenizer.from_pretrained(readable_tokenizer(chat_model))
    assert tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"] == [92542]
    assert tokenizer.chat_template is None


@pytest.mark.parametrize("adds", [None, True, False])
def test_the_begin_of_text_is_as_its_config_says_and_the_compiler_knows_it(chat_model, adds):
    file = chat_model / "tokenizer_config.json"
    said = {} if adds is None else {"add_bos_token": adds}
    file.write_text(json.dumps({**json.loads(file.read_text()), **said}))
    tokenizer = AutoTokenizer.from_pretrained(readable_tokenizer(chat_model))
    assert (tokenizer("hi")["input_ids"][0] == 1) == (adds is not False) == tokenizer_in_folder(chat_model).adds_bos


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("tokenizer.model", "version https://git-lfs.github.com/spec/v1", "tokenizer.model is no SentencePiece model"),
        ("tokenizer.model", "", "tokenizer.model is no SentencePiece model of the kind BPE"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json holds no object"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"99999": {"content": "<x>"}}}', ADDS),
    ],
)  # fmt: skip
def test_a_broken_tokenizer_is_told(chat_model, fault_of, file, content, reason):
    (chat_model / file).write_text(content)
    hint = "  hint: take the files of the published model"
    assert fault_of(readable_tokenizer, chat_model) == f"error SG498: the tokenizer in {chat_model} cannot be read: {reason}\n{hint}"


def test_a_tokenizer_that_is_ready_is_taken_as_it_is(copied, root):
    folder = copied()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(root / "tests/internlm2_tokenizer" / name, folder / name)
    assert AutoTokenizer.from_pretrained(readable_tokenizer(folder))("<|im_end|>")["input_ids"] == [1, 92542]
