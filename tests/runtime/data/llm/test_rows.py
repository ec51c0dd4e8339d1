"""From answers to rows: schema, judge, equal rows, the budget and the disk."""

from __future__ import annotations

import dataclasses
import gc
import json
import signal
import subprocess
import sys
import time

import pytest

from runtime.config import TurnRule
from runtime.data.llm.rows import rows
from runtime.faults import RunFault
from tests.llm_stand_in import break_off, reply, stall, status
from tests.runtime.data.llm.conftest import no_rules

SCHEMA = {
    "type": "object",
    "required": ["question", "answer"],
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
}
FROM_SCHEMA = (TurnRule(role="user", content="{{ answer.question }}"), TurnRule(role="assistant", content="{{ answer.answer }}"))
GOOD = json.dumps({"question": "Q?", "answer": "A."})


def test_a_second_run_asks_nothing_and_gives_the_same(endpoint, source, ask):
    first = ask(source(samples=2, concurrency=2))
    assert len(endpoint.bodies) == 6
    endpoint.answer = lambda _body: "Another."
    second = ask(source(samples=2, concurrency=2))
    assert second.pairs == first.pairs
    assert len(endpoint.bodies) == 6
    assert second.said == ["data made: 6 prompts → 3 rows · 0 asked, 6 from the cache · 3 equal to others"]


def test_a_second_run_needs_no_key(endpoint, source, ask, monkeypatch):
    monkeypatch.setenv("WRITER_KEY", "k-1")
    first = ask(source(api_key_env="WRITER_KEY"))
    monkeypatch.delenv("WRITER_KEY")
    assert ask(source(api_key_env="WRITER_KEY")).pairs == first.pairs


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.7}, {"top_p": 1.0}, {"max_tokens": 60}, {"model": "other"}, {"schema": {"type": "string"}}],
    ids=lambda change: next(iter(change)),
)
def test_another_setting_asks_anew(change, endpoint, source, ask):
    endpoint.answer = lambda _body: '"Yes."'
    ask(source(unique=False))
    ask(source(unique=False, **change))
    assert len(endpoint.bodies) == 6


def test_more_prompts_and_another_order_ask_only_what_is_new(endpoint, source, ask):
    first = ask(source())
    more = ask(source(topics=("oats", "milk", "tea", "jam")))
    assert len(endpoint.bodies) == 4
    assert set(more.pairs) > set(first.pairs)


def test_each_sample_has_a_seed_of_its_own(endpoint, source, ask):
    ask(source(samples=5))
    assert len({body["seed"] for body in endpoint.bodies}) == 15


def test_equal_prompts_are_samples_of_one(endpoint, source, ask):
    ask(source(topics=("tea", "tea")))
    assert len({body["seed"] for body in endpoint.bodies}) == 2


def test_a_damaged_file_of_the_cache_is_asked_again(endpoint, source, ask, tmp_path):
    first = ask(source())
    next((tmp_path / "kept").rglob("*.json")).write_text("{")
    assert ask(source()).pairs == first.pairs
    assert len(endpoint.bodies) == 4


def test_nothing_half_written_is_left(source, ask, tmp_path):
    ask(source(concurrency=3))
    assert {path.suffix for path in (tmp_path / "kept").rglob("*") if path.is_file()} == {".json"}


def test_a_run_that_is_left_goes_on_where_it_was(endpoint, source, ask, tmp_path):
    made = rows(source(topics=tuple(range(10))), seed=1, rows_of=no_rules, cache=tmp_path / "kept", say=lambda *_: None)
    for _ in range(3):
        next(made)
    made.close()
    sent = len(endpoint.bodies)
    assert 3 <= sent < 10
    assert len(ask(source(topics=tuple(range(10)))).pairs) == 10
    assert len(endpoint.bodies) <= 11  # one may have been under way


def test_a_schema_is_asked_for_and_the_answer_has_its_parts(endpoint, source, ask):
    endpoint.answer = lambda _body: GOOD
    assert ask(source(topics=("tea",), schema=SCHEMA, row=FROM_SCHEMA)).pairs == [("Q?", "A.")]
    asked_for = endpoint.bodies[0]["response_format"]
    assert asked_for == {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": False}}


def test_a_closed_schema_is_asked_for_strictly(endpoint, source, ask):
    endpoint.answer = lambda _body: GOOD
    ask(source(topics=("tea",), schema={**SCHEMA, "additionalProperties": False}, row=FROM_SCHEMA))
    assert endpoint.bodies[0]["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize("text", [f"```json\n{GOOD}\n```", f"Here it is:\n```\n{GOOD}\n```\nGood luck!", f"  {GOOD}\n"])
def test_an_answer_is_found_in_a_fence(text, endpoint, source, ask):
    endpoint.answer = lambda _body: text
    assert ask(source(topics=("tea",), schema=SCHEMA, row=FROM_SCHEMA)).pairs == [("Q?", "A.")]


MISFITS = {
    "no JSON": ('{"question": "Q?"', 'it is no JSON: \'{"question": "Q?"\''),
    "not a number": ('{"question": NaN}', "it is no JSON: '{\"question\": NaN}'"),
    "wrong schema": (
        '{"question": 7, "answer": "A."}',
        'it does not fit the schema: $.question: 7 is not of type \'string\': \'{"question": 7, "answer": "A."}\'',
    ),
    "too deep": ("[" * 100_000, "it is no JSON: '" + "[" * 99 + "…'"),
    "cut": (reply(GOOD, finish="length"), "it is cut at max_tokens: " + repr(GOOD)),
    "empty": (" ", "it is empty: ''"),
    "filtered": (reply("", finish="content_filter"), "the model refuses to answer"),
    "half a character": (
        json.dumps({"question": "Q?", "answer": "\ud83d"}),
        'it holds half a character: \'{"question": "Q?", "answer": "\\\\ud83d"}\'',
    ),
    "empty part": ('{"question": "Q?", "answer": ""}', 'the assistant\'s text is empty: \'{"question": "Q?", "answer": ""}\''),
}


@pytest.mark.parametrize(("text", "told"), MISFITS.values(), ids=MISFITS)
def test_an_answer_that_does_not_fit_is_asked_for_again_with_another_seed(text, told, endpoint, source, ask, fault_of):
    texts = [text, text, GOOD]
    endpoint.answer = lambda _body: texts.pop(0)
    assert ask(source(topics=("tea",), schema=SCHEMA, row=FROM_SCHEMA)).pairs == [("Q?", "A.")]
    assert len({body["seed"] for body in endpoint.bodies}) == 3
    endpoint.answer = lambda _body: text
    assert fault_of(ask, source(topics=("jam",), schema=SCHEMA, row=FROM_SCHEMA)) == (
        "error SG485: 1 of the first 1 prompts of made have no answer that fits (each asked 3 times; 10% of 1 may fail). "
        f"The first: {told}\n  hint: say in the prompt how to answer, ease the schema, or raise max_tokens"
    )


def test_a_part_that_is_not_there_is_a_misfit(endpoint, source, ask, fault_of):
    endpoint.answer = lambda _body: '{"question": "Q?"}'
    told = fault_of(ask, source(topics=("tea",), schema={"type": "object"}, row=FROM_SCHEMA))
    assert "it makes no row: 'dict object' has no attribute 'answer': " in told


def test_parts_may_be_called_like_methods(endpoint, source, ask):
    endpoint.answer = lambda _body: '{"items": "one", "keys": "two"}'
    row = (TurnRule(role="user", content="{{ answer.items }}"), TurnRule(role="assistant", content="{{ answer['keys'] }}"))
    assert ask(source(topics=("tea",), schema={"type": "object"}, row=row)).pairs == [("one", "two")]


def test_few_misfits_are_left_out_and_counted_and_the_next_run_asks_nothing(endpoint, source, ask):
    endpoint.answer = lambda body: (
        "no JSON" if "tea" in body["messages"][0]["content"] else GOOD.replace("Q", body["messages"][0]["content"])
    )
    topics = ("tea", *range(19))
    asked = ask(source(topics=topics, schema=SCHEMA, row=FROM_SCHEMA))
    assert asked.said == ["data made: 20 prompts → 19 rows · 22 asked · 1 refused · 330 tokens"]
    again = ask(source(topics=topics, schema=SCHEMA, row=FROM_SCHEMA))
    assert again.pairs == asked.pairs
    assert again.said == ["data made: 20 prompts → 19 rows · 0 asked, 22 from the cache · 1 refused"]


def test_a_row_is_as_the_model_wrote_it_and_no_template(endpoint, source, ask):
    endpoint.answer = lambda _body: "{{ topic }} {% raw %} é\r\nline"
    assert ask(source(topics=("tea",))).pairs == [("What of tea?", "{{ topic }} {% raw %} é\r\nline")]


def test_a_system_text_that_comes_to_nothing_is_left_out(endpoint, source, ask):
    row = (
        TurnRule(role="system", content="{{ '' }}"),
        TurnRule(role="user", content="Hi"),
        TurnRule(role="assistant", content="{{ answer }}"),
    )
    assert ask(source(topics=("tea",), row=row)).pairs == [("Hi", "Answer to: Write about tea.")]


def judged(body):
    text = body["messages"][0]["content"]
    if not text.startswith("Rate"):
        return f"Answer to: {text}"
    return "I would say 3/10." if "jam" in text else "8 of 10"


def test_a_judge_leaves_out_what_is_below_the_mark(endpoint, source, ask):
    endpoint.answer = judged
    asked = ask(source(judge=("Rate {{ user }} {{ assistant }}", 7)))
    assert [user for user, _ in asked.pairs] == ["What of tea?", "What of oats?"]
    assert asked.said == ["data made: 3 prompts → 2 rows · 6 asked · 1 below the judge's mark · 90 tokens"]
    rated = [body for body in endpoint.bodies if body["messages"][0]["content"].startswith("Rate")]
    assert rated[0]["messages"][0]["content"] == "Rate What of tea? Answer to: Write about tea."
    assert rated[0]["temperature"] == 0
    ask(source(judge=("Rate {{ user }} {{ assistant }}", 7)))
    assert len(endpoint.bodies) == 6


def test_another_mark_asks_nothing(endpoint, source, ask):
    endpoint.answer = judged
    ask(source(judge=("Rate {{ user }} {{ assistant }}", 7)))
    assert len(ask(source(judge=("Rate {{ user }} {{ assistant }}", 2.5))).pairs) == 3
    assert len(endpoint.bodies) == 6


def test_a_judge_without_a_number_is_a_misfit(endpoint, source, ask, fault_of):
    endpoint.answer = lambda body: "Great!"
    assert "The first: the judge gives no number: 'Great!'" in fault_of(ask, source(judge=("Rate {{ assistant }}", 7)))


def test_nothing_left_is_a_fault(endpoint, source, ask, fault_of, tmp_path):
    endpoint.answer = judged
    told = fault_of(ask, source(judge=("Rate {{ user }} {{ assistant }}", 9)))
    assert told == (
        f"error SG486: no row is left of what made wrote: 3 below the judge's mark\n  hint: look at the answers: {tmp_path / 'kept'}"
    )


def test_equal_conversations_are_judged_once_and_the_first_stays(endpoint, source, ask):
    endpoint.answer = lambda body: "9" if body["messages"][0]["content"].startswith("Rate") else "Same."
    row = (TurnRule(role="user", content="Hi"), TurnRule(role="assistant", content="{{ answer }}"))
    asked = ask(source(judge=("Rate {{ assistant }}", 7), row=row, concurrency=3))
    assert asked.pairs == [("Hi", "Same.")]
    assert len(endpoint.bodies) == 4
    assert "2 equal to others" in asked.said[0]


def test_equal_conversations_stay_where_unique_is_off(endpoint, source, ask):
    row = (TurnRule(role="user", content="Hi"), TurnRule(role="assistant", content="{{ answer }}"))
    endpoint.answer = lambda _body: "Same."
    assert len(ask(source(row=row, unique=False)).pairs) == 3


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_budget_of_requests_stops_the_run_and_the_next_goes_on(concurrency, endpoint, source, ask, fault_of):
    many = {"topics": tuple(range(10)), "requests": 4, "concurrency": concurrency}
    assert fault_of(ask, source(**many)) == (
        "error SG484: the budget of made, 4 requests, is used up: 4 of 10 prompts are done (4 requests, 60 tokens)\n"
        "  hint: all answers are kept: run it again to go on with the same budget, or raise budget in the spec"
    )
    assert len(endpoint.bodies) == 4
    with pytest.raises(RunFault, match="8 of 10 prompts"):
        ask(source(**many))
    assert len(ask(source(**many)).pairs) == 10
    assert len(endpoint.bodies) == 10


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_budget_of_tokens_is_never_exceeded(concurrency, endpoint, source, ask, fault_of):
    told = fault_of(ask, source(topics=tuple(range(20)), tokens=150, concurrency=concurrency))
    # 15 tokens each, and the next may take 50 and its prompt
    assert "the budget of made, 150 tokens, is used up: 6 of 20 prompts are done (6 requests, 90 tokens)" in told
    assert len(endpoint.bodies) == 6


def test_requests_that_were_refused_cost_nothing_and_others_that_failed_do(endpoint, source, ask, fault_of):
    endpoint.faults = [status(429, {}), break_off]
    told = fault_of(ask, source(requests=3))
    assert "2 of 3 prompts are done (3 requests" in told
    assert len(endpoint.bodies) == 4


def test_a_prompt_that_does_not_render_ends_the_run_and_what_was_answered_is_kept(endpoint, source, ask, fault_of):
    prompt = (TurnRule(role="user", content="Write about {{ topic.title }}, which is {{ topic.about }}."),)
    topics = ({"title": "tea", "about": "warm"}, {"title": "jam"})
    assert fault_of(ask, source(topics=topics, prompt=prompt, concurrency=2)) == (
        "error SG204: a prompt of made cannot be asked: the text does not render: 'dict object' has no attribute 'about'\n"
        "  hint: the variables are topic"
    )
    assert len(endpoint.bodies) == 1
    endpoint.answer = lambda _body: "Another."
    assert ask(source(topics=topics[:1], prompt=prompt)).pairs[0][1] == "Answer to: Write about tea, which is warm."


def test_a_prompt_of_a_judge_that_does_not_render_ends_the_run(source, ask, fault_of):
    assert fault_of(ask, source(judge=("Rate {{ messages[7].content }}", 7))).startswith(
        "error SG204: a prompt of made cannot be asked: the text does not render: "
    )


def test_who_wants_no_more_rows_leaves_no_fault_behind(source, ask, tmp_path, caplog):
    ask(source(topics=("tea",)))
    made = rows(source(topics=("tea", *range(9))), seed=1, rows_of=no_rules, cache=tmp_path / "kept", say=lambda *_: None, asks=False)
    assert next(made)["messages"][1]["content"] == "Answer to: Write about tea."
    made.close()
    gc.collect()
    assert caplog.text == ""


def test_half_a_character_in_a_text_is_a_misfit(endpoint, source, ask, fault_of):
    endpoint.answer = lambda _body: "Yes \ud83d."
    assert "The first: it holds half a character: 'Yes \\ud83d.'" in fault_of(ask, source())


INTERRUPTED = """
import sys
from pathlib import Path
from runtime.config import *
from runtime.data.llm.rows import rows

source = LlmSource(**eval(sys.argv[1]))
for row in rows(source, seed=1, rows_of=None, cache=Path(sys.argv[2])):
    pass
"""


def test_an_interrupted_run_ends_at_once_and_keeps_what_was_answered(endpoint, source, ask, tmp_path, root):
    endpoint.answer = lambda body: stall if "oats" in body["messages"][0]["content"] else "Yes."
    wanted = source(concurrency=3, timeout_s=60.0)
    settings = {field.name: getattr(wanted, field.name) for field in dataclasses.fields(wanted)}
    command = [sys.executable, "-c", INTERRUPTED, repr(settings), str(tmp_path / "kept")]
    run = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while len(list((tmp_path / "kept").rglob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=5)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in said
    endpoint.answer = lambda _body: "No."
    assert [answer for _, answer in ask(wanted).pairs] == ["Yes.", "Yes.", "No."]
