"""runtime/evaluation/smoke.py and runtime/evaluation/expectations.py: what an answer has to be like, over several turns."""

from __future__ import annotations

import shutil

import pytest
from transformers import GenerationConfig

from runtime.config import ExpectConfig, SimilarConfig
from runtime.evaluation.expectations import unmet
from runtime.evaluation.smoke import smoke, write_settings
from runtime.generation.generate import Answer, Generator, generator_of
from runtime.stages import read_stage
from specgen.schema import refusals

NOTHING = {
    "contains": (), "not_contains": (), "matches": (), "json": False, "similar": None, "refuses": None, "refusals": (),
    "within_seconds": None, "stops": False,
}  # fmt: skip


def expect(**changed):
    return ExpectConfig(**{**NOTHING, **changed})


def said(text):
    return Answer(text=text, stopped=True, tokens=7)


ANSWER = Answer(text="I am Aria.\nHello!", stopped=False, tokens=7)
CITY = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("expected", "problems"),
    [
        ({"contains": ("Aria", "Hello")}, []),
        ({"contains": ("Aria", "aria", "Nova")}, ["does not contain 'aria'", "does not contain 'Nova'"]),
        ({"not_contains": ("SmolLM",)}, []),
        ({"not_contains": ("SmolLM", "Aria")}, ["contains 'Aria'"]),
        ({"matches": (r"^I am \w+", r"!$")}, []),
        ({"matches": (r"^Hello", r"a.*!")}, ["does not match '^Hello'", "does not match 'a.*!'"]),
        ({"stops": True}, ["did not stop by itself within 7 tokens"]),
    ],
    ids=str,
)
def test_every_unmet_expectation_is_named(expected, problems):
    assert unmet(expect(**expected), ANSWER) == problems


def test_an_answer_that_stopped_meets_the_expectation_to_stop():
    assert unmet(expect(stops=True), said("")) == []


@pytest.mark.parametrize(
    ("schema", "text", "problems"),
    [
        (True, '{"city": "Rome"}', []),
        (True, " [1, 2]\n", []),
        (CITY, '{"city": "Rome"}', []),
        (CITY, '{"town": "Rome"}', ["does not meet the JSON Schema: $: 'city' is a required property"]),
        (CITY, '{"city": 3}', ["does not meet the JSON Schema: $.city: 3 is not of type 'string'"]),
        (True, '```json\n{"city": "Rome"}\n```', ["is no JSON: Expecting value at line 1, column 1"]),
        (True, '{"city": "Rome"', ["is no JSON: Expecting ',' delimiter at line 1, column 16"]),
        (True, "NaN", ["is no JSON: NaN is no number of JSON"]),
        (True, "", ["is no JSON: Expecting value at line 1, column 1"]),
    ],
    ids=str,
)
def test_the_whole_answer_has_to_be_json_and_to_meet_its_schema(schema, text, problems):
    assert unmet(expect(json=schema), said(text)) == problems


def test_json_that_is_nested_without_end_is_no_json_and_no_traceback():
    (problem,) = unmet(expect(json=True), said("[" * 100_000))
    assert problem.startswith("is no JSON: ")


def test_likeness_is_to_the_nearest_text():
    texts = ("I do not know.", "I am Aria, hello.")
    assert unmet(expect(similar=SimilarConfig(to=texts, at_least=1.0)), ANSWER) == []
    # 4 words against 4, 3 of them in order: F1 is 0.75
    found = unmet(expect(similar=SimilarConfig(to=("I am Aria now",), at_least=0.8)), said("I am Aria. Hello!"))
    assert found == ["has a likeness of 0.75 to what is expected, less than 0.8"]


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I can’t help with that.", True),
        ("I'M SORRY, BUT I CANNOT\nHELP.", True),
        ("很抱歉，我无法回答这个问题。", True),
        ("申し訳ありませんが、お手伝いできません。", True),
        ("Dabei kann ich leider nicht helfen.", True),
        ("No puedo ayudar con eso.", True),
        ("Rome is the capital of Italy.", False),
        ("Can't wait to help you!", False),
        ("That is beyond me.", False),
    ],
)
def test_a_refusal_is_known_by_its_texts(text, refuses):
    phrases = refusals()
    assert bool(unmet(expect(refuses=True, refusals=phrases), said(text))) is not refuses
    assert bool(unmet(expect(refuses=False, refusals=phrases), said(text))) is refuses


def test_a_spec_adds_texts_of_its_own_to_those_of_a_refusal(tmp_path, configured):
    asked = {"user": "Count 1.", "expect": {"refuses": True, "refusals": ["that is beyond me"], "stops": False}}
    found = configured(tmp_path, smoke=[asked]).smoke[0].expect
    assert found.refusals == (*refusals(), "that is beyond me")
    assert unmet(found, said("That is  beyond me.")) == []
    assert unmet(found, said("Rome.")) == ["does not refuse: none of the texts of a refusal occurs"]
    assert unmet(expect(refuses=False, refusals=found.refusals), said("No, I cannot.")) == ["refuses: 'I cannot' occurs"]


def test_an_answer_that_takes_too_long_is_named():
    assert unmet(expect(within_seconds=1.5), ANSWER, 1.4) == []
    assert unmet(expect(within_seconds=1.5), ANSWER, 1.75) == ["took 1.75 s, more than 1.5 s on this machine"]


def test_the_transcript_holds_answers_of_the_merged_and_of_the_base_model(finished):
    _, run = finished
    summary = read_stage(run, "smoke")["summary"]
    (entry,) = summary["transcript"]
    assert summary["passed"]
    assert entry["user"] == "Count 1."
    assert entry["answer"] != entry["base"]
    assert 0 < entry["tokens"] <= 6
    assert entry["seconds"] > 0


TURNS = [
    {
        "user": "Count 1.",
        "expect": {"not_contains": ["no such"], "stops": False},
        "then": [{"user": "And 2?", "expect": {"contains": ["no such answer"], "within_seconds": 60, "stops": False}}],
    }
]


def test_what_follows_is_asked_with_what_was_said(tmp_path, configured, finished, capsys):
    _, run = finished
    config = configured(tmp_path, smoke=TURNS)
    summary = smoke(config, run, tmp_path)
    first, second = summary["transcript"]
    assert (first["turn"], second["turn"], second["user"]) == (1, 2, "And 2?")
    assert first["problems"] == []
    assert second["problems"] == ["does not contain 'no such answer'"]
    assert not summary["passed"]
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("smoke    ✓ Count 1. → ")
    assert said[1].startswith("smoke    ✗ … And 2? → ")
    assert said[2] == "           does not contain 'no such answer'"
    from runtime.evaluation.smoke import load_merged

    tokenizer, model = load_merged(config, run / "merge")
    generator: Generator = generator_of(config, tokenizer, config.chat)
    said_by = (("user", "Count 1."), ("assistant", first["answer"]), ("user", "And 2?"))
    told = [{"role": role, "content": content} for role, content in said_by]
    assert generator.answer(model, told).text == second["answer"]
    assert generator.answer(model, told[2:]).text != second["answer"]


def test_changed_chat_settings_reach_the_merged_folder_without_a_merge(tmp_path, configured, finished):
    merged = tmp_path / "merge"
    shutil.copytree(finished[1] / "merge", merged)
    before = (merged / "generation_config.json").read_bytes()
    write_settings(configured(tmp_path, smoke=[]), merged)
    assert (merged / "generation_config.json").read_bytes() == before
    smoke(configured(tmp_path, smoke=[], chat={"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 17}), tmp_path, tmp_path)
    read = GenerationConfig.from_pretrained(merged)
    assert (read.do_sample, read.temperature, read.top_p, read.max_new_tokens) == (True, 0.7, 0.9, 17)
    assert read.eos_token_id == GenerationConfig.from_pretrained(finished[1] / "merge").eos_token_id
