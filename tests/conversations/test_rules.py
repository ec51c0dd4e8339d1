"""conversations/rules.py and variables.py: combinations, samples, paraphrases, choices; what is wrong with a rule, word for word."""

from __future__ import annotations

import gzip
import itertools
import json
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations.row import canonical
from conversations.rules import RuleFault, Writer, conversations_of, names_in, rows_of_rules
from conversations.variables import combinations, numbers

HELLO = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
LISTS = st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 99), min_size=1, max_size=6, unique=True), min_size=1, max_size=4)


def rule(*turns, variables=None, combine="product", sample=None, unique=False):
    messages = [{"role": role, "content": content} for role, content in turns] or HELLO
    return {"variables": variables or {}, "combine": combine, "sample": sample, "unique": unique, "messages": messages}


def made(a_rule, seed=1, rules=None):
    return list(conversations_of(a_rule, seed=seed, rows_of=rows_of_rules(rules or {}, seed=seed)))


def contents(a_rule, role="assistant", seed=1, rules=None):
    return [message["content"] for row in made(a_rule, seed, rules) for message in row["messages"] if message["role"] == role]


def fault(a_rule, **more):
    with pytest.raises(RuleFault) as caught:
        made(a_rule, **more)
    found = caught.value
    return found.kind, found.path, found.text, found.hint


def test_every_combination_is_made_the_last_variable_first():
    found = contents(rule(("assistant", "{{ a }}{{ b }}"), variables={"a": ["x", "y"], "b": [1, 2, 3]}))
    assert found == ["x1", "x2", "x3", "y1", "y2", "y3"]


def test_zip_puts_values_side_by_side():
    assert contents(rule(("assistant", "{{ a }}{{ b }}"), variables={"a": ["x", "y"], "b": [1, 2]}, combine="zip")) == ["x1", "y2"]


def test_zip_names_the_lengths_that_differ():
    assert fault(rule(variables={"a": ["x", "y"], "b": [1], "c": [1]}, combine="zip")) == (
        "zip",
        ("combine",),
        "zip needs variables of one length: a has 2, b has 1, c has 1",
        "give them the same number of values, or write combine: product",
    )


@given(LISTS, st.integers(0, 2**63), st.data())
def test_a_sample_is_of_the_product_without_repetition_and_the_same_for_the_same_seed(lists, seed, data):
    product = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    number = data.draw(st.integers(1, len(product)))
    sample = list(combinations(lists, combine="product", sample=number, seed=seed))
    assert len(sample) == number == len({json.dumps(one) for one in sample})
    assert [one for one in product if one in sample] == sample
    assert sample == list(combinations(lists, combine="product", sample=number, seed=seed))
    larger = list(combinations(lists, combine="product", sample=min(number + 1, len(product)), seed=seed))
    assert all(one in larger for one in sample)


def test_a_sample_of_a_thousand_billion_combinations_makes_no_others():
    variables = {name: {"range": {"start": 1, "stop": 1000, "step": 1}} for name in "abcd"}
    tracemalloc.start()
    started = time.process_time()
    found = contents(rule(("assistant", "{{ a }} {{ b }} {{ c }} {{ d }}"), variables=variables, sample=1000))
    assert time.process_time() - started < 2
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert len(set(found)) == 1000
    assert min(len({text.split()[at] for text in found}) for at in range(4)) > 550  # 632 of 1,000 values are expected


def test_a_sample_is_as_it_was_on_every_other_machine():
    found = combinations({"a": range(10**6), "b": range(10**6)}, combine="product", sample=3, seed=7)
    assert [(one["a"], one["b"]) for one in found] == [(57998, 924869), (72436, 286727), (323832, 764791)]


def test_a_sample_larger_than_all_there_is_is_a_fault():
    assert fault(rule(variables={"a": [1, 2], "b": [1, 2]}, sample=5)) == (
        "sample",
        ("sample",),
        "sample: 5 is more than the 4 combinations there are",
        "write sample: 4",
    )


def test_a_range_includes_its_stop():
    assert list(numbers(start=1, stop=4, step=1)) == [1, 2, 3, 4]
    assert list(numbers(start=1, stop=6, step=2)) == [1, 3, 5]
    assert list(numbers(start=3, stop=1, step=-1)) == [3, 2, 1]
    assert list(numbers(start=5, stop=5, step=1)) == [5]


def test_whole_numbers_are_integers_however_they_are_written():
    assert [repr(number) for number in numbers(start=1.0, stop=2.0, step=1)] == ["1", "2"]
    assert [repr(number) for number in numbers(start=1, stop=2, step=0.5)] == ["1.0", "1.5", "2.0"]


def test_a_range_of_decimals_is_exact():
    assert list(numbers(start=0, stop=0.5, step=0.1)) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert list(numbers(start=1.5, stop=0, step=-0.5)) == [1.5, 1.0, 0.5, 0.0]


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-7, 7).filter(bool))
def test_a_range_is_pythons_with_its_stop(start, stop, step):
    expected = list(range(start, stop + (1 if step > 0 else -1), step))
    if expected:
        assert list(numbers(start=start, stop=stop, step=step)) == expected
        assert list(numbers(start=start / 4, stop=stop / 4, step=step / 4)) == [value / 4 for value in expected]
    else:
        with pytest.raises(RuleFault):
            numbers(start=start, stop=stop, step=step)


@pytest.mark.parametrize(
    ("settings", "text", "hint"),
    [
        ((1, 10, 0), "the range has the step 0", None),
        ((1, 10, -1), "the range has no number from 1 to 10 by steps of -1", "write step: 1"),
        ((2.0, 1, 0.5), "the range has no number from 2 to 1 by steps of 0.5", "write step: -0.5"),
        ((0, 10**30, 1), "the range has more numbers than can be counted", None),
    ],
)
def test_a_range_of_no_number_is_a_fault(settings, text, hint):
    spec = dict(zip(("start", "stop", "step"), settings, strict=True))
    assert fault(rule(variables={"n": {"range": spec}})) == ("empty variable", ("variables", "n"), text, hint)


def test_a_text_files_lines_are_values(tmp_path):
    path = tmp_path / "cities.txt"
    path.write_bytes("\ufeffParis\r\n\r\n Köln \n".encode())
    assert contents(rule(("assistant", "{{ city }}"), variables={"city": {"file": {"path": str(path)}}})) == ["Paris", "Köln"]


def test_rows_of_json_lines_are_mappings(tmp_path):
    path = tmp_path / "cities.jsonl"
    path.write_text('{"name": "Paris", "in": "France"}\n{"name": "Rome", "in": "Italy"}\n', encoding="utf-8")
    found = contents(rule(("assistant", "{{ c.name }}, {{ c['in'] }}"), variables={"c": {"file": {"path": str(path)}}}))
    assert found == ["Paris, France", "Rome, Italy"]


@pytest.mark.parametrize("text", ["[1, 2.5, true]", "[\n  1,\n  2.5,\n  true\n]\n", "[1,2.5,true]"])
def test_numbers_and_booleans_of_a_json_file_are_values(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("v.json").write_text(text)
    texts = contents(rule(("assistant", "It is {{ v }}."), variables={"v": {"file": {"path": "v.json"}}}))
    assert texts == ["It is 1.", "It is 2.5.", "It is True."]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "csv.gz"])
def test_rows_of_every_kind_of_file_are_mappings(kind, tmp_path):
    path = tmp_path / f"cities.{kind}"
    if kind == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"name": ["Paris", "Rome"], "in": ["France", "Italy"]}), path)
    else:
        rows = [{"name": "Paris", "in": "France"}, {"name": "Rome", "in": "Italy"}]
        text = json.dumps(rows) if kind == "json" else "name,in\nParis,France\nRome,Italy\n"
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    found = contents(rule(("assistant", "{{ c.name }}, {{ c['in'] }}"), variables={"c": {"file": {"path": str(path)}}}))
    assert found == ["Paris, France", "Rome, Italy"]


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (None, "file", "v.txt cannot be read: No such file or directory"),
        (b"", "empty variable", "v.txt is empty, so that the variable v has no value"),
        (b"\n \n", "empty variable", "v.txt is empty, so that the variable v has no value"),
        (b"Paris\n\xff\n", "file", "v.txt, line 2: the line is not UTF-8: byte 0xff at column 1"),
        (b'{"a": 1}\n{"a": \n', "file", "v.txt, line 2: the line is not JSON: Expecting value"),
    ],
)
def test_a_file_without_values_is_a_fault(content, kind, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("v.txt").write_bytes(content)
    assert fault(rule(variables={"v": {"file": {"path": "v.txt"}}})) == (kind, ("variables", "v"), text, None)


def test_a_row_that_is_no_value_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("v.json").write_text('["Paris", 7, null]')
    variables = {"v": {"file": {"path": "v.json"}}}
    assert fault(rule(variables=variables)) == ("file", ("variables", "v"), "v.json, line 1: the row is null, which is no value", None)


def test_another_rules_conversations_are_values():
    greetings = rule(("user", "Hello {{ n }}"), ("assistant", "Hi {{ n }}"), variables={"n": [1, 2]})
    turns = ("user", "{{ g.user }}!"), ("assistant", "{{ g.assistant }}{{ g.system }}, {{ g.messages | length }} turns")
    found = made(rule(*turns, variables={"g": {"rule": {"name": "greetings"}}}), rules={"greetings": greetings})
    assert [[message["content"] for message in one["messages"]] for one in found] == [
        ["Hello 1!", "Hi 1, 2 turns"],
        ["Hello 2!", "Hi 2, 2 turns"],
    ]


def test_a_rule_takes_a_rule_that_takes_a_rule():
    rules = {
        "a": rule(("assistant", "a{{ n }}"), variables={"n": [1, 2]}),
        "b": rule(("assistant", "b{{ x.assistant }}"), variables={"x": {"rule": {"name": "a"}}}),
    }
    assert contents(rule(("assistant", "c{{ x.assistant }}"), variables={"x": {"rule": {"name": "b"}}}), rules=rules) == ["cba1", "cba2"]


def test_turns_come_in_their_order():
    turns = ("system", "S"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")
    assert [(message["role"], message["content"]) for message in made(rule(*turns))[0]["messages"]] == list(turns)


def test_a_system_turn_that_says_nothing_is_left_out():
    turns = ("system", "{% if n > 1 %}Count.{% endif %} "), ("user", "{{ n }}"), ("assistant", "ok")
    found = made(rule(*turns, variables={"n": [1, 2]}))
    assert [[message["role"] for message in one["messages"]] for one in found] == [["user", "assistant"], ["system", "user", "assistant"]]


def test_conditions_and_arithmetic_are_jinjas():
    text = "{% if n % 2 %}odd{% else %}even{% endif %} {{ n * n }}"
    assert contents(rule(("assistant", text), variables={"n": [1, 2, 3]})) == ["odd 1", "even 4", "odd 9"]


def test_a_text_without_braces_stays_as_it_is():
    assert contents(rule(("assistant", "a\r\nb\n"))) == ["a\r\nb\n"]


def test_each_conversation_takes_one_paraphrase():
    ways = ["Who are you?", "What are you?", "Introduce yourself."]
    found = contents(rule(("user", ways), ("assistant", "{{ n }}"), variables={"n": list(range(300))}), role="user")
    assert {way: found.count(way) for way in ways} == pytest.approx(dict.fromkeys(ways, 100), abs=25)
    assert found == contents(rule(("user", ways), ("assistant", "{{ n }}"), variables={"n": list(range(300))}), role="user")
    assert found != contents(rule(("user", ways), ("assistant", "{{ n }}"), variables={"n": list(range(300))}), role="user", seed=2)


@given(st.integers(0, 2**32), st.lists(st.text("abc", min_size=1), min_size=1, max_size=4, unique=True), st.text("xyz", min_size=1))
def test_one_paraphrase_more_changes_only_the_turns_that_take_it(seed, ways, new):
    variables = {"n": list(range(20))}
    before = made(rule(("user", ways), ("assistant", ["A{{ n }}", "B{{ n }}"]), variables=variables), seed)
    after = made(rule(("user", [new, *ways]), ("assistant", ["A{{ n }}", "B{{ n }}"]), variables=variables), seed)
    for old, now in zip(before, after, strict=True):
        assert now["messages"][1] == old["messages"][1]
        assert now["messages"][0]["content"] in (old["messages"][0]["content"], new)


@given(st.integers(0, 2**32))
def test_what_else_a_rule_has_changes_no_choice(seed):
    turns = ("user", ["a", "b", "c"]), ("assistant", "{{ n }} {{ choice(['x', 'y', 'z']) }}")
    few = {row["messages"][-1]["content"][0]: row["messages"] for row in made(rule(*turns, variables={"n": [1, 2, 3]}), seed)}
    more = made(rule(("system", "Count."), *turns, variables={"n": [0, 3, 2, 1]}), seed)
    for row in more:
        if (number := row["messages"][-1]["content"][0]) in few:
            assert row["messages"][1:] == few[number]


def test_choice_and_shuffle_are_the_seeds():
    text = "{{ n }} {{ choice(['x', 'y']) }} {{ shuffle([1, 2, 3]) | join }} {{ ['p', 'q'] | random }}"
    a_rule = rule(("assistant", text), variables={"n": list(range(200))})
    found = contents(a_rule)
    assert found == contents(a_rule) != contents(a_rule, seed=2)
    assert found[:4] == ["0 y 123 p", "1 x 132 q", "2 y 321 q", "3 x 123 p"]
    words = [text.split() for text in found]
    assert {word[1] for word in words} == {"x", "y"}
    assert len({word[2] for word in words}) == 6
    assert {word[3] for word in words} == {"p", "q"}
    assert len({(word[1], word[3]) for word in words}) == 4  # one choice does not make the other


def test_what_would_differ_between_machines_is_refused():
    assert fault(rule(("assistant", "{{ lipsum() }}")))[2] == "the text does not render: 'lipsum' is undefined"
    assert fault(rule(("assistant", "{{ now() }}")))[2] == "the text does not render: 'now' is undefined"
    told = "the text does not render: {{ }} writes a generator, which is no text; a list of it may be meant: … | list"
    assert fault(rule(("assistant", "{{ ['a'] | map('upper') }}")))[2] == told
    assert fault(rule(("assistant", "{{ joiner() }}")))[2] == told.replace("generator", "Joiner")
    assert fault(rule(("assistant", "{{ n.a }}"), variables={"n": [{"a": None}]}))[2] == (
        "the text does not render: {{ }} writes a null; write {{ … or '' }}, or {% if … %}"
    )


def test_tojson_writes_json_and_not_html():
    assert contents(rule(("assistant", "{{ n | tojson }}"), variables={"n": [{"a": "<é>"}]})) == ['{"a": "<é>"}']


def test_equal_conversations_are_told_where_unique_is_asked_for():
    turns = ("user", "{{ a }}"), ("assistant", "ok")
    variables = {"a": ["x", "y"], "b": [1, 2]}
    assert len(made(rule(*turns, variables=variables))) == 4
    assert fault(rule(*turns, variables=variables, unique=True)) == (
        "equal",
        ("unique",),
        'two conversations are equal: those of {"a": "x", "b": 1} and of {"a": "x", "b": 2}',
        "let the texts name what differs, or write unique: false",
    )
    assert len(made(rule(*turns, variables={"a": ["x", "y"]}, unique=True))) == 2


@pytest.mark.parametrize(
    ("text", "kind", "told", "hint"),
    [
        ("{{ nmae }}", "render", "the text does not render: 'nmae' is undefined", "did you mean 'name'?"),
        ("{{ other }}", "render", "the text does not render: 'other' is undefined", "the variables are name"),
        ("{{ name }", "syntax", "the text does not render: unexpected '}'", "{{ name }} stands for a variable"),
        ("{{ choice([]) }}", "render", "the text does not render: choice() of an empty list", None),
        ("{{ 1 // 0 }}", "render", "the text does not render: integer division or modulo by zero", None),
        ("{% if name == 'x' %}x{% endif %}", "empty answer", "an assistant text is empty, so there is nothing to learn", None),
    ],
)  # fmt: skip
def test_a_text_that_does_not_render_is_told(text, kind, told, hint):
    assert fault(rule(("user", "Hi"), ("assistant", text), variables={"name": ["Aria"]})) == (kind, ("messages", 1), told, hint)


def test_the_paraphrase_that_does_not_render_is_told_though_no_conversation_takes_it():
    writer = Writer([{"role": "user", "content": ["Hi", "{{ nmae }}"]}], seed=1)
    with pytest.raises(RuleFault) as caught:
        writer.try_all({"name": "Aria"})
    assert caught.value.path == ("messages", 0, 1)


def test_names_in_a_text_are_its_variables():
    assert names_in("{{ a.b }} {% for x in c %}{{ x }}{% endfor %} {{ choice(d) }} {{ range(3) | list }}") == {"a", "c", "d"}
    assert names_in("plain") == set()


def test_equal_rules_make_equal_rows():
    a_rule = rule(("user", ["a", "b"]), ("assistant", "{{ n }}"), variables={"n": [1, 2, 3]})
    assert [canonical(one) for one in made(a_rule)] == [canonical(one) for one in made(a_rule)]
