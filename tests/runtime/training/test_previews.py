"""runtime/training/previews.py: the answers that are kept while training, whatever ended the last process."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from runtime.training.metrics import read_lines
from runtime.training.previews import FILE, Previews

TWO = {"every": 1, "prompts": ["Count 1.", "Count 2."], "max_new_tokens": 2}


@pytest.fixture
def previews(tmp_path, configured):
    """Previews of the first process, and what stands in the file whenever the model is asked."""
    seen = []

    def answer(*_, **__):
        seen.append((tmp_path / FILE).read_text())
        return SimpleNamespace(text="It is\u2028{1}")

    config = configured(tmp_path, train={"preview": TWO})
    trainer = SimpleNamespace(args=SimpleNamespace(process_index=0))
    bar = SimpleNamespace(note=lambda *_: None)
    return Previews(config, trainer, bar, tmp_path, SimpleNamespace(answer=answer)), config.train.preview, seen


def test_each_answer_is_in_the_file_before_the_next_is_asked_for(previews):
    asking, preview, seen = previews
    asking.show_answers(None, preview, 1)
    assert seen[0] == ""
    assert json.loads(seen[1]) == {"step": 1, "prompt": "Count 1.", "answer": "It is\u2028{1}"}


def test_a_line_that_was_cut_off_is_not_joined_to_the_next(previews, tmp_path):
    asking, preview, _ = previews
    for step in (1, 2):
        asking.show_answers(None, preview, step)
    with (tmp_path / FILE).open("a") as stream:
        stream.write('{"step": 3, "prompt": "Count {1}')
    asking.go_on(1)
    asking.show_answers(None, preview, 2)
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().strip().split("\n")]
    assert [(line["step"], line["prompt"]) for line in lines] == [(1, "Count 1."), (1, "Count 2."), (2, "Count 1."), (2, "Count 2.")]


def test_without_answers_so_far_there_is_no_file(previews, tmp_path):
    previews[0].go_on(1)
    assert not (tmp_path / FILE).exists()


def test_lines_that_are_no_objects_count_as_nothing(tmp_path):
    (tmp_path / FILE).write_bytes(b'{"step": 1}\n{"step": 2, "pro{"step": 3}\n16\n{"step": 4}\n\xff{"st')
    assert [line["step"] for line in read_lines(tmp_path / FILE)] == [1, 4]
