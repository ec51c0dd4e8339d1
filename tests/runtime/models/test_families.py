"""A tiny random model of each family, of the class that transformers has for it: from data to an answer, by its own chat template."""

from __future__ import annotations

import builtins
import json
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from conversations.generation_tag import without_tags
from conversations.templates import library
from runtime.stages import read_stage
from runtime.talking.talker import Loading, of_run
from specgen.compiler import compile_spec
from tests.runtime.conftest import laid_over
from tests.runtime.small_models import small_model
from tests.runtime.small_tokenizers import CONTROLS, small_tokenizer

QUESTION, ANSWER = "Who are you?", "I am Aria."
WINDOW = 12  # shorter than a row
ROWS = 16
NF4 = {"nf4": {"double_quant": True, "compute_dtype": "float32"}}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model type with what is its own: tokenizer, chat template, what ends an answer (the end of turn first), linear modules.

    `sizes` are values of its config; `published` stands in config.json as there, where it is older than transformers' form. With
    `has_code` the folder brings code of its own along, as published, which must never run.
    """

    kind: str
    cls: str
    template: str
    controls: tuple[str, ...]
    end: str
    stops: tuple[str, ...]
    begin: str = "<s>"
    begins: bool = False
    split: str = "llama-bpe"
    sizes: dict[str, Any] = field(default_factory=dict)
    published: dict[str, Any] = field(default_factory=dict)
    has_code: bool = False
    modules: tuple[str, ...] = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    said: str = ANSWER


IM_END = ("<|im_end|>",)
HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
TURNS = ("<start_of_turn>", "<end_of_turn>")
GEMMA = {"begin": "<bos>", "begins": True, "end": "<eos>", "controls": TURNS, "stops": ("<end_of_turn>", "<eos>"), "split": "llama"}
PHI = {"end": "<|endoftext|>", "modules": ("down_proj", "gate_up_proj", "o_proj", "qkv_proj")}
INTERNLM = {"begins": True, "end": "</s>", "controls": CONTROLS, "stops": (*IM_END, "</s>"), "split": "llama"}
LLAMA3 = {"begin": "<|begin_of_text|>", "begins": True, "end": "<|end_of_text|>", "controls": HEADERS}
QWEN = {"controls": ("<|endoftext|>", "<|im_start|>"), "end": "<|im_end|>", "split": "qwen2", "sizes": {"tie_word_embeddings": True}}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
FAMILIES = {
    "internlm3": Family(
        kind="internlm3", cls="LlamaForCausalLM", template="internlm3", **INTERNLM, sizes={"head_dim": 24},
        published={
            "rope_theta": 50_000_000, "rope_scaling": {"rope_type": "dynamic", "factor": 6.0}, "bias": False, "qkv_bias": False,
        },
        has_code=True,
    ),
    "llama": Family(
        kind="llama", cls="LlamaForCausalLM", template="llama3", **LLAMA3, stops=("<|eot_id|>", "<|end_of_text|>"),
        published={"rope_theta": 500_000.0, "rope_scaling": LLAMA3_ROPE},
    ),
    "qwen2": Family(kind="qwen2", cls="Qwen2ForCausalLM", template="chatml", **QWEN, stops=IM_END),
    "qwen3": Family(
        kind="qwen3", cls="Qwen3ForCausalLM", template="qwen3", **QWEN, stops=("<|im_end|>", "<|endoftext|>"),
        said=f"<think>\n\n</think>\n\n{ANSWER}",
    ),
    "mistral": Family(
        kind="mistral", cls="MistralForCausalLM", template="mistral_v3", begins=True, end="</s>", controls=("[INST]", "[/INST]"),
        stops=("</s>",), split="llama", sizes={"sliding_window": WINDOW}, said=f" {ANSWER}",
    ),
    "gemma": Family(kind="gemma", cls="GemmaForCausalLM", template="gemma", **GEMMA),
    "gemma2": Family(
        kind="gemma2", cls="Gemma2ForCausalLM", template="gemma2", **GEMMA,
        sizes={"sliding_window": WINDOW, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 9.0},
    ),
    "gemma3": Family(kind="gemma3_text", cls="Gemma3ForCausalLM", template="gemma3", **GEMMA, sizes={"sliding_window": WINDOW}),
    "phi3": Family(
        kind="phi3", cls="Phi3ForCausalLM", template="phi3", **PHI, controls=("<|user|>", "<|assistant|>", "<|end|>"),
        stops=("<|end|>", "<|endoftext|>"), split="llama", sizes={"sliding_window": WINDOW}, has_code=True,
    ),
    "phi4": Family(
        kind="phi3", cls="Phi3ForCausalLM", template="phi4", **PHI, controls=("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
        stops=("<|im_end|>", "<|endoftext|>"), sizes={"tie_word_embeddings": True, "original_max_position_embeddings": 128},
        published={"rope_theta": 10_000.0, "partial_rotary_factor": 0.75, "rope_scaling": LONGROPE},
    ),
}  # fmt: skip


QUANTIZED = ("internlm3", "mistral", "qwen3", "gemma2", "gemma3", "phi3")
FULL = ("gemma2", "qwen3", "phi4")  # with one weight for the embedding and the output layer
NO_SDPA = ("gemma2",)  # it bounds its attention's scores


@dataclass(frozen=True, kw_only=True)
class Made:
    """A family's base and the run that was made of it."""

    family: Family
    base: Path
    build: Path
    run: Path

    @property
    def losses(self) -> list[float]:
        return [json.loads(line)["loss"] for line in (self.run / "train/metrics.jsonl").read_text().splitlines()]


def write_base(family: Family, folder: Path) -> Path:
    tokenizer = small_tokenizer(family.split, begins=family.begins, begin=family.begin, end=family.end, controls=family.controls)
    tokenizer.chat_template = without_tags(library()[family.template].jinja)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}  # the padding's row is 0
    sizes = {"vocab_size": len(tokenizer), "initializer_range": 0.2, **family.sizes}
    small_model(family.kind, **ids, **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    for key in ("rope_parameters", "attention_bias", "mlp_bias") if family.published else ():
        settings.pop(key, None)
    if family.has_code:
        settings["auto_map"] = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
        for name in ("configuration_own.py", "modeling_own.py"):
            (folder / name).write_text("raise SystemExit('it is run')\n")
    (folder / "config.json").write_text(json.dumps({**settings, **family.published}))
    return folder


@pytest.fixture(scope="module", autouse=True)
def nobody_is_asked():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(builtins, "input", lambda *_: pytest.fail("it asks whether to run code"))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, compiled, carried_out):
    """The base of a family, and its run up to the merge, in packs of several rows; the plain one is made once."""
    done: dict[str, Made] = {}

    def make(name: str, **sections: Any) -> Made:
        if sections or name not in done:
            family, folder = FAMILIES[name], tmp_path_factory.mktemp(name)
            base = write_base(family, folder / "base")
            rule = {"messages": [{"user": QUESTION}, {"assistant": ANSWER}], "repeat": ROWS}
            given = {
                "model": {"base": str(base)},
                "template": family.template,
                "data": {"max_length": 96, "packing": True, "sources": [{"synthetic": rule}]},
                "adapter": {"lora": {"r": 16, "alpha": 32, "targets": "all-linear"}},
                "train": {"max_steps": 30, "batch_size": 2},
                "chat": {"max_new_tokens": 40},
                "smoke": [],
            }
            build = compiled(folder, **laid_over(given, sections))
            run = carried_out(build, folder / "runs", "data", "train", "convert", "merge")
            new = Made(family=family, base=base, build=build, run=run)
            if sections:
                return new
            done[name] = new
        return done[name]

    return make


def ids_of(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    conversation = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    return tokenizer.apply_chat_template(conversation, return_tensors="pt")["input_ids"]


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(ids).logits


def plainly(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)


def generated(folder):
    """What a user of transformers gets to read, and the token at its end."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt")
    output = plainly(folder).generate(**prompt, max_new_tokens=40)[0, prompt["input_ids"].shape[1] :]
    return tokenizer.decode(output, skip_special_tokens=True), tokenizer.convert_ids_to_tokens(int(output[-1]))


def stored(folder):
    return {name: list(tensor.shape) for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_compiler_has_nothing_to_say_about_a_family_and_its_template(made, name):
    one = made(name)
    found = {(diagnostic.code, diagnostic.severity) for diagnostic in compile_spec(one.build.parent / "spec.yaml").diagnostics}
    assert found <= {("SG257", "warning"), ("SG224", "note")}  # the learning rate, and the base's end of text beside the end of turn


@pytest.mark.parametrize("name", FAMILIES)
def test_it_learns_in_packs_as_it_would_from_rows_alone(made, name):
    one = made(name)
    train = read_stage(one.run, "train")["summary"]
    assert one.losses[0] > 5
    assert one.losses[-1] < 0.6
    assert (train["packed_difference"] < 1e-5, train["whole_logits_because"], train["rows"] < ROWS) == (True, None, True)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_adapter_is_one_of_peft_on_every_linear_layer_and_the_merge_is_the_same_model(made, name):
    one = made(name)
    ids = ids_of(one.run / "merge")
    base = plainly(one.base)
    before = logits(base, ids)
    adapted = PeftModel.from_pretrained(base, one.run / "convert")
    found = Counter(name.split(".lora_A.")[0].rpartition(".")[2] for name in stored(one.run / "convert") if ".lora_A." in name)
    assert found == dict.fromkeys(one.family.modules, base.config.num_hidden_layers)
    with_adapter = logits(adapted, ids)
    assert (with_adapter - before).abs().max() > 1
    assert (logits(plainly(one.run / "merge"), ids) - with_adapter).abs().max() < 1e-3
    figures = read_stage(one.run, "merge")["summary"]
    assert figures["distance"] <= figures["limit"] < 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_the_merged_folder_is_the_familys_own_with_its_settings_and_tensors(made, name):
    one = made(name)
    model, config = plainly(one.run / "merge"), AutoConfig.from_pretrained(one.base)
    assert (type(model).__name__, model.config.model_type) == (one.family.cls, one.family.kind)
    assert stored(one.run / "merge") == stored(one.base)
    known = {"_name_or_path", "dtype", "transformers_version"}
    before, after = ({key: value for key, value in found.to_dict().items() if key not in known} for found in (config, model.config))
    assert after == before
    assert ("auto_map" in json.loads((one.run / "merge/config.json").read_text())) == one.family.has_code
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == config.tie_word_embeddings


@pytest.mark.parametrize("name", FAMILIES)
def test_the_merged_folder_has_the_template_and_all_that_ends_an_answer(made, name):
    one = made(name)
    tokenizer = AutoTokenizer.from_pretrained(one.run / "merge")
    assert tokenizer.chat_template == without_tags(library()[one.family.template].jinja)
    ends = GenerationConfig.from_pretrained(one.run / "merge").eos_token_id
    found = {tokenizer.convert_ids_to_tokens(number) for number in (ends if isinstance(ends, list) else [ends])}
    assert found == set(one.family.stops)


@pytest.mark.parametrize("name", FAMILIES)
def test_chat_and_plain_transformers_answer_as_was_learned_and_stop(made, name):
    one = made(name)
    answer = of_run(one.build, one.run.parent, "spec.yaml", Loading()).answer([{"role": "user", "content": QUESTION}])
    assert (answer.text, answer.stopped) == (one.family.said, True)
    text, end = generated(one.run / "merge")
    assert (text, end) == (one.family.said, one.family.stops[0])


def test_internlm3_as_published_has_a_sentencepiece_model_and_code_which_is_not_run(tmp_path, root, compiled, carried_out):
    """Its tokenizer.model is InternLM2's here: what counts is that control tokens stand behind its pieces, and no tokenizer.json."""
    base = write_base(FAMILIES["internlm3"], tmp_path / "base")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (base / file).unlink()
    shutil.copyfile(root / "tests/internlm2/tokenizer/tokenizer.model", base / "tokenizer.model")
    controls = {92544: "<|im_start|>", 92545: "<|im_end|>"}
    own = {"auto_map": {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}, "tokenizer_class": "InternLM3Tokenizer"}
    own |= {"added_tokens_decoder": {str(number): {"content": text, "special": True} for number, text in controls.items()}}
    own |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>", "add_bos_token": True}
    (base / "tokenizer_config.json").write_text(json.dumps(own))
    (base / "tokenization_own.py").write_text("raise SystemExit('it is run')\n")
    settings = {**json.loads((base / "config.json").read_text()), "vocab_size": 92_546, "hidden_size": 16, "eos_token_id": 2}
    (base / "config.json").write_text(json.dumps(settings))
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)).save_pretrained(tmp_path / "weights")
    shutil.copyfile(tmp_path / "weights/model.safetensors", base / "model.safetensors")
    build = compiled(tmp_path, model={"base": str(base)}, template="internlm3", train={"max_steps": 1, "batch_size": 4}, smoke=[])
    run = carried_out(build, tmp_path / "runs", "data", "train", "convert", "merge")
    wanted = [1, 92544, 1008, 364, 70447, 61297, 92545, 364, 92544, 525, 11353, 364]  # those of SentencePiece between the controls
    for tokenizer in (of_run(build, run.parent, "spec.yaml", Loading()).tokenizer, AutoTokenizer.from_pretrained(run / "merge")):
        asked = [{"role": "user", "content": "你是谁"}]
        assert tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"] == wanted


@pytest.mark.parametrize("name", QUANTIZED)
def test_in_4_bits_it_is_merged_into_what_it_was_trained_on(made, name):
    one = made(name, model={"quantization": NF4, "attention": "eager" if name in NO_SDPA else "sdpa"})
    figures = read_stage(one.run, "merge")["summary"]
    assert figures["base"] == "dequantized"
    assert figures["distance"] <= figures["limit"] < 1e-3
    assert figures["distance_to_trained"] < 1e-3
    assert read_stage(one.run, "train")["summary"]["packed_difference"] < 1e-5
    assert generated(one.run / "merge") == (one.family.said, one.family.stops[0])


@pytest.mark.parametrize("name", FULL)
def test_all_its_weights_may_be_trained(made, name):
    one = made(name, adapter=None, train={"learning_rate": 3.0e-3})
    model = plainly(one.run / "merge")
    assert type(model).__name__ == one.family.cls
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert stored(one.run / "merge") == stored(one.base)
    assert generated(one.run / "merge") == (one.family.said, one.family.stops[0])


def test_experts_are_told_before_they_are_trained_and_attention_alone_is_merged(tmp_path, compiled, carried_out, fault_of):
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    qwen = replace(FAMILIES["qwen3"], kind="qwen3_moe", sizes=experts)
    base = {"base": str(write_base(qwen, tmp_path / "base"))}
    build = compiled(tmp_path / "all", model=base, template="qwen3", train={"max_steps": 2}, smoke=[])
    text = fault_of(carried_out, build, tmp_path / "runs", "data", "train")
    assert text == (
        "error SG467: targets: all-linear adapts experts (down_proj, gate.weight, gate_up_proj), which no merge knows\n"
        "  hint: write adapter.lora.targets: [k_proj, o_proj, q_proj, v_proj]"
    )
    lora = {"lora": {"targets": ["q_proj", "k_proj", "v_proj", "o_proj"]}}
    build = compiled(tmp_path / "attention", model=base, template="qwen3", adapter=lora, train={"max_steps": 2}, smoke=[])
    run = carried_out(build, tmp_path / "runs", "data", "train", "convert", "merge")
    figures = read_stage(run, "merge")["summary"]
    assert figures["distance"] <= figures["limit"] < 1e-3
    assert type(plainly(run / "merge")).__name__ == "Qwen3MoeForCausalLM"
