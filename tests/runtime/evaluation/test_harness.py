"""runtime/evaluation/harness.py: tasks of lm-evaluation-harness; those that import it are slow."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest

from runtime.config import TaskConfig
from runtime.evaluation.harness import require_tasks, score_of

TASK = """\
task: colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_choice: ["red", "green", "blue"]
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc}}
  - {{metric: acc_norm}}
"""
QUESTIONS = [("What colour is grass?", 1), ("What colour is blood?", 0), ("What colour is the sky?", 2), ("What colour is a leaf?", 1)]


def task_of(file, **changed):
    given = {
        "name": "colours", "path": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "metric": "acc",
        "num_fewshot": None, "limit": None, "apply_chat_template": False, "min": None, "max": None, "better_than_base": False,
    }  # fmt: skip
    return TaskConfig(**{**given, **changed})


@pytest.fixture
def colours(tmp_path):
    data, file = tmp_path / "colours.jsonl", tmp_path / "colours.yaml"
    data.write_text("".join(json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in QUESTIONS))
    file.write_text(TASK.format(data=data))
    return file


def test_a_missing_package_is_told(monkeypatch, colours, fault_of):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert fault_of(require_tasks, [task_of(colours)]) == (
        "error SG695: eval.tasks need lm-evaluation-harness, which is not installed\n  hint: pip install 'specgen[eval]'"
    )
    require_tasks([])


def test_a_file_that_names_code_is_refused_and_so_is_one_that_has_changed(monkeypatch, colours, fault_of):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    before = task_of(colours)
    colours.write_text(colours.read_text().replace('"{{answer}}"', "!function colours.answer"))
    assert fault_of(require_tasks, [before]).startswith(f"error SG423: {colours} has changed")
    assert fault_of(require_tasks, [task_of(colours)]) == (
        f"error SG694: {colours}: it names Python code: '!function'\n"
        "  hint: write the texts with Jinja, doc_to_text: '{{question}}'; code of one's own is not run"
    )


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_a_task_comes_to_what_lm_evaluation_harness_says(colours, tiny_base, tiny_model, tokenizer, metric):
    """Expected from lm_eval.simple_evaluate, with its own loading of the model and of the task file."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    theirs = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tiny_base), "dtype": "float32"},
        tasks=["colours"],
        task_manager=TaskManager(include_path=str(colours.parent)),
        device="cpu",
        batch_size=2,
        bootstrap_iters=0,
    )["results"]["colours"]
    assert score_of(task_of(colours, metric=metric), tiny_model, tokenizer, batch_size=2) == theirs[f"{metric},none"]


@pytest.mark.slow
def test_what_a_task_does_not_have_is_told(colours, tiny_model, tokenizer, fault_of):
    text = fault_of(score_of, task_of(colours, metric="f1"), tiny_model, tokenizer, batch_size=2)
    assert text == "error SG697: task colours has no metric f1; it has acc, acc_norm\n  hint: metric: acc"
    (colours.parent / "colours.jsonl").unlink()
    text = fault_of(score_of, task_of(colours), tiny_model, tokenizer, batch_size=2)
    assert text.startswith("error SG696: task colours cannot be carried out: ")
    named = task_of(colours, name="arc_esay", path=None, sha256=None)
    assert fault_of(require_tasks, [named]) == (
        "error SG696: lm-evaluation-harness has no task arc_esay\n  hint: lm-eval ls tasks shows them"
    )


@pytest.mark.slow
def test_the_jinja_of_a_task_file_runs_in_a_sandbox(colours, tiny_model, tokenizer, fault_of):
    escape = "{{ ().__class__.__base__.__subclasses__() }}"
    colours.write_text(colours.read_text().replace("Q: {{question}}", escape))
    text = fault_of(score_of, task_of(colours), tiny_model, tokenizer, batch_size=2)
    assert text.startswith("error SG696: task colours cannot be carried out: SecurityError: ")
