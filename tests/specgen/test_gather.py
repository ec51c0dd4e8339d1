"""specgen/facts/gather.py: which keys of a spec facts come from."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from specgen.compiler import checked
from specgen.facts.gather import READ, gather, reads_facts
from specgen.source import parse

MORE = """\
template: chatml
train: {preview: {prompts: [Who are you?]}}
smoke: [{user: Hi, expect: {contains: [Hello]}}]
eval: {sources: [{synthetic: {messages: [{user: Bye}, {assistant: Bye.}]}}]}
"""


def only_read(node, path=()):
    """A tree without the keys that no fact is said to come from."""
    kept = {key: only_read(child, (*path, key)) if (*path, key) not in READ else child for key, child in node.children.items()}
    return replace(node, value={key: child for key, child in kept.items() if reads_facts((*path, key))})


def test_facts_come_from_no_other_keys_than_those_that_are_said(small):
    tree = checked(parse(small + MORE, "small.yaml"))
    kept = only_read(tree)
    assert set(kept.children) == {"model", "template", "data", "train", "smoke", "eval"}
    assert set(kept.children["train"].children) == {"seed", "preview"}
    whole, part = gather(tree), gather(kept)
    assert part[1] == whole[1] == []
    assert [(source.rows, source.texts) for source in part[0].sources] == [(source.rows, source.texts) for source in whole[0].sources]
    assert (part[0].base, part[0].template, part[0].tested) == (whole[0].base, whole[0].template, whole[0].tested)


@pytest.mark.parametrize(
    ("path", "reads"),
    [
        (("model", "vision", "tower"), True),
        (("model",), True),
        (("train",), True),
        (("train", "seed"), True),
        (("train", "preview", "prompts"), True),
        (("data", "sources", 0, "file", "path"), True),
        (("eval", "tasks"), True),
        (("model", "dtype"), False),
        (("train", "learning_rate"), False),
        (("adapter", "lora", "r"), False),
    ],
)
def test_a_key_is_read_where_it_is_in_what_is_read_or_around_it(path, reads):
    assert reads_facts(path) == reads


def test_files_of_tasks_that_cannot_be_read_have_no_hash(small, tmp_path):
    (tmp_path / "four.yaml").write_text("task: four\n")
    named = f"eval: {{tasks: [{{name: four, path: {tmp_path}/four.yaml}}, {{name: a, path: {tmp_path}/none.yaml}}, {{name: b}}]}}\n"
    facts, _ = gather(checked(parse(small + named, "small.yaml")))
    assert facts.task_files == {f"{tmp_path}/four.yaml": hashlib.sha256(b"task: four\n").hexdigest()}
