"""data.overlong: what becomes of a row of more than max_length tokens. Every row that comes out has a token that is learned.

A row is shortened or parted as a conversation, and rendered and tokenized again: masks are exact, and what chat-time prompts
promise holds for what is left, too. Only `truncate` at the end, and texts, are cut as tokens.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from conversations.row import Conversation, Message
from runtime.config import Config
from runtime.faults import WRONG, RunFault
from runtime.tokens.chat_template import Encoded

MOST_SHOWN = 20
LONGEST_WORD = 40  # characters: a cut moves back to the edge of a word unless none is as near as that

Encode = Callable[[Conversation], Encoded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the spec says of long rows, in `data`. `learns_last`: of a conversation only the last answer is trained; `is_text`: rows
    are plain text, whoever says it."""

    max_length: int
    overlong: Literal["error", "drop", "truncate", "split"]
    truncate_from: Literal["end", "user"]
    learns_last: bool
    is_text: bool


def policy_of(config: Config) -> Policy:
    """The policy of a config. Texts that are packed are cut in any case, where a pack ends: none of them is too long."""
    data, is_text = config.data, config.train.objective == "text"
    return Policy(
        max_length=data.max_length,
        overlong="split" if is_text and data.packing and data.overlong == "error" else data.overlong,
        truncate_from="end" if is_text else data.truncate_from,
        learns_last=data.train_on == "last_assistant" or data.unroll,
        is_text=is_text,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What is left of a row. None of `rows` is over max_length, unless `is_too_long`: then it is the row as it was.

    `is_truncated`: some of its words are left out. `exchanges` counts the questions with their answers that are left out whole.
    """

    rows: tuple[Encoded, ...]
    is_too_long: bool = False
    is_truncated: bool = False
    is_split: bool = False
    exchanges: int = 0

    @property
    def is_dropped(self) -> bool:
        """Whether nothing is left."""
        return not self.rows


DROPPED = Fitted(rows=())


def fit(conversation: Conversation, encoded: Encoded, policy: Policy, encode: Encode) -> Fitted:
    """A row by the policy. `encode` renders, tokenizes and masks a conversation; `encoded` is what it makes of this one."""
    if len(encoded.input_ids) <= policy.max_length:
        return Fitted(rows=(encoded,))
    if policy.overlong == "error":
        return Fitted(rows=(encoded,), is_too_long=True)
    if policy.overlong == "drop":
        return DROPPED
    if policy.overlong == "split":
        if policy.is_text:
            bounds = pieces(len(encoded.input_ids), policy.max_length)
            return Fitted(rows=tuple(_cut(encoded, *part) for part in itertools.pairwise(bounds)), is_split=True)
        return _split(conversation, policy, encode)
    if policy.truncate_from == "user":
        encoded = _with_less_asked(conversation, policy.max_length, encode)
    cut = _cut(encoded, 0, policy.max_length)
    return Fitted(rows=(cut,), is_truncated=True) if learns(cut) else DROPPED


def learns(encoded: Encoded) -> bool:
    """Whether a row has a trained token that another one precedes: nothing predicts the first."""
    return any(encoded.trained[1:])


def pieces(tokens: int, room: int) -> list[int]:
    """Bounds of pieces of `room` tokens, the last one shorter; but not one token alone, which nothing would predict."""
    bounds = [*range(0, tokens, room), tokens]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] == 1 and room > 2:
        bounds[-2] -= 1
    return bounds


def _cut(encoded: Encoded, start: int, end: int) -> Encoded:
    """The tokens from `start` up to `end`; an image that would be cut is left out, with all behind it."""
    end = min([end, *(image.start for image in encoded.images if image.start < end < image.end)])
    images = tuple(image for image in encoded.images if start <= image.start and image.end <= end)
    assert not (images and start), "only texts, in which nothing is seen, are cut in their middle"
    weights = None if encoded.weights is None else encoded.weights[start:end]
    return Encoded(input_ids=encoded.input_ids[start:end], trained=encoded.trained[start:end], weights=weights, images=images)


def _split(conversation: Conversation, policy: Policy, encode: Encode) -> Fitted:
    """Rows of whole exchanges, each with the system message in front; the last row gets as much of the conversation as fits.

    An exchange that is too long by itself is left out. So is a row without an answer to learn, where only the last one is.
    """
    messages, room = conversation["messages"], policy.max_length
    begin, exchanges = exchanges_of(_last_alone(messages) if policy.learns_last else messages)
    rows: list[Encoded] = []
    lost, end = 0, len(exchanges)
    while end:
        start, fitting = end, None
        while start and (longer := encode(_part(conversation, begin, exchanges[start - 1 : end]))) and len(longer.input_ids) <= room:
            start, fitting = start - 1, longer
        if fitting is None:
            lost, start = lost + 1, end - 1
        elif learns(fitting):
            rows.append(fitting)
        end = start
    return Fitted(rows=tuple(reversed(rows)), is_truncated=bool(rows and lost), is_split=bool(rows), exchanges=lost if rows else 0)


def exchanges_of(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system message, if any, and the exchanges: each is what a user says and all that follows, until a user speaks again."""
    begin = list(messages[:1]) if messages[0]["role"] == "system" else []
    exchanges: list[list[Message]] = []
    before = None
    for message in messages[len(begin) :]:
        if before is None or (message["role"] == "user" and before != "user"):
            exchanges.append([])
        exchanges[-1].append(message)
        before = message["role"]
    return begin, exchanges


def _last_alone(messages: Sequence[Message]) -> list[Message]:
    """The messages with `train: false` on all answers but the last: it is the last of the conversation, not of each part."""
    last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
    return [
        {**message, "train": False} if message["role"] == "assistant" and index != last else message
        for index, message in enumerate(messages)
    ]


def _part(conversation: Conversation, begin: list[Message], exchanges: Sequence[Sequence[Message]]) -> Conversation:
    return {**conversation, "messages": [*begin, *(message for exchange in exchanges for message in exchange)]}


def _with_less_asked(conversation: Conversation, room: int, encode: Encode) -> Encoded:
    """The row with the user's messages shortened at their ends, the longest first, until it fits; each keeps a word at least."""
    messages = list(conversation["messages"])
    asked = [index for index, message in enumerate(messages) if message["role"] == "user"]
    encoded = encode(conversation)
    for index in sorted(asked, key=lambda index: -len(messages[index]["content"])):
        message = messages[index]

        def with_first(characters: int, message: Message = message, index: int = index) -> Encoded:
            messages[index] = {**message, "content": message["content"][:characters]}
            return encode({**conversation, "messages": messages})

        encoded = _longest_fitting(message["content"], room, with_first)
        if len(encoded.input_ids) <= room:
            break
    return encoded


def _longest_fitting(text: str, room: int, with_first: Callable[[int], Encoded]) -> Encoded:
    """The row with as much of the beginning of a text as fits, or with its first word where not even that does."""
    fits, too_many = 0, len(text)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if len(with_first(middle).input_ids) <= room:
            fits = middle
        else:
            too_many = middle
    least = edge if (edge := _end_of_first_word(text)) <= LONGEST_WORD else 1
    kept = max(least, _edge(text, fits))
    encoded = with_first(kept)
    while kept > least and len(encoded.input_ids) > room:  # fewer characters are more tokens at times
        kept = max(least, _edge(text, kept - 1))
        encoded = with_first(kept)
    return encoded


def _end_of_first_word(text: str) -> int:
    found = re.match(r"\s*\S+", text)
    return found.end() if found else len(text)


def _edge(text: str, end: int) -> int:
    """The nearest end of a word at or before `end`; `end` itself where words are not parted by spaces."""
    found = re.search(r"\s+\S*$", text[max(0, end - LONGEST_WORD) : end + 1])
    return end if found is None else max(0, end - LONGEST_WORD) + found.start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Long:
    """A row that is too long for overlong: error, and how it begins."""

    tokens: int
    beginning: str


def too_long(found: Sequence[Long], max_length: int) -> RunFault:
    """The fault that names rows that are too long, the first of them in full."""
    lines = [f"  {row.tokens} tokens: {row.beginning}" for row in found[:MOST_SHOWN]]
    if len(found) > MOST_SHOWN:
        lines.append(f"  and {len(found) - MOST_SHOWN:,} more")
    count = f"{len(found):,} distinct row{'s are' if len(found) > 1 else ' is'}"
    hint = f"write data.max_length: {max(row.tokens for row in found)}, or overlong: drop, truncate or split"
    return RunFault("SG424", "\n".join([f"{count} longer than {max_length} tokens", *lines]), hint, exit_code=WRONG)


def dropped_line(dropped: int, rows: int, policy: Policy) -> str:
    """How many rows the policy leaves out, and why."""
    why = (
        f"longer than {policy.max_length} tokens" if policy.overlong == "drop" else f"no trainable token within {policy.max_length} tokens"
    )
    return f"{dropped:,} of {rows:,} rows dropped: {why}"
