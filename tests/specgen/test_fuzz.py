"""Mutated specs of the library: each compiles or is refused with diagnostics that print; none ends in a traceback."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specgen.compiler import compile_tree
from specgen.diagnostics import SpecError
from specgen.fmt import formatted
from specgen.printers import as_github, as_json, as_text
from specgen.schema import keys
from specgen.source import parse

# ruff: noqa: E501  (a table of values)
ROOT = Path(__file__).parents[2]
SPECS = [file.read_text(encoding="utf-8") for file in sorted((ROOT / "specs").glob("*.yaml")) if not file.name.endswith(".lock.yaml")]
WORDS = sorted({key.rpartition(".")[2] for key, _ in keys()})
VALUES = [
    None, True, False, 0, -1, 1, 2, 3, 7, 64, 10**9, 10**30, 0.0, -0.5, 0.3, 1e-300, 1e300, math.inf, "", " ", "no", "1e-4", "auto", "none", "null",
    "{{ x }}", "{% if %}", "{{ n.", "hf:a/b", "hf:", "package:", "package:os/x", "../x", "/dev/null", "~", "*", "a" * 5000, "\u202e", "\ud7ff", "\x00", "é",
    [], {}, [None], [[]], [{}], {"a": 1}, {"lora": {}}, {"nf4": {}}, {"file": {"path": "x"}}, {"hub": {"repo": "a/b"}}, ["q_proj"], {"jinja": "{{ messages }}"},
]  # fmt: skip
PIECES = [
    "- ",
    ": ",
    "\n",
    "  ",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    "#",
    "&a ",
    "*a",
    "<<: ",
    "|",
    ">",
    "%",
    "@",
    "`",
    "\t",
    "\r",
    "\ufeff",
    "!!python/object ",
    "? ",
]
EXAMPLES = int(os.environ.get("SPECGEN_FUZZ", "400"))  # of each kind
SLOW_ENOUGH = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def outcome(text: str) -> str:
    """What becomes of a spec: `compiled` or `refused`. Everything else is a fault of ours, and raises."""
    try:
        compiled = compile_tree(parse(text, "fuzzed.yaml"))
    except SpecError as error:
        assert error.diagnostics
        for fault in error.diagnostics:
            assert fault.code.startswith("SG") and fault.message
        assert as_text(error.diagnostics) and as_json(error.diagnostics) and as_github(error.diagnostics, ROOT)
        return "refused"
    assert compiled.files["config.yaml"]
    return "compiled"


def mutated_tree(tree: dict, chance: random.Random) -> dict:
    """The tree with a few of its parts dropped, renamed, moved, or given other values."""
    for _ in range(chance.choice([1, 1, 1, 2, 3, 6])):
        places = list(_places(tree))
        holder, step = chance.choice(places)
        match chance.randrange(7):
            case 0 | 1:
                holder[step] = chance.choice(VALUES)
            case 2 if isinstance(holder, dict):
                holder[chance.choice(WORDS)] = holder.pop(step)
            case 3:
                del holder[step]
            case 4:
                other, key = chance.choice(places)
                if step in (holder if isinstance(holder, dict) else range(len(holder))) and key in (
                    other if isinstance(other, dict) else range(len(other))
                ):
                    holder[step] = yaml.safe_load(yaml.safe_dump(other[key]))
            case 5 if isinstance(holder, dict):
                word = chance.choice(WORDS)
                holder[word] = chance.choice(VALUES)
            case 6:
                key, schema = chance.choice(list(keys()))
                _put(tree, key.split("."), chance.choice([*schema.get("enum", []), *schema["examples"], *VALUES[:20]]))
    return tree


def _places(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield value, key
            yield from _places(item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield value, index
            yield from _places(item)


def _put(tree, steps, value):
    for step in steps[:-1]:
        inner = tree.get(step)
        tree[step] = tree = inner if isinstance(inner, dict) else {}
    tree[steps[-1]] = value


@SLOW_ENOUGH
@given(seed=st.integers(0, 2**32))
def test_specs_with_other_values_never_end_in_a_traceback(seed):
    chance = random.Random(seed)
    tree = yaml.load(chance.choice(SPECS), Loader=yaml.CSafeLoader)
    text = yaml.safe_dump(mutated_tree(tree, chance), sort_keys=False, allow_unicode=chance.random() < 0.5)
    assert outcome(text) in ("compiled", "refused")


@SLOW_ENOUGH
@given(seed=st.integers(0, 2**32))
def test_specs_with_other_characters_never_end_in_a_traceback(seed):
    chance = random.Random(seed)
    text = chance.choice(SPECS)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at, width = chance.randrange(len(text) + 1), chance.choice([0, 0, 1, 3, 40])
        piece = chance.choice([*PIECES, chr(chance.randrange(1, 0xD7FF)), chance.choice(WORDS), "", ""])
        text = text[:at] + piece + text[at + width :]
    if outcome(text) == "compiled":
        assert parse(formatted(text, "fuzzed.yaml"), "fuzzed.yaml").plain() == parse(text, "fuzzed.yaml").plain()


def test_most_mutations_are_told_and_some_still_compile():
    """The mutations are worth something: they reach the checks behind the schema, and leave some specs whole."""
    told = []
    for seed in range(60):
        chance = random.Random(seed)
        tree = yaml.load(chance.choice(SPECS), Loader=yaml.CSafeLoader)
        told.append(outcome(yaml.safe_dump(mutated_tree(tree, chance), sort_keys=False)))
    assert {"compiled", "refused"} == set(told)
