"""The sound rest of a spec with faults, from which other faults are told in the same go."""

from __future__ import annotations

import pytest

from specgen.partial import sound_part
from specgen.source import parse
from tests.conftest import SMALL


def sound(text):
    part = sound_part(parse(SMALL + text, "small.yaml"))
    return None if part is None else part.plain()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("train: {epochs: 1, learnng_rate: 1}", {"epochs": 1}),
        ("train: {epochs: many, seed: 1}", {"seed": 1}),
        ("train: {preview: {prompts: [1, Who?], every: 2}}", {"preview": {"prompts": ["Who?"], "every": 2}}),
        ("train: {preview: {prompts: [1]}}", {}),
    ],
)
def test_what_is_at_fault_is_left_out(text, left):
    assert sound(text)["train"] == left


def test_a_section_of_another_kind_takes_its_default():
    assert "adapter" not in sound("adapter: [lora]")


@pytest.mark.parametrize("text", ["specgen: 1\nname: x\n", "specgen: 2\nname: x\nmodel: {base: m}\ndata: {sources: []}\n"])
def test_nothing_is_sound_where_a_part_is_missing_that_has_to_be_there(text):
    assert sound_part(parse(text, "small.yaml")) is None
