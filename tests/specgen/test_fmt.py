"""specgen fmt: keys in the order of the schema; nothing that is written changes its meaning or its look."""

from __future__ import annotations

import random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from specgen.fmt import formatted
from specgen.source import parse

UNORDERED = """\
# what this is

train:   # the run
  # about seeds
  seed: 3

  epochs: 1e0
  # the end of train

# where rows come from
data:
  sources:
    - file:
        weight: 2
        # where
        path: a.jsonl   # here
    - synthetic:
        messages:
          - user: "{{ n }}"
          - assistant: |
              two

              lines
        variables: {n: [no, 010]}
  max_length: 64


name: 'b'
specgen: 1
smoke:
- expect:
    contains: [a]
  user: Hi
"""
ORDERED = """\
# what this is

specgen: 1

name: 'b'

# where rows come from
data:
  max_length: 64
  sources:
    - file:
        # where
        path: a.jsonl   # here
        weight: 2
    - synthetic:
        variables: {n: [no, 010]}
        messages:
          - user: "{{ n }}"
          - assistant: |
              two

              lines

train:   # the run
  epochs: 1e0
  # the end of train
  # about seeds
  seed: 3
smoke:
- user: Hi
  expect:
    contains: [a]
"""


def test_keys_are_in_the_order_of_the_schema_and_comments_go_with_them():
    assert formatted(UNORDERED, "spec.yaml") == ORDERED


def test_what_is_in_order_stays_as_it_is():
    assert formatted(ORDERED, "spec.yaml") == ORDERED


def test_every_spec_that_comes_along_is_in_order(root):
    specs = [file for file in sorted((root / "specs").glob("*.yaml")) if not file.name.endswith(".lock.yaml")]
    assert specs
    for spec in specs:
        text = spec.read_text(encoding="utf-8")
        assert formatted(text, str(spec)) == text, f"run: specgen fmt {spec}"


@pytest.mark.parametrize(
    "text",
    [
        "train: {epochs: 1, seed: 2}\nspecgen: 1\n",
        "x-lr: &lr 1e-4\ntrain: {learning_rate: *lr}\nspecgen: 1\n",
        "train:\n  <<: {seed: 1}\n  epochs: 2\nspecgen: 1\n",
        'name: "two\n\n  lines"\nspecgen: 1\n',
        "description: >-\n  folded\n  text\n\n\n\nspecgen: 1\n",
        "description: |+\n  kept  \n\n\nspecgen: 1\n",
        "? specgen\n: 1\n",
        "---\nname: a\nspecgen: 1\n",
        "name: a # c\n\n# alone\n\nspecgen: 1",
        "data:\n# not indented\n  sources: []\n  max_length: 8\nspecgen: 1\n",
        "specgen: 1\r\nname: a\r\n",
    ],
)
def test_awkward_specs_keep_their_meaning(text):
    result = formatted(text, "spec.yaml")
    assert parse(result, "spec.yaml").plain() == parse(text, "spec.yaml").plain()
    assert formatted(result, "spec.yaml") == result
    assert sorted(line.strip() for line in result.split("\n") if line.strip()) == sorted(
        line.strip() for line in text.split("\n") if line.strip()
    )


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), flow=st.sampled_from([None, False]), indent=st.integers(2, 4))
def test_shuffled_specs_come_back_in_order(seed, flow, indent, assistant):
    shuffled = yaml.safe_dump(_shuffled(assistant, random.Random(seed)), sort_keys=False, default_flow_style=flow, indent=indent)
    result = formatted(shuffled, "spec.yaml")
    assert parse(result, "spec.yaml").plain() == parse(shuffled, "spec.yaml").plain()
    assert formatted(result, "spec.yaml") == result
    if flow is False:
        ordered = yaml.load(result, Loader=yaml.CSafeLoader)
        assert list(ordered) == list(assistant)
        assert list(ordered["train"]) == list(assistant["train"])


@pytest.fixture(scope="module")
def assistant(root):
    return yaml.load((root / "specs/assistant.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def _shuffled(value, order):
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: _shuffled(value[key], order) for key in keys}
    return [_shuffled(item, order) for item in value] if isinstance(value, list) else value


def test_check_writes_nothing_and_names_the_command(cli, tmp_path):
    (tmp_path / "a.yaml").write_text(UNORDERED)
    (tmp_path / "b.yaml").write_text(ORDERED)
    ran = cli("fmt", "a.yaml", "b.yaml", "--check")
    assert (ran.code, ran.out) == (1, "a.yaml is not in order; run: specgen fmt a.yaml\n")
    assert (tmp_path / "a.yaml").read_text() == UNORDERED
    ran = cli("fmt", "a.yaml", "b.yaml")
    assert (ran.code, ran.out) == (0, "a.yaml formatted\n")
    assert (tmp_path / "a.yaml").read_text() == ORDERED


def test_a_spec_that_does_not_parse_is_left_alone_and_the_others_are_formatted(cli, tmp_path):
    (tmp_path / "a.yaml").write_text("train: {\n")
    (tmp_path / "b.yaml").write_text(UNORDERED)
    ran = cli("fmt", "a.yaml", "b.yaml")
    assert ran.code == 2
    assert ran.err.startswith("a.yaml:2:1: error SG003: not YAML: ")
    assert (tmp_path / "a.yaml").read_text() == "train: {\n"
    assert (tmp_path / "b.yaml").read_text() == ORDERED


def test_a_link_stays_a_link_and_a_file_keeps_its_mode(cli, tmp_path):
    file, link = tmp_path / "own.yaml", tmp_path / "link.yaml"
    file.write_text(UNORDERED)
    file.chmod(0o600)
    link.symlink_to("own.yaml")
    assert cli("fmt", "link.yaml").code == 0
    assert link.is_symlink()
    assert file.read_text() == ORDERED
    assert file.stat().st_mode & 0o777 == 0o600
