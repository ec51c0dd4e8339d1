"""specgen/validate.py: wording, order, and the nearest right word. Single messages are under tests/specs_bad."""

from __future__ import annotations

import pytest

from specgen.diagnostics import Place
from specgen.source import parse
from specgen.validate import dotted, place_of, validate


@pytest.fixture
def said(small):
    """What is said of the small spec with this text behind it, as `line:column code message`."""

    def said(text):
        faults = validate(parse(small + text, "spec.yaml"))
        return [f"{fault.place.line}:{fault.place.column} {fault.code} {fault.message}" for fault in faults]

    return said


def test_a_valid_spec_has_no_faults(said):
    assert said("") == []


def test_the_default_spec_is_valid(root):
    assert validate(parse((root / "specs/assistant.yaml").read_text(encoding="utf-8"), "assistant.yaml")) == []


def test_an_unknown_key_points_at_the_key_and_suggests(said):
    assert said("train: {warmup_stepps: 3}\n") == ["11:9 SG101 train.warmup_stepps is no key of train; did you mean 'warmup_steps'?"]


def test_a_key_that_is_there_already_is_not_suggested(said):
    assert said("train: {epoch: 1}\n") == ["11:9 SG101 train.epoch is no key of train; did you mean 'epochs'?"]
    assert said("train: {epochs: 1, epoch: 1}\n")[0].startswith("11:20 SG101 train.epoch is no key of train")
    assert "epochs" not in said("train: {epochs: 1, epoch: 1}\n")[0].partition("did you mean")[2]


def test_a_key_of_another_section_is_sent_home(said):
    assert said("train: {max_length: 1}\n") == ["11:9 SG102 train.max_length is no key of train; max_length belongs under data"]


def test_keys_of_ones_own_are_free_at_the_top_only(said):
    assert said("x-note: [anything, 1]\n") == []
    assert said("train: {x-note: 1}\n")[0].startswith("11:9 SG101 train.x-note is no key of train")


def test_a_wrong_type_hides_what_follows_from_it(said):
    assert len(said("train: {warmup_steps: many}\n")) == 1
    assert len(said("distributed: {zero_stage: two}\n")) == 1


def test_a_boolean_is_no_number_and_a_number_no_boolean(said):
    assert said("train: {seed: true}\n")[0].startswith("11:15 SG103 train.seed is true")
    assert said("train: {gradient_checkpointing: 1}\n") == [
        "11:33 SG103 train.gradient_checkpointing is the number 1; it has to be true or false"
    ]


def test_numbers_are_shown_as_they_were_written(said):
    assert said("description: 1.10\n") == ["11:14 SG103 description is the number 1.10; it has to be text"]


def test_whole_numbers_may_be_written_with_an_exponent(said):
    assert said("train: {save_steps: 1e3}\n") == []


def test_faults_come_in_the_order_of_the_file(said):
    lines = said("chat: {top_p: 2}\ntrain: {epochs: 0, seed: -1}\nadapter: {lora: {r: 0}}\n")
    assert [line.partition(" ")[0] for line in lines] == ["11:15", "12:17", "12:26", "13:21"]


def test_a_path_is_written_with_dots_and_brackets():
    assert dotted(["data", "sources", 0, "file", "path"]) == "data.sources[0].file.path"
    assert dotted([]) == ""


def test_a_default_stands_where_its_section_stands(small):
    tree = parse(small + "train: {seed: 1}\n", "spec.yaml")
    assert place_of(tree, "train", "seed") == Place(file="spec.yaml", line=11, column=15)
    assert place_of(tree, "train", "epochs") == Place(file="spec.yaml", line=11, column=1, width=5)


def test_thousands_of_unknown_keys_are_counted(said):
    lines = said("train: {" + ", ".join(f"k{number}: 1" for number in range(5000)) + "}\n")
    assert len(lines) == 101
    assert lines[-1].partition(" ")[2] == "SG101 train has 4,900 more keys that are none of its own"


def test_thousands_of_other_faults_are_counted(said):
    lines = said("smoke: [" + ", ".join(["7"] * 3000) + "]\n")
    assert len(lines) == 201
    assert lines[-1].partition(" ")[2] == "SG103 2,800 more faults from here on"


def test_a_key_of_great_length_is_cut_in_the_message(said):
    (line,) = said("train: {? " + "k" * 100_000 + " : 1}\n")
    assert line == f"11:11 SG101 train.{'k' * 67}… is no key of train"
