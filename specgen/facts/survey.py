"""What the rows at hand have in common: read once, for all checks that ask it.

Rows are canonical JSON (conversations/row.py), whose text tells most of it without parsing.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from conversations.row import Row, messages_of
from specgen.diagnostics import printable
from specgen.secrets import holds_secret

MOST_DIALOGUES = 100
EXAMPLE_CHARACTERS = 60

ROLE = re.compile(r'\{"role":"(system|user|assistant|tool)"|^\{"(text)":')
# what an editor or a wrong encoding leaves behind: marks, halves of line ends, control and replacement characters
ODD = re.compile("[\ufeff\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]|\r(?!\n)")
MAYBE_ODD = ("\ufeff", "\ufffd", "\\u00", "\\r", "\\b", "\\f")
MAYBE_BLANK = ('":" ', '":"\\n', '":"\\t', ' "}', '\\n"}', '\\t"}')


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """Rows that have something in common, with repetitions, and how the first of them begins."""

    rows: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """`traits` by the name of what is common. `dialogues` are the first rows in which the assistant speaks more than once.

    `answers` has what the rows answer to each question of the smoke test and the previews, `alike` what they ask instead that
    differs in case and punctuation only. `usual_answer` is the share of rows that end with the commonest answer, and how many
    prompts it has. `duplicates` and `overlap` are as runtime/data/figures.py has them; None without training rows or validation.
    """

    traits: dict[str, Trait]
    dialogues: tuple[Row, ...]
    answers: dict[str, tuple[str, ...]]
    alike: dict[str, str]
    usual_answer: tuple[float, int]
    duplicates: float | None
    overlap: float | None


def survey(counts: Counter[Row], held_out: Iterable[Row], *, asked: Iterable[str], controls: Iterable[str]) -> Survey:
    """Looks at every distinct row once, and twice at those that ask what `asked` says."""
    held = set(held_out)
    kinds = _kinds(tuple(controls))
    found: dict[str, Trait] = {}
    dialogues: list[Row] = []
    ends: Counter[str] = Counter()
    prompts: Counter[str] = Counter()
    trained_prompts: set[str] = set()
    for row, count in counts.items():
        roles = [role or text for role, text in ROLE.findall(row)]
        for kind, holds in kinds.items():
            if holds(row, roles):
                before = found.get(kind)
                found[kind] = Trait(rows=count + (before.rows if before else 0), example=before.example if before else beginning(row))
        if roles.count("assistant") > 1 and len(dialogues) < MOST_DIALOGUES:
            dialogues.append(row)
        prompt, answer = _parted(row)
        ends[answer] += count
        prompts[answer] += 1
        if row not in held:
            trained_prompts.add(prompt)
    usual = max(ends, key=lambda answer: ends[answer], default="")
    rows, held_rows = counts.total(), sum(counts[row] for row in held)
    answers, alike = _answers(counts, tuple(asked))
    return Survey(
        traits=found,
        dialogues=tuple(dialogues),
        answers=answers,
        alike=alike,
        usual_answer=(ends[usual] / rows if rows else 0.0, prompts[usual]),
        duplicates=1 - (len(counts) - len(held)) / (rows - held_rows) if rows > held_rows else None,
        overlap=sum(counts[row] for row in held if _parted(row)[0] in trained_prompts) / held_rows if held_rows else None,
    )


def _kinds(controls: tuple[str, ...]) -> dict[str, Callable[[Row, list[str]], object]]:
    """Tests of a row and its roles. A row is parsed only where its text makes that worth it: there may be a million."""
    kinds: dict[str, Callable[[Row, list[str]], object]] = {
        "odd characters": lambda row, _: (_has(row, MAYBE_ODD) or not row.isprintable()) and any(map(ODD.search, _contents(row))),
        "secrets": lambda row, _: holds_secret(row),
        "blank edges": lambda row, _: _has(row, MAYBE_BLANK) and any(text != text.strip() for text in _contents(row)),
        "no answer at the end": lambda _, roles: roles[-1] == "user",
        "a system text": lambda _, roles: roles[0] == "system",
        "unusual turns": lambda _, roles: _unusual(roles),
    }
    if controls:
        texts = tuple(json.dumps(text, ensure_ascii=False)[1:-1] for text in controls)
        starts = tuple({text[:2] for text in texts})
        kinds["control tokens"] = lambda row, _: _has(row, starts) and _has(row, texts)
    return kinds


def _has(row: Row, parts: tuple[str, ...]) -> bool:
    for part in parts:  # noqa: SIM110  (a generator would take three times as long)
        if part in row:
            return True
    return False


def _contents(row: Row) -> list[str]:
    return [message["content"] for message in messages_of(row)]


def _unusual(roles: list[str]) -> bool:
    turns = roles[1:] if roles[0] == "system" else roles
    return turns[:1] == ["assistant"] or "system" in turns or any(one == other for one, other in itertools.pairwise(turns))


def _parted(row: Row) -> tuple[str, str]:
    """A row before its last answer, and from there on."""
    at = max(row.rfind('{"role":"assistant","'), 0)
    return row[:at], row[at:]


def _answers(counts: Counter[Row], asked: tuple[str, ...]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    answers: dict[str, tuple[str, ...]] = dict.fromkeys(asked, ())
    plain = {plainly(question): question for question in asked}
    alike: dict[str, str] = {}
    for row in counts if asked else ():
        turns = messages_of(row)
        for index, turn in enumerate(turns):
            text = turn["content"]
            if turn["role"] != "user" or (question := plain.get(plainly(text))) is None:
                continue
            if text in answers:
                following = [after["content"] for after in turns[index + 1 : index + 2] if after["role"] == "assistant"]
                answers[text] = tuple(dict.fromkeys([*answers[text], *following]))
            else:
                alike.setdefault(question, text)
    return answers, {question: text for question, text in alike.items() if not answers[question]}


def plainly(text: str) -> str:
    """A text without case, punctuation and spaces."""
    return "".join(character for character in text.casefold() if character.isalnum())


def beginning(row: Row) -> str:
    """How a row begins, on one line."""
    text = printable(" / ".join(f"{role}: {content}" for role, content in ((m["role"], m["content"]) for m in messages_of(row))))
    return text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"
