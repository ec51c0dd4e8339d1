"""The schema in an editor: what the language server behind VS Code's and Neovim's YAML support says of a spec that names it."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest

from specgen.schema import spec_schema
from tests.editor.language_server import LanguageServer

SPEC = """\
# yaml-language-server: $schema=../schemas/spec.schema.json
specgen: 1
name: assistant
model:
  base: models/mine
data:
  sources:
    - synthetic:
        messages:
          - user: Who are you?
          - assistant: I am Aria.
train:
  learning_rate: 5.0e-4
  schedule: cosine
"""
NUMBERS = itertools.count()
SCHEDULES = spec_schema()["properties"]["train"]["properties"]["schedule"]["enum"]


@pytest.fixture(scope="module")
def server(root):
    program = root / ".venv/node/node_modules/.bin/yaml-language-server"
    if shutil.which("node") is None or not program.exists():
        pytest.skip(f"{program} is not there, or node is not: run make .venv/node/ready (needs npm)")
    server = LanguageServer([str(program), "--stdio"])
    yield server
    server.close()


@pytest.fixture
def opened(server, root):
    """Opens a text as a file of its own under specs/, and returns its address and what is underlined in it."""

    def opened(text):
        uri = (root / f"specs/opened-{next(NUMBERS)}.yaml").as_uri()
        return uri, server.open(uri, text)

    return opened


def labels(completion):
    items = completion["items"] if isinstance(completion, dict) else completion
    return [item["label"] for item in items]


def test_the_keys_of_a_section_are_offered_with_their_descriptions(server, opened):
    uri, _ = opened(SPEC + "  \n")
    completion = server.ask_at("textDocument/completion", uri, 15, 3)
    train = spec_schema()["properties"]["train"]["properties"]
    assert labels(completion) == [key for key in train if key not in ("learning_rate", "schedule")]
    seed = next(item for item in completion["items"] if item["label"] == "seed")
    assert seed["documentation"] == train["seed"]["description"]


def test_every_section_is_offered_at_the_top(server, opened):
    uri, _ = opened(SPEC + "\n")
    known = spec_schema()["properties"]
    offered = labels(server.ask_at("textDocument/completion", uri, 15, 1))
    assert offered == [key for key in known if key not in ("specgen", "name", "model", "data", "train")]


def test_the_values_of_a_key_are_offered(server, opened):
    uri, _ = opened(SPEC.replace("schedule: cosine", "schedule: "))
    assert labels(server.ask_at("textDocument/completion", uri, 14, 13)) == SCHEDULES


def test_the_variants_of_a_source_are_offered(server, opened):
    uri, _ = opened(SPEC.replace("train:", "    - \ntrain:"))
    assert labels(server.ask_at("textDocument/completion", uri, 12, 7)) == ["synthetic", "file", "hub", "llm"]


@pytest.mark.parametrize(
    ("behind", "column", "expected"),
    [
        ("adapter:\n  l", 4, ["lora"]),
        ("distributed:\n  ", 3, list(spec_schema()["properties"]["distributed"]["properties"])),
        ("hardware:\n  ", 3, ["device", "devices", "device_memory", "compute_capability"]),
        ("smoke:\n  - user: Hi\n    ", 5, ["image", "expect", "then"]),
    ],
)
def test_the_keys_of_other_sections_are_offered(server, opened, behind, column, expected):
    uri, _ = opened(SPEC + behind)
    line = (SPEC + behind).count("\n") + 1
    assert [label for label in labels(server.ask_at("textDocument/completion", uri, line, column)) if " " not in label] == expected


def test_hovering_over_a_key_shows_its_description(server, opened):
    uri, _ = opened(SPEC)
    hover = server.ask_at("textDocument/hover", uri, 13, 5)
    assert "The highest rate, reached at the end of the warm-up." in hover["contents"]["value"]
    assert hover["range"] == {"start": {"line": 12, "character": 2}, "end": {"line": 12, "character": 15}}


def test_a_good_spec_has_nothing_underlined(opened):
    assert opened(SPEC)[1] == []


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("learning_rate: 5.0e-4", "learnng_rate: 5.0e-4", (13, 3, 15), "Property learnng_rate is not allowed."),
        ("learning_rate: 5.0e-4", "learning_rate: fast", (13, 18, 22), 'Incorrect type. Expected "number".'),
        ("learning_rate: 5.0e-4", "learning_rate: 0", (13, 18, 19), "Value is below the exclusive minimum of 0."),
        ("cosine", "cosin", (14, 13, 18), f"Value is not accepted. Valid values: {', '.join(json.dumps(name) for name in SCHEDULES)}."),
        ("  base: models/mine", "  dtype: float16", (4, 1, 6), 'Missing property "base".'),
        ("name: assistant", "name: my assistant", (3, 7, 19), "String does not match the pattern of "),
    ],
)
def test_a_fault_is_underlined_where_it_stands(opened, old, new, place, message):
    assert SPEC.count(old) == 1
    ((line, start, end, said),) = opened(SPEC.replace(old, new))[1]
    assert (line, start, end) == place
    assert said.startswith(message)


def test_every_spec_that_comes_along_is_good_in_an_editor(opened, root):
    specs = [spec for spec in sorted((root / "specs").glob("*.yaml")) if not spec.name.endswith(".lock.yaml")]
    assert len(specs) > 30
    underlined = {spec.name: opened(spec.read_text(encoding="utf-8"))[1] for spec in specs}
    assert {name: faults for name, faults in underlined.items() if faults} == {}
