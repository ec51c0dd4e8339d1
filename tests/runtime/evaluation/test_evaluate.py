"""runtime/evaluation/evaluate.py and what it stands on: batches of answers, perplexity, thresholds that gate a run."""

from __future__ import annotations

import json
import math

import pytest
import torch

from runtime import config as configs
from runtime.config import PerplexityConfig, ScoreConfig
from runtime.data.held_rows import asked_rows
from runtime.evaluation.batches import answers
from runtime.evaluation.evaluate import Measured, exact_match, judged, line_of
from runtime.evaluation.perplexity import perplexity, scored_rows
from runtime.generation.generate import generator_of
from runtime.run import pipeline
from runtime.stages import read_stage


def conversation(turns):
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


ROWS = [
    [("user", "Count 7."), ("assistant", "It is 7.")],
    [("system", "Be brief."), ("user", "Count 8 and 9, please."), ("assistant", "It is 8 and 9.")],
    [("user", "Hi."), ("assistant", "Hello!"), ("user", "Count 6."), ("assistant", "It is 6.")],
    [("user", "Hi."), ("assistant", "Hello!"), ("user", "Nobody answers this.")],
]
SILENT = conversation([("user", "Nobody answers this.")])


@pytest.fixture
def held_out(tmp_path):
    """A file of rows, and eval settings that read it."""
    file = tmp_path / "held_out.jsonl"
    file.write_text("".join(json.dumps(conversation(row)) + "\n" for row in ROWS))
    return lambda **settings: {"sources": [{"file": {"path": str(file)}}], "batch_size": 2, **settings}


@pytest.mark.parametrize("stop", [[], ["o", "e"]], ids=["none", "often"])
def test_answers_of_a_batch_are_those_of_one_after_another(tmp_path, configured, tiny_model, tokenizer, stop):
    config = configured(tmp_path, chat={"max_new_tokens": 12, "stop": stop}, smoke=[])
    generator = generator_of(config, tokenizer, config.chat)
    asked = [conversation(row[:-1]) for row in ROWS[:3]]
    found = list(answers(generator, tiny_model, asked, batch_size=2, max_new_tokens=12))
    singly = [generator.answer(tiny_model, row["messages"]) for row in asked]
    assert [(one.text, one.stopped, one.tokens) for one in found] == [(one.text, one.stopped, one.tokens) for one in singly]
    assert any(one.stopped for one in found) == bool(stop)


def test_rows_are_asked_up_to_their_last_answer(tmp_path, configured, held_out):
    asked = asked_rows(configured(tmp_path, eval=held_out()))
    assert [question.conversation for question in asked.questions] == [conversation(row[:-1]) for row in ROWS[:3]]
    assert [question.expected for question in asked.questions] == ["It is 7.", "It is 8 and 9.", "It is 6."]
    assert list(asked.told()) == ["4 rows, 1 of them without an answer at the end"]


def test_a_rule_of_the_evaluation_takes_its_values_from_another(tmp_path, configured):
    counted = {"name": "counted", "variables": {"n": [50, 51]}, "messages": [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}."}]}
    again = {"variables": {"v": {"rule": "counted"}}, "messages": [{"user": "Now: {{ v.user }}"}, {"assistant": "{{ v.assistant }}"}]}
    asked = asked_rows(configured(tmp_path, eval={"sources": [{"synthetic": counted}, {"synthetic": again}]}))
    questions = [question.conversation["messages"][0]["content"] for question in asked.questions]
    assert questions == ["Count 50.", "Count 51.", "Now: Count 50.", "Now: Count 51."]


def test_a_limit_takes_the_same_rows_each_time(tmp_path, configured, held_out):
    first, again = (asked_rows(configured(tmp_path, eval=held_out(limit=2))).rows for _ in range(2))
    assert first == again
    assert len(first) == 2


def test_perplexity_is_that_of_transformers_own_loss_over_the_trained_tokens(tmp_path, configured, held_out, tiny_model, tokenizer):
    """Expected from LlamaForCausalLM's own loss of each row, its labels set where an answer and its end of turn stand."""
    config = configured(tmp_path, eval=held_out())
    scored = scored_rows(config, [*map(conversation, ROWS), SILENT])
    assert list(scored.told()) == ["1 row is left out of the perplexity: a row has no trained token"]
    summed = tokens = 0
    for row in ROWS:
        messages = conversation(row)["messages"]
        ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        labels = [-100] * len(ids)
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                before = tokenizer.apply_chat_template(messages[:index], add_generation_prompt=True, return_dict=True)["input_ids"]
                said = tokenizer(message["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
                labels[len(before) : len(before) + len(said)] = said
        count = sum(label != -100 for label in labels)
        with torch.inference_mode():
            loss = tiny_model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        summed, tokens = summed + float(loss) * count, tokens + count
    assert perplexity(tiny_model, scored, batch_size=2, pad_id=0) == pytest.approx(math.exp(summed / tokens), rel=1e-5)


def measured(**figures):
    found = Measured()
    found.figures = figures
    return found


@pytest.mark.parametrize(
    ("wanted", "base", "tuned", "wanted_text", "problems"),
    [
        (ScoreConfig(min=None, better_than_base=False), 0.9, 0.1, "", []),
        (ScoreConfig(min=0.5, better_than_base=True), 0.25, 0.5, "at least 0.5, better than the base", []),
        (ScoreConfig(min=0.5, better_than_base=False), 0.25, 0.4, "at least 0.5", ["it is 0.4, less than 0.5"]),
        (ScoreConfig(min=None, better_than_base=True), 0.4, 0.4, "better than the base", ["it is 0.4, and the base has 0.4: no better"]),
        (PerplexityConfig(max=5.0, better_than_base=True), 9.0, 4.0, "at most 5, better than the base", []),
        (PerplexityConfig(max=5.0, better_than_base=False), 9.0, math.inf, "at most 5", ["it is inf, more than 5"]),
        (PerplexityConfig(max=None, better_than_base=True), 3.0, 4.0, "better than the base", ["it is 4, and the base has 3: no better"]),
    ],
)  # fmt: skip
def test_a_figure_is_held_against_its_threshold_and_the_base(wanted, base, tuned, wanted_text, problems):
    found = judged("it", wanted, measured(it=base), measured(it=tuned))
    assert (found["wanted"], found["problems"]) == (wanted_text, problems)


def test_a_figure_is_told_in_a_line():
    found = judged("rouge_l", ScoreConfig(min=0.5, better_than_base=False), measured(rouge_l=0.25), measured(rouge_l=0.75))
    assert line_of(found) == "✓ rouge_l base 0.25 → 0.75      (at least 0.5)"
    assert line_of(judged("rouge_l", ScoreConfig(min=None, better_than_base=False), None, measured(rouge_l=0.75))) == "rouge_l 0.75"


def test_only_spaces_at_the_ends_do_not_count():
    assert [exact_match(text, "It is 7.") for text in (" It is 7.\n", "It is  7.", "it is 7.", "")] == [1.0, 0.0, 0.0, 0.0]


def test_a_threshold_that_is_missed_fails_the_run_and_everything_is_kept(tmp_path, configured, held_out, finished_copy, capsys):
    _, run = finished_copy
    config = configured(tmp_path, eval=held_out(max_new_tokens=4, metrics={"exact_match": {"min": 0.5}}))
    again = {"build": tmp_path / "build", "runs_dir": run.parent, "only": (), "talk": ""}
    assert pipeline.run(config, **again) == 1
    said = capsys.readouterr().out
    for line in (
        "eval     4 rows, 1 of them without an answer at the end",
        "eval     ✗ exact_match base 0 → 0      (at least 0.5)",
        "           exact_match is 0, less than 0.5",
        f"The evaluation failed. Everything is kept in {run}",
    ):
        assert line in said, said
    assert pipeline.run(config, **again) == 1  # also when all is up to date
    assert "eval     up to date" in capsys.readouterr().out
    summary = read_stage(run, "eval")["summary"]
    assert (summary["rows"], summary["asked"], summary["scored"], summary["passed"]) == (4, 3, 4, False)
    assert [result["name"] for result in summary["results"]] == ["exact_match", "rouge_l", "perplexity"]
    lines = [json.loads(line) for line in (run / "eval" / "answers.jsonl").read_text().splitlines()]
    assert [line["expected"] for line in lines] == ["It is 7.", "It is 8 and 9.", "It is 6."]
    assert lines[0]["prompt"] == [{"role": "user", "content": "Count 7."}]
    assert set(lines[0]) == {"prompt", "expected", "base", "tuned", "exact_match", "rouge_l"}
    html = (run / "report" / "report.html").read_text()
    assert "The evaluation failed." in html
    assert "exact_match is 0, less than 0.5" in html
    assert "It is 8 and 9." in html
    assert pipeline.run(config, **{**again, "only": ("eval",)}) == 1
    assert pipeline.run(config, **{**again, "only": ("merge",)}) == 0


def test_where_nothing_is_asked_nothing_is_said_and_an_old_evaluation_is_not_shown(tmp_path, configured, held_out, finished_copy, capsys):
    build, run = finished_copy
    asked = configured(tmp_path, eval=held_out(base=False, metrics={"exact_match": None, "rouge_l": None}))
    assert pipeline.run(asked, build=tmp_path / "build", runs_dir=run.parent, only=(), talk="") == 0
    assert "eval     perplexity " in capsys.readouterr().out
    assert pipeline.run(configs.load(build), build=build, runs_dir=run.parent, only=(), talk="") == 0
    said = capsys.readouterr().out
    assert "eval" not in said
    assert "<h2>Evaluation" not in (run / "report" / "report.html").read_text()


def test_rows_of_which_none_is_left_are_refused(tmp_path, configured, held_out, fault_of):
    config = configured(tmp_path, eval=held_out())
    assert fault_of(scored_rows, config, [SILENT]) == (
        "error SG698: no row of eval.sources is left for the perplexity: a row has no trained token\n  hint: metrics: {perplexity: null}"
    )
