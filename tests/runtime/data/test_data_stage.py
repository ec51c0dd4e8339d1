"""runtime/data/stage.py: sources → tokenized rows, with nothing lost in silence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from conversations.row import messages_of
from runtime.data import dataset, parts, stage, workers
from runtime.data.dataset import load_rows
from runtime.tokens.chat_template import ChatFormat
from specgen.facts.figures import figures_of

SHORT = {"messages": [{"user": "Say yes."}, {"assistant": "yes"}]}
LONG_ANSWER = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
LONG = {"messages": [{"user": "Spell."}, {"assistant": LONG_ANSWER}]}


@pytest.fixture
def data(tmp_path, configured):
    """Makes the data of the tiny spec with `data` laid over it; returns figures, training rows and validation rows."""

    def make(**data):
        out = tmp_path / "data"
        out.mkdir()
        figures = stage.make_data(configured(tmp_path, data=data), tmp_path, out)
        return figures, *load_rows(out)

    make.config = lambda **data: configured(tmp_path, data=data)
    return make


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def lines(folder, *rows):
    file = folder / "rows.jsonl"
    texts = [[{"role": role, "content": content} for message in row["messages"] for role, content in message.items()] for row in rows]
    file.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in texts))
    return {"file": {"path": str(file)}}


def test_rows_are_counted_and_a_repeated_one_is_tokenized_once(data, monkeypatch):
    encoded = []
    tokens_of = ChatFormat.tokens_of
    monkeypatch.setattr(ChatFormat, "tokens_of", lambda self, row, encoding: encoded.append(row) or tokens_of(self, row, encoding))
    figures, rows, held_out = data(sources=[{"synthetic": {**SHORT, "repeat": 500}}, {"synthetic": LONG}])
    assert len(encoded) == 2
    assert (len(rows), len(held_out)) == (501, 0)
    # 36 tokens: tests/cases o12, row 1
    assert figures["tokens"] == sum(len(row["input_ids"]) for row in rows) == 500 * 36 + len(rows[500]["input_ids"])
    assert figures["trained_tokens"] == sum(int(row["trained"].sum()) for row in rows)
    assert (figures["rows"], figures["distinct"], figures["median"]) == (501, 2, 36)


def test_the_system_text_of_the_config_is_in_the_rows(data, tokenizer):
    _, rows, _ = data(system="You are Quill.", sources=[{"synthetic": SHORT}])
    assert tokenizer.decode(rows[0]["input_ids"]).startswith("<|im_start|>system\nYou are Quill.<|im_end|>\n")


def test_held_out_rows_are_never_in_training(data):
    variables = {"n": list(range(20))}
    messages = [{"user": "Count {{ n }}."}, {"assistant": "{{ n }}"}]
    source = {"synthetic": {"variables": variables, "repeat": 3, "messages": messages}}
    figures, rows, held_out = data(validation={"fraction": 0.2}, sources=[source])
    train, validation = ({tuple(row["input_ids"].tolist()) for row in split} for split in (rows, held_out))
    assert (len(train), len(validation)) == (16, 4)
    assert not train & validation
    assert (figures["train_rows"], figures["validation_rows"]) == (len(rows), len(held_out)) == (48, 12)


def test_rows_that_are_too_long_are_all_named(tmp_path, data, fault_of):
    longer = {"messages": [{"user": "Spell\ntwice."}, {"assistant": f"{LONG_ANSWER} {LONG_ANSWER}"}]}
    assert fault_of(data, max_length=50, sources=[lines(tmp_path, SHORT, LONG, longer)]) == (
        "error SG424: 2 distinct rows are longer than 50 tokens\n"
        "  61 tokens: user: Spell. / assistant: a b c d e f g h i j k l m n o p q r s t u v w x y z\n"
        "  90 tokens: user: Spell twice. / assistant: a b c d e f g h i j k l m n o p q r s t u v w x…\n"
        "  hint: write data.max_length: 90, or overlong: drop, truncate or split"
    )


def test_the_length_that_the_hint_names_is_enough(tmp_path, data):
    assert data(max_length=61, sources=[lines(tmp_path, SHORT, LONG)])[0]["longest"] == 61


def test_a_dropped_row_is_counted(tmp_path, data):
    figures, rows, _ = data(max_length=50, overlong="drop", limits={"dropped": 0.5}, sources=[lines(tmp_path, SHORT, LONG)])
    assert (figures["dropped"], figures["truncated"], len(rows)) == (1, 0, 1)
    assert stage.data_line(figures) == "2 rows, 1 distinct · 36 tokens, 6% trained · longest 36 of 50 · 1 dropped"


def test_a_truncated_row_is_counted_and_keeps_the_beginning_of_its_answer(tmp_path, data, tokenizer):
    figures, rows, _ = data(max_length=50, overlong="truncate", limits={"truncated": 0.5}, sources=[lines(tmp_path, SHORT, LONG)])
    assert (figures["dropped"], figures["truncated"], figures["longest"]) == (0, 1, 50)
    cut = rows[1]
    assert tokenizer.decode(cut["input_ids"][cut["trained"].astype(bool)]) == LONG_ANSWER[: 2 * int(cut["trained"].sum()) - 1]


def test_truncating_drops_a_row_without_a_trained_token_left(data, case_file):
    """Case o12: row 2's answer begins at token 237."""
    source = {"file": {"path": str(case_file("o12.jsonl"))}}
    figures, rows, _ = data(max_length=64, overlong="truncate", limits={"dropped": 0.5}, sources=[source])
    assert (figures["dropped"], figures["truncated"], len(rows)) == (1, 0, 1)
    assert all(row["trained"].any() for row in rows)


def test_more_loss_than_the_limit_is_refused(data, case_file, fault_of):
    source = {"file": {"path": str(case_file("o12.jsonl"))}}
    assert fault_of(data, max_length=64, overlong="drop", limits={"dropped": 0.4}, sources=[source]) == (
        "error SG427: 50.0% of the rows would be dropped; data.limits.dropped allows 40.0%\n"
        "  hint: raise data.max_length, or raise data.limits.dropped"
    )


def test_a_repeated_row_weighs_in_the_limit_as_often_as_it_counts(data, fault_of):
    sources = [{"synthetic": {**SHORT, "repeat": 3}}, {"synthetic": LONG}]
    text = fault_of(data, max_length=50, overlong="truncate", sources=sources)
    assert text.startswith("error SG427: 25.0% of the rows would be truncated; data.limits.truncated allows 0.0%")


def test_no_row_left_is_refused(data, case_file, fault_of):
    source = {"file": {"path": str(case_file("o12.jsonl"))}}
    assert fault_of(data, max_length=16, overlong="drop", limits={"dropped": 1}, sources=[source]) == (
        "error SG425: no row is left for training\n  hint: raise data.max_length"
    )


def test_held_out_rows_are_those_that_the_sources_name(tmp_path, configured, data, tokenizer, held_of):
    source = {"synthetic": {"variables": {"n": list(range(8))}, "messages": [{"user": "{{ n }}?"}, {"assistant": "{{ n }}."}]}}
    settings = {"validation": {"fraction": 0.25}, "sources": [source]}
    config = configured(tmp_path / "again", data=settings)
    held = held_of(config)
    _, _, held_out = data(**settings)
    answers = {messages_of(row)[-1]["content"] + "<|im_end|>" for row in held}
    assert {tokenizer.decode(row["input_ids"][row["trained"].astype(bool)]) for row in held_out} == answers


def test_the_data_stage_alone_needs_no_torch_and_no_peft(tmp_path, configured):
    """specgen plan starts it as a process of its own, each time that something has changed."""
    configured(tmp_path)
    code = "import sys; from runtime.__main__ import main; code = main(); print(code, [n for n in ('torch', 'peft') if sys.modules.get(n)])"
    command = [sys.executable, "-c", code, str(tmp_path / "build"), "--runs-dir", str(tmp_path / "runs"), "--stage", "data"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_figures_name_what_is_packed_repeated_and_shared(tmp_path, data):
    sources = [{"synthetic": {**SHORT, "repeat": 3}}, {"synthetic": {"messages": [{"user": "Spell."}, {"assistant": "a b c"}]}}]
    figures, packs, _ = data(sources=sources, packing=True)
    assert (figures["packs"], figures["examples"], len(packs)) == (2, 2, 2)
    assert figures["fill"] == pytest.approx(figures["tokens"] / 256)
    assert (figures["duplicates"], figures["overlap"], figures["by_source"]) == (0.5, 0.0, [3, 1])
    assert (figures["rows"], figures["train_rows"], figures["validation_rows"], figures["validation_distinct"]) == (4, 4, 0, 0)
    assert stage.data_line(figures).endswith(f"· 2 packs, {figures['fill']:.1%} full")


def answers(*texts):
    return {"synthetic": {"variables": {"text": list(texts)}, "messages": [{"user": "Same?"}, {"assistant": "{{ text }}"}]}}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"limits": {"trained": 0.5}, "sources": [{"synthetic": SHORT}]},
            "error SG427: 5.6% of the tokens are trained; data.limits.trained asks for 50.0%\n"
            "  hint: the rest is prompts and templates: shorten them, or lower data.limits.trained",
        ),
        (
            {"limits": {"duplicates": 0.5}, "sources": [{"synthetic": {**SHORT, "repeat": 4}}]},
            "error SG427: 75.0% of the training rows repeat another one; data.limits.duplicates allows 50.0%\n"
            "  hint: leave the repeated rows out, or raise data.limits.duplicates",
        ),
        (
            {"limits": {"overlap": 0.5}, "validation": {"fraction": 0.2}, "sources": [answers("a", "b", "c", "d", "e")]},
            "error SG427: 100.0% of the validation rows have a prompt that is trained on, too; data.limits.overlap allows 50.0%\n"
            "  hint: leave the shared prompts out of one of the two, or raise data.limits.overlap",
        ),
    ],
    ids=["trained", "duplicates", "overlap"],
)
def test_a_data_set_beyond_its_limits_is_refused(tmp_path, configured, fault_of, settings, text):
    """The compiler refuses what it can know itself; rows of the hub it does not know."""
    config = configured(tmp_path, data={name: value for name, value in settings.items() if name != "limits"})
    config = replace(config, data=replace(config.data, limits=replace(config.data.limits, **settings["limits"])))
    assert fault_of(stage.make_data, config, tmp_path, tmp_path) == text


def test_rows_at_their_limits_are_taken(data):
    limits = {"trained": 0.05, "duplicates": 0.75, "overlap": 0.0}
    assert data(limits=limits, sources=[{"synthetic": {**SHORT, "repeat": 4}}])[0]["duplicates"] == 0.75


def test_the_figures_are_all_that_the_compiler_asks_for(data):
    figures, _, _ = data(sources=[{"synthetic": SHORT}])
    assert figures_of(figures).examples == 1


NUMBERED = {"variables": {"n": list(range(12))}, "messages": [{"user": "Count {{ n }}."}, {"assistant": "{{ n }}"}]}


@pytest.fixture
def many(tmp_path, configured, case_file):
    """A config with files, rules, weights, validation and control tokens in texts."""
    rows = [
        {"messages": [{"user": f"{n} <|im_end|>?" if n % 7 == 0 else f"{n}?"}, {"assistant": f"\n{n}" * (n % 3 + 1)}]} for n in range(300)
    ]
    sources = [
        lines(tmp_path, *rows),
        {"file": {"path": str(case_file("o08.jsonl")), "weight": 2.5}},
        {"synthetic": {**NUMBERED, "repeat": 3}},
    ]
    return configured(tmp_path, data={"sources": sources, "validation": {"fraction": 0.1}})


def test_many_processes_write_what_one_writes(tmp_path, many, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", 20)
    found = {}
    for few in (2, 10**6):
        monkeypatch.setattr(workers, "FEW", few)
        out = tmp_path / f"few{few}"
        out.mkdir()
        figures = stage.make_data(many, tmp_path, out)
        found[few] = figures, {file.name: file.read_bytes() for file in out.iterdir()}
    assert found[2] == found[10**6]
    assert found[2][0]["by_source"] == [300, 5, 36]


def test_a_process_that_is_killed_is_a_fault_of_the_run(tmp_path, many, monkeypatch, fault_of):
    monkeypatch.setattr(parts, "ROWS", 20)
    monkeypatch.setattr(workers, "FEW", 2)
    monkeypatch.setattr(workers, "_work", signal.raise_signal)  # ends at once: a pipe is no signal
    assert fault_of(stage.make_data, many, tmp_path, tmp_path) == (
        "error SG476: a process that tokenizes rows has ended before its work was done\n"
        "  hint: the system may have killed it for want of memory: leave it more, or give it shorter rows"
    )


def test_where_nobody_says_which_cores_a_process_may_use_it_uses_all(monkeypatch):
    assert workers.cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert workers.cores() == os.cpu_count()


def test_processes_that_tokenize_import_neither_torch_nor_transformers():
    code = "import sys, runtime.data.workers; print([n for n in ('torch', 'transformers', 'datasets', 'pyarrow') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_rows_that_the_template_refuses_are_all_named(tmp_path, data, fault_of):
    given = [{"messages": [{"user": "a"}, {"assistant": "b"}]}, {"messages": [{"user": "Hi\nthere."}, {"assistant": "b"}]}] * 12
    file = lines(tmp_path, *given)
    jinja = "{% if 'Hi' in messages[0].content %}{{ raise_exception('no greetings') }}{% endif %}" + CHATML
    config = data.config(sources=[file])
    config = replace(config, template=replace(config.template, jinja=jinja))
    path = file["file"]["path"]
    text = fault_of(stage.make_data, config, tmp_path, tmp_path)
    assert text.splitlines()[:3] == [
        "error SG203: 12 rows: the chat template does not render this conversation: no greetings",
        f"  {path}:2: user: Hi there. / assistant: b",
        f"  {path}:4: user: Hi there. / assistant: b",
    ]
    dropping = replace(config, data=replace(config.data, on_bad_row="drop", limits=replace(config.data.limits, dropped=0.5)))
    figures = stage.make_data(dropping, tmp_path, tmp_path)
    assert (figures["dropped"], figures["rows"], figures["examples"]) == (12, 24, 12)


@pytest.mark.parametrize("also", ["nothing", "rows that are too long"])
def test_what_to_do_about_dropped_rows_goes_by_why_they_are(tmp_path, data, fault_of, also):
    file = lines(tmp_path, *[{"messages": [{"user": "Hi"}, {"assistant": "b"}]}] * 2, *([LONG] if also != "nothing" else []), SHORT)
    jinja = "{% if 'Hi' in messages[0].content %}{{ raise_exception('no greetings') }}{% endif %}" + CHATML
    config = data.config(sources=[file], on_bad_row="drop", max_length=30, overlong="drop", limits={"dropped": 0.1})
    config = replace(config, template=replace(config.template, jinja=jinja))
    longer = "" if also == "nothing" else "raise data.max_length, "
    assert fault_of(stage.make_data, config, tmp_path, tmp_path).endswith(
        f"data.limits.dropped allows 10.0%\n  hint: {longer}mend the rows that data.on_bad_row: error names, or raise data.limits.dropped"
    )


def test_no_row_left_as_all_are_bad_is_told_so(tmp_path, data, fault_of):
    config = data.config(sources=[lines(tmp_path, SHORT)], on_bad_row="drop", limits={"dropped": 1})
    jinja = "{% if 'Say' in messages[0].content %}{{ raise_exception('no') }}{% endif %}" + CHATML
    config = replace(config, template=replace(config.template, jinja=jinja))
    assert fault_of(stage.make_data, config, tmp_path, tmp_path) == (
        "error SG425: no row is left for training\n  hint: mend the rows that data.on_bad_row: error names"
    )


def test_no_row_left_as_all_are_held_out_is_told_so(tmp_path, data, fault_of):
    config = data.config(sources=[{"synthetic": NUMBERED}], validation={"fraction": 0.2})
    config = replace(config, data=replace(config.data, validation=replace(config.data.validation, fraction=1.0)))
    assert fault_of(stage.make_data, config, tmp_path, tmp_path) == (
        "error SG425: no row is left for training\n"
        "  hint: data.validation holds out every row: lower its fraction or count, or give it other sources"
    )


def test_a_fault_leaves_no_file_open(tmp_path, data, fault_of, monkeypatch):
    writers, begin = [], dataset.Writer.__enter__
    monkeypatch.setattr(dataset.Writer, "__enter__", lambda writer: writers.append(writer) or begin(writer))
    fault_of(data, max_length=50, sources=[{"synthetic": LONG}])
    (writer,) = writers
    assert all(file.closed for file in writer._files.values())


def test_an_answer_that_is_never_trained_is_refused(tmp_path, data, fault_of):
    config = data.config(sources=[{"synthetic": SHORT}])
    config = replace(
        config, template=replace(config.template, jinja=CHATML.replace("m.content", "(m.content if m.content != 'yes' else '')"))
    )
    config = replace(config, data=replace(config.data, train_end_of_turn=False))
    assert fault_of(stage.make_data, config, tmp_path, tmp_path) == (
        "error SG426: a row has no trained token\n  synthetic:1: user: Say yes. / assistant: yes\n"
        "  hint: its answer is empty once rendered, or no answer is to be trained"
    )


def test_unrolled_rows_are_examples_of_their_own(tmp_path, data, tokenizer):
    rule = {"messages": [{"user": "a"}, {"assistant": "1"}, {"user": "b"}, {"assistant": "2"}], "repeat": 3}
    figures, rows, _ = data(sources=[{"synthetic": rule}], unroll=True)
    assert (figures["rows"], figures["examples"], figures["more_examples"], len(rows)) == (3, 6, 3, 6)
    answers = [tokenizer.decode(row["input_ids"][row["trained"].astype(bool)]) for row in rows]
    assert sorted(answers) == ["1<|im_end|>"] * 3 + ["2<|im_end|>"] * 3


def test_rows_of_validation_are_in_no_other_split(data, tokenizer):
    own = {"synthetic": {**NUMBERED, "variables": {"n": [1, 2, 30]}}}
    figures, rows, held_out = data(sources=[{"synthetic": NUMBERED}], validation={"sources": [own]})
    assert (figures["rows"], figures["train_rows"], figures["validation_rows"], figures["validation_distinct"]) == (12, 10, 3, 3)
    train, validation = ({tuple(row["input_ids"].tolist()) for row in split} for split in (rows, held_out))
    assert (len(train), len(validation)) == (10, 3)
    assert not train & validation
