"""runtime/smoke.py: what an answer has to be like."""

from __future__ import annotations

import pytest

from runtime.config import ExpectConfig
from runtime.generate import Answer
from runtime.smoke import unmet
from runtime.stages import read_stage


def expect(**changed):
    return ExpectConfig(**{"contains": (), "not_contains": (), "matches": (), "stops": False, **changed})


ANSWER = Answer(text="I am Aria.\nHello!", stopped=False, tokens=7)


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
    assert unmet(expect(stops=True), Answer(text="", stopped=True, tokens=1)) == []


def test_the_transcript_holds_answers_of_the_merged_and_of_the_base_model(finished):
    _, run = finished
    summary = read_stage(run, "smoke")["summary"]
    (entry,) = summary["transcript"]
    assert summary["passed"]
    assert entry["user"] == "Count 1."
    assert entry["answer"] != entry["base"]
    assert 0 < entry["tokens"] <= 6
