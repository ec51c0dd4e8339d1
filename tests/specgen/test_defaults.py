"""specgen/defaults.py: a complete tree, with places only where the user wrote something."""

from __future__ import annotations

import jsonschema
import pytest

from specgen.defaults import complete
from specgen.schema import spec_schema
from specgen.source import parse


@pytest.fixture
def completed(small):
    return lambda text="": complete(parse(small + text, "spec.yaml"))


def missing(value, schema, path="spec"):
    """Keys that a complete tree lacks."""
    if isinstance(value, dict) and schema.get("maxProperties") != 1:
        for key, sub in schema.get("properties", {}).items():
            if key not in value:
                yield f"{path}.{key}"
            else:
                yield from missing(value[key], sub, f"{path}.{key}")


def test_no_key_is_missing_afterwards(completed):
    assert list(missing(completed().plain(), spec_schema())) == []


def test_a_complete_tree_is_valid(completed):
    jsonschema.validate(completed().plain(), spec_schema())


def test_completing_twice_changes_nothing(completed):
    assert complete(completed()) == completed()


def test_defaults_stand_nowhere_and_what_was_written_keeps_its_place(completed):
    tree = completed("train: {seed: 7}\n")
    assert tree.at("train", "epochs").place is None
    assert tree.at("chat").place is None
    assert str(tree.at("train", "seed").place) == "spec.yaml:11:15"


def test_sections_inside_list_items_and_variants_are_completed(completed):
    tree = completed("smoke: [{user: Hi, expect: {contains: [a]}}]\nadapter: {lora: {r: 4}}\n")
    assert tree.at("data", "sources", 0, "synthetic").plain()["repeat"] == 1
    expected = {"contains": ["a"], "not_contains": [], "matches": [], "stops": True}
    expect = tree.at("smoke", 0, "expect").plain()
    assert {key: expect[key] for key in expected} == expected
    lora = {"r": 4, "alpha": 32.0, "dropout": 0.0, "targets": "all-linear"}
    filled = tree.at("adapter").plain()["lora"]
    assert {key: filled[key] for key in lora} == lora
    assert (filled["use_rslora"], filled["init_lora_weights"], filled["rank_pattern"], filled["layers_to_transform"]) == (
        False,
        "default",
        {},
        None,
    )


def test_a_section_that_is_null_stays_null(completed):
    assert completed().at("train", "preview").value is None
    assert completed().at("data", "validation").value is None


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("train: {save_steps: 1e3}\n", ("train", "save_steps"), 1000),
        ("train: {epochs: 2}\n", ("train", "epochs"), 2.0),
        ("chat: {seed: 5.0}\n", ("chat", "seed"), 5),
        ("train: {max_steps: null}\n", ("train", "max_steps"), None),
    ],
)
def test_numbers_have_the_type_of_their_key(completed, text, path, expected):
    found = completed(text).at(*path).value
    assert (type(found), found) == (type(expected), expected)


def test_variables_keep_the_type_that_they_were_written_in(small):
    text = small.replace("        messages:", "        variables: {v: [1, 1.0, true, '1']}\n        messages:")
    values = complete(parse(text, "spec.yaml")).at("data", "sources", 0, "synthetic", "variables", "v").plain()
    assert [type(value) for value in values] == [int, float, bool, str]
