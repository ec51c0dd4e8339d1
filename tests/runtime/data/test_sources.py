"""runtime/data/parts.py and chosen.py: the conversations that the compiler counted, again and the same."""

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

from conversations.row import digest, messages_of
from runtime.config import DataConfig, DataFile, FileSource, LimitsConfig, MessageRule, SyntheticSource, load
from specgen.compiler import checked
from specgen.facts.gather import gather
from specgen.render import render
from specgen.resolve import resolve
from specgen.source import parse
from tests.rows import plain_row
from tests.runtime.gathered import read_sources

SEED = 42
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), min_size=1, max_size=8).filter(str.strip)


def data_of(*sources, validation=None):
    limits = LimitsConfig(dropped=0.0, truncated=0.0, trained=0.0, duplicates=1.0, overlap=1.0)
    words = {"system": None, "train_on": "assistant", "train_end_of_turn": True, "overlong": "error", "truncate_from": "end"}
    switches = {"unroll": False, "packing": False, "on_bad_row": "error", "near_duplicates": None}
    numbers = {"max_length": 128, "rows": None, "train_rows": None, "examples": None}
    return DataConfig(**words, **switches, **numbers, limits=limits, validation=validation, sources=sources)


def file_source(path, rows, *, weight=1.0):
    file = DataFile(path=str(path), rows=rows, bad_rows=0, sha256=hashlib.sha256(Path(path).read_bytes()).hexdigest())
    mixing = {"weight": weight, "share": None, "limit": None}
    return FileSource(name=None, format="openai", fields={}, row=None, **mixing, images=None, files=(file,), rows=None)


def synthetic(variables, *messages, repeat=1, **more):
    rules = tuple(MessageRule(role=role, content=content) for role, content in messages)
    settings = {"name": None, "combine": "product", "sample": None, "unique": False, "share": None, "limit": None, "rows": None, **more}
    return SyntheticSource(variables=variables, repeat=repeat, messages=rules, **settings)


def looked_at(facts):
    """What the compiler has counted: the digest of each row → how often."""
    counted = Counter()
    for source in facts.sources:
        for number, count in zip(source.table.digests, source.counts, strict=True):
            counted[number] += count
    return +counted


def as_digests(counts):
    return Counter({digest(row): count for row, count in counts.items()})


def conversations(counts):
    return [(messages_of(row), count) for row, count in counts.items()]


def test_a_file_of_a_windows_editor_gives_the_rows_of_a_plain_one(case_file):
    counts, plain = (read_sources(data_of(file_source(case_file(name), 3)), seed=SEED).counts for name in ("o01.jsonl", "o01_plain.jsonl"))
    assert list(counts.items()) == list(plain.items())
    assert len(counts) == 3
    assert not any(mark in row for row in counts for mark in ("\ufeff", "\\ufeff", "\\r"))


def test_every_combination_counts_repeat_times():
    variables = {"name": ("Aria", "Nova"), "question": ("Who?", "What?", "Why?")}
    source = synthetic(variables, ("user", "{{ question }}"), ("assistant", "{{ name }}!"), repeat=20)
    counts = read_sources(data_of(source), seed=SEED).counts
    assert conversations(counts) == [
        ([{"role": "user", "content": question}, {"role": "assistant", "content": f"{name}!"}], 20)
        for name in ("Aria", "Nova")
        for question in ("Who?", "What?", "Why?")
    ]


def test_equal_combinations_are_one_row():
    source = synthetic({"n": (1, 2)}, ("user", "Hi"), ("assistant", "Hello."), repeat=3)
    assert list(read_sources(data_of(source), seed=SEED).counts.values()) == [6]


def test_a_variable_may_have_parts():
    source = synthetic({"fact": ({"q": "2 + 2?", "a": "4"},)}, ("user", "{{ fact.q }}"), ("assistant", "{{ fact.a }}"))
    ((messages, _),) = conversations(read_sources(data_of(source), seed=SEED).counts)
    assert [message["content"] for message in messages] == ["2 + 2?", "4"]


def test_rules_run_in_a_sandbox():
    source = synthetic({"n": ("x",)}, ("user", "{{ n.__class__.__mro__ }}"), ("assistant", "a"))
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


def compiled(*sources, seed=SEED, validation=None):
    """A spec with these sources as the compiler knows it, and as the runtime reads it."""
    spec = {"specgen": 1, "name": "a", "model": {"base": "hf:a/b"}, "train": {"seed": seed}}
    spec["data"] = {"validation": validation, "sources": list(sources)}
    tree = checked(parse(yaml.safe_dump(spec), "spec.yaml"))
    facts, faults = gather(tree)
    assert not faults
    plan = resolve(tree, facts)
    with TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text(render(plan, facts)["config.yaml"], encoding="utf-8")
        return facts, load(Path(folder)).data


def assert_same(facts, data, seed=SEED):
    found = read_sources(data, seed=seed)
    assert as_digests(found.counts) == looked_at(facts)
    assert found.by_source == tuple(source.rows for source in facts.sources)
    assert len(found.held) == facts.survey.held_distinct
    assert sum(found.counts[row] for row in found.held) == facts.survey.held_rows
    return found


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=12),
    mixing=st.sampled_from([{}, {"weight": 0.3}, {"weight": 2.5}, {"share": 0.4}, {"limit": 5}, {"limit": 3, "weight": 1.5}]),
    validation=st.sampled_from([None, {"fraction": 0.3}, {"rows": 2}]),
    seed=st.integers(0, 2**32 - 1),
)
def test_weights_shares_and_held_out_rows_are_the_compilers(texts, mixing, validation, seed):
    rows = [json.dumps({"messages": messages_of(plain_row([("user", "Say it."), ("assistant", text)]))}) for text in texts]
    rule = {"variables": {"n": [1, 2, 3]}, "repeat": 2, "messages": [{"user": "{{ n }}"}, {"assistant": "ok"}]}
    with TemporaryDirectory() as folder:
        Path(folder, "rows.jsonl").write_text("\n".join(rows))
        sources = {"file": {"path": f"{folder}/rows.jsonl", "format": "openai", **mixing}}, {"synthetic": rule}
        assert_same(*compiled(*sources, seed=seed, validation=validation), seed)


@settings(max_examples=40, deadline=None)
@given(questions=st.lists(TEXT, min_size=1, max_size=4), plain=TEXT, repeat=st.integers(1, 3), seed=st.integers(0, 99))
def test_synthetic_rows_are_the_compilers(questions, plain, repeat, seed):
    messages = [{"system": plain}, {"user": ["{{ q }}", plain]}, {"assistant": [plain, "{{ choice(['a', 'b']) }}"]}]
    source = {"synthetic": {"variables": {"q": questions}, "repeat": repeat, "messages": messages}}
    assert_same(*compiled(source, seed=seed, validation={"fraction": 0.3}), seed)


def test_every_kind_of_variable_is_the_compilers(tmp_path):
    Path(tmp_path, "cities.jsonl").write_text('{"name": "Paris"}\n{"name": "Rome"}\n')
    variables = {
        "n": {"range": {"start": 1, "stop": 2, "step": 0.5}},
        "city": {"file": {"path": f"{tmp_path}/cities.jsonl"}},
        "g": {"rule": "greetings"},
        "x": [True, 1.5, "text", {"a": 1}],
    }
    turns = [{"user": "{{ g.user }} {{ n }} {{ city.name }} {{ x }}"}, {"assistant": "{{ g.assistant }}"}]
    greetings = {"name": "greetings", "variables": {"w": ["Hi", "Hello"]}, "messages": [{"user": "{{ w }}"}, {"assistant": "{{ w }}!"}]}
    sources = {"synthetic": greetings}, {"synthetic": {"variables": variables, "sample": 40, "messages": turns}}
    found = assert_same(*compiled(*sources, validation={"sources": [{"synthetic": greetings}]}))
    assert len(found.counts) == 42
    assert len(found.held) == 2


def test_a_file_of_values_that_changed_after_compiling_is_refused(tmp_path, fault_of):
    path = Path(tmp_path, "cities.txt")
    path.write_text("Paris\nRome\n")
    variables = {"city": {"file": {"path": str(path)}}}
    _, data = compiled({"synthetic": {"variables": variables, "messages": [{"user": "Where?"}, {"assistant": "{{ city }}"}]}})
    path.write_text("Paris\nBonn\n")
    assert fault_of(read_sources, data, seed=SEED) == (
        f"error SG423: {path} has changed since the spec was compiled\n  hint: compile the spec again"
    )


def test_a_carriage_return_in_a_rule_is_the_compilers():
    """Jinja makes \\r\\n one \\n, also in a text without any expression."""
    assert_same(*compiled({"synthetic": {"messages": [{"user": "a\r\nb"}, {"assistant": "c"}]}}))


def test_sources_add_up_in_their_order(case_file):
    first = synthetic({}, ("user", "Hi"), ("assistant", "Hello."), repeat=2)
    counts = read_sources(data_of(first, file_source(case_file("o08.jsonl"), 2), first), seed=SEED).counts
    assert [messages[0]["content"] for messages, _ in conversations(counts)][:2] == ["Hi", "Reply with ok."]
    assert list(counts.values()) == [4, 1, 1]
    assert isinstance(counts, Counter)
