"""runtime/data/sources.py: the conversations that the compiler counted, again and the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conversations.row import messages_of, plain_row
from runtime.config import DataConfig, DataFile, FileSource, LimitsConfig, MessageRule, SyntheticSource, ValidationConfig
from runtime.data.sources import read_sources
from specgen.compiler import checked
from specgen.facts.gather import gather
from specgen.facts.rows import held_out, weighted
from specgen.source import parse

SEED = 42
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), min_size=1, max_size=8).filter(str.strip)


def data_of(*sources, validation=None):
    rows = sum(source.rows for source in sources)
    limits = LimitsConfig(dropped=0.0, truncated=0.0, trained=0.0, duplicates=1.0, overlap=1.0)
    train_rows = rows - (validation.rows if validation else 0)
    fixed = {"system": None, "max_length": 128, "overlong": "error", "packing": False}
    numbers = {"rows": rows, "train_rows": train_rows, "examples": train_rows}
    return DataConfig(**fixed, limits=limits, validation=validation, sources=sources, **numbers)


def file_source(path, rows, *, weight=1.0, counted=None):
    file = DataFile(path=str(path), rows=rows, sha256=hashlib.sha256(Path(path).read_bytes()).hexdigest())
    return FileSource(format="openai", weight=weight, files=(file,), rows=rows if counted is None else counted)


def synthetic(variables, *messages, repeat=1, rows):
    rules = tuple(MessageRule(role=role, content=content) for role, content in messages)
    return SyntheticSource(variables=variables, repeat=repeat, messages=rules, rows=rows)


def conversations(counts):
    return [(messages_of(row), count) for row, count in counts.items()]


def test_a_file_of_a_windows_editor_gives_the_rows_of_a_plain_one(case_file):
    counts, plain = (read_sources(data_of(file_source(case_file(name), 3)), seed=SEED).counts for name in ("o01.jsonl", "o01_plain.jsonl"))
    assert list(counts.items()) == list(plain.items())
    assert len(counts) == 3
    assert not any(mark in row for row in counts for mark in ("\ufeff", "\\ufeff", "\\r"))


def test_every_combination_counts_repeat_times():
    variables = {"name": ("Aria", "Nova"), "question": ("Who?", "What?", "Why?")}
    source = synthetic(variables, ("user", "{{ question }}"), ("assistant", "{{ name }}!"), repeat=20, rows=120)
    counts = read_sources(data_of(source), seed=SEED).counts
    assert conversations(counts) == [
        ([{"role": "user", "content": question}, {"role": "assistant", "content": f"{name}!"}], 20)
        for name in ("Aria", "Nova")
        for question in ("Who?", "What?", "Why?")
    ]


def test_equal_combinations_are_one_row():
    source = synthetic({"n": (1, 2)}, ("user", "Hi"), ("assistant", "Hello."), repeat=3, rows=6)
    assert list(read_sources(data_of(source), seed=SEED).counts.values()) == [6]


def test_a_variable_may_have_parts():
    source = synthetic({"fact": ({"q": "2 + 2?", "a": "4"},)}, ("user", "{{ fact.q }}"), ("assistant", "{{ fact.a }}"), rows=1)
    ((messages, _),) = conversations(read_sources(data_of(source), seed=SEED).counts)
    assert [message["content"] for message in messages] == ["2 + 2?", "4"]


def test_rules_run_in_a_sandbox():
    source = synthetic({"n": ("x",)}, ("user", "{{ n.__class__.__mro__ }}"), ("assistant", "a"), rows=1)
    with pytest.raises(Exception, match="access to attribute '__class__' of 'str' object is unsafe"):
        read_sources(data_of(source), seed=SEED)


def test_a_file_that_changed_after_compiling_is_refused(tmp_path, case_file, fault_of):
    path = shutil.copy(case_file("o01_plain.jsonl"), tmp_path / "rows.jsonl")
    data = data_of(file_source(path, 3))
    path.chmod(0o644)
    path.write_text(path.read_text().replace("Red.", "Blue."))
    assert fault_of(read_sources, data, seed=SEED) == (
        f"error SG423: {path} has changed since the spec was compiled\n  hint: compile the spec again"
    )


def test_a_file_that_is_gone_is_named(tmp_path, case_file, fault_of):
    path = shutil.copy(case_file("o01_plain.jsonl"), tmp_path / "rows.jsonl")
    data = data_of(file_source(path, 3))
    path.unlink()
    assert fault_of(read_sources, data, seed=SEED) == (
        f"error SG205: {path} cannot be read: No such file or directory\n  hint: paths start at the working folder, {Path.cwd()}"
    )


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=12),
    weight=st.floats(0.1, 3.5),
    fraction=st.floats(0.01, 0.9),
    seed=st.integers(0, 2**32 - 1),
)
def test_weights_and_held_out_rows_are_the_compilers(texts, weight, fraction, seed):
    rows = tuple(plain_row([("user", "Say it."), ("assistant", text)]) for text in texts)
    counted = weighted(rows, weight, seed)
    held = held_out(counted, fraction, seed)
    with TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text("".join(json.dumps({"messages": messages_of(row)}) + "\n" for row in rows))
        validation = ValidationConfig(fraction=fraction, distinct_rows=len(held), rows=sum(counted[row] for row in held))
        source = file_source(path, len(rows), weight=weight, counted=counted.total())
        found = read_sources(data_of(source, validation=validation), seed=seed)
    assert found.counts == counted
    assert found.held == (set(held) if counted else set())
    assert found.by_source == (counted.total(),)


@settings(max_examples=40, deadline=None)
@given(questions=st.lists(TEXT, min_size=1, max_size=4), plain=TEXT, repeat=st.integers(1, 3), seed=st.integers(0, 99))
def test_synthetic_rows_are_the_compilers(questions, plain, repeat, seed):
    messages = [{"system": plain}, {"user": "{{ q }}"}, {"assistant": plain}]
    source = {"synthetic": {"variables": {"q": questions}, "repeat": repeat, "messages": messages}}
    spec = {"specgen": 1, "name": "a", "model": {"base": "hf:a/b"}, "train": {"seed": seed}}
    spec["data"] = {"validation": {"fraction": 0.3}, "sources": [source]}
    facts, faults = gather(checked(parse(yaml.safe_dump(spec), "spec.yaml")))
    assert not faults
    held = ValidationConfig(fraction=0.3, distinct_rows=len(facts.held_out), rows=sum(facts.counts[row] for row in facts.held_out))
    variables = {"q": tuple(questions)}
    rules = (("system", plain), ("user", "{{ q }}"), ("assistant", plain))
    again = synthetic(variables, *rules, repeat=repeat, rows=facts.counts.total())
    found = read_sources(data_of(again, validation=held), seed=seed)
    assert found.counts == facts.counts
    assert found.held == set(facts.held_out)


def test_a_carriage_return_in_a_rule_is_the_compilers():
    """Jinja makes \\r\\n one \\n, also in a text without any expression."""
    spec = {"specgen": 1, "name": "a", "model": {"base": "hf:a/b"}}
    spec["data"] = {"sources": [{"synthetic": {"messages": [{"user": "a\r\nb"}, {"assistant": "c"}]}}]}
    facts, _ = gather(checked(parse(yaml.safe_dump(spec), "spec.yaml")))
    counts = read_sources(data_of(synthetic({}, ("user", "a\r\nb"), ("assistant", "c"), rows=1)), seed=SEED).counts
    assert counts == facts.counts


def test_sources_add_up_in_their_order(case_file):
    first = synthetic({}, ("user", "Hi"), ("assistant", "Hello."), repeat=2, rows=2)
    counts = read_sources(data_of(first, file_source(case_file("o08.jsonl"), 2), first), seed=SEED).counts
    assert [messages[0]["content"] for messages, _ in conversations(counts)][:2] == ["Hi", "Reply with ok."]
    assert list(counts.values()) == [4, 1, 1]
    assert isinstance(counts, Counter)
