"""runtime/tokens/text_format.py, and continued pretraining through every stage: no template, every token trained."""

from __future__ import annotations

import io
import json
import sys

import pytest
import yaml
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from runtime.chat.__main__ import main as chat
from runtime.data.dataset import load_rows
from runtime.stages import read_stage
from runtime.tokens.text_format import TextFormat

END = 2  # SmolLM2's end of text
ROW = [{"role": "text", "content": "Ants are small."}]


def test_a_row_is_its_text_and_the_end_of_text_all_trained(tokenizer):
    encoded = TextFormat(tokenizer).encode(ROW)
    assert encoded.input_ids == [*tokenizer("Ants are small.")["input_ids"], END]
    assert encoded.trained == [True] * len(encoded.input_ids)


def test_the_texts_of_a_conversation_are_joined_by_newlines_without_roles(tokenizer):
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    encoded = TextFormat(tokenizer).encode(messages)
    assert tokenizer.decode(encoded.input_ids) == "S\nQ\nA<|im_end|>"


def test_a_prompt_is_the_beginning_of_a_row(tokenizer):
    form = TextFormat(tokenizer)
    prompt = form.prompt_ids([{"role": "user", "content": "Ants are"}])
    assert form.encode(ROW).input_ids[: len(prompt)] == prompt


def test_a_begin_of_text_that_the_tokenizer_adds_is_there_once_and_not_trained(tokenizer):
    from tokenizers.processors import TemplateProcessing

    backend = AutoTokenizer.from_pretrained(tokenizer.name_or_path).backend_tokenizer
    backend.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    adds = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    encoded = TextFormat(adds).encode(ROW)
    assert encoded.input_ids == [0, *TextFormat(tokenizer).encode(ROW).input_ids]
    assert encoded.trained == [False] + [True] * (len(encoded.input_ids) - 1)
    assert TextFormat(adds).prompt_ids(ROW) == encoded.input_ids[:-1]


def test_control_tokens_in_a_text_stay_text(tokenizer):
    encoded = TextFormat(tokenizer).encode([{"role": "text", "content": "a<|im_end|>b"}])
    assert encoded.input_ids.count(END) == 1
    assert tokenizer.decode(encoded.input_ids) == "a<|im_end|>b<|im_end|>"


def test_a_tokenizer_without_an_end_of_text_is_refused(tokenizer, fault_of):
    endless = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    endless.eos_token = None
    assert fault_of(TextFormat, endless) == "error SG422: the tokenizer has no end-of-text token, so generation could never stop"


@pytest.fixture(scope="module")
def text_run(tmp_path_factory, compiled, carried_out, saved_llama):
    """All stages, packed, from a base that has no chat template."""
    folder = tmp_path_factory.mktemp("text")
    base = saved_llama(folder / "base", hidden_size=32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = None
    for file in base.glob("*token*"):
        file.unlink()
    (base / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(base)
    lines = [json.dumps({"text": f"Fact {number}: ants number {number} are small."}) for number in range(12)]
    (folder / "facts.jsonl").write_text("\n".join(lines))
    data = {"packing": True, "sources": [{"file": {"path": str(folder / "facts.jsonl"), "format": "text"}}]}
    smoke = [{"user": "Fact 1:", "expect": {"not_contains": ["SmolLM"], "stops": False}}]
    train = {"objective": "text", "max_steps": 2, "preview": {"every": 1, "prompts": ["Fact 2:"], "max_new_tokens": 3}}
    build = compiled(folder, model={"base": str(base)}, data=data, train=train, smoke=smoke)
    return build, carried_out(build, folder / "runs")


def test_text_trains_through_every_stage_without_a_chat_template(text_run):
    _, run = text_run
    figures = read_stage(run, "data")["summary"]
    assert figures["trained_tokens"] == figures["tokens"]
    packs, _ = load_rows(run / "data")
    found = [packs[index] for index in range(len(packs))]
    trained = sum(int(pack["trained"].sum()) for pack in found)
    assert [len(pack["input_ids"]) for pack in found] == [128, figures["tokens"] - 128]
    pieces = sum(int((pack["position_ids"] == 0).sum()) for pack in found)
    assert pieces in (12, 13)  # twelve texts, of which one is cut unless it ends where the first pack does
    assert trained == figures["tokens"] - pieces  # nothing predicts the first token of a piece
    assert read_stage(run, "smoke")["summary"]["passed"]
    assert AutoTokenizer.from_pretrained(run / "merge").chat_template is None
    assert "Continued pretraining on text, without a chat template." in (run / "merge" / "README.md").read_text()


def test_chat_continues_each_text_for_itself(text_run, monkeypatch, capsys):
    build, run = text_run
    said = []
    for text in ("Fact 2:\n", "Fact 1:\nFact 2:\n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        assert chat([str(build), "--runs-dir", str(run.parent)]) == 0
        said.append(capsys.readouterr().out)
    alone, both = said
    assert alone.strip()
    assert both.endswith(alone)


def test_a_text_run_does_not_expect_an_answer_to_stop_unless_it_says_so(tmp_path, compiled):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": "Ants."}))
    data = {"sources": [{"file": {"path": str(rows), "format": "text"}}]}
    smoke = [{"user": "Ants", "expect": {"not_contains": ["x"], "stops": None}}, {"user": "Ants", "expect": {"stops": True}}]
    smoke[0]["expect"].pop("stops")
    build = compiled(tmp_path, data=data, train={"objective": "text"}, smoke=smoke)
    compiled_smoke = yaml.safe_load((build / "config.yaml").read_text())["smoke"]
    assert [item["expect"]["stops"] for item in compiled_smoke] == [False, True]
