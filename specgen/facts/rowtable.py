"""What is known of each row of a source, as columns of numbers: about 40 bytes a row, however long it is.

A data set may have millions of rows. Only the texts of the first ones are kept, for the checks that read some rows as they are.
"""

from __future__ import annotations

import itertools
import json
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from conversations.row import Conversation, Row, canonical, digest, parted
from specgen.secrets import holds_secret

MOST_TEXTS = 20_000
MOST_DIALOGUES = 100
LONG = 100_000  # characters: a row may hold whole images
COLUMNS = ("digests", "prompts", "answers", "traits", "messages", "sizes", "images")

# what an editor or a wrong encoding leaves behind: marks, halves of line ends, control and replacement characters
ODD = re.compile("[\ufeff\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]|\r(?!\n)")
MAYBE_ODD = ("\ufeff", "\ufffd", "\\u00", "\\r", "\\b", "\\f")
MAYBE_BLANK = ('":" ', '":"\\n', '":"\\t', ' "', '\\n"', '\\t"')


@dataclass(frozen=True, slots=True)
class Look:
    """What rows are looked at for, beside themselves: the texts of control tokens, and the questions that are asked later."""

    controls: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    @property
    def kinds(self) -> dict[str, Callable[[Row, list[str]], object]]:
        """Tests of a row and its roles. A row is parsed only where its text makes that worth it."""
        kinds: dict[str, Callable[[Row, list[str]], object]] = {
            "odd characters": lambda row, _: (_has(row, MAYBE_ODD) or not row.isprintable()) and any(map(ODD.search, _contents(row))),
            "secrets": lambda row, _: holds_secret(row),
            "blank edges": lambda row, _: _has(row, MAYBE_BLANK) and any(text != text.strip() for text in _contents(row)),
            "no answer at the end": lambda _, roles: roles[-1] == "user",
            "a system text": lambda _, roles: roles[0] == "system",
            "unusual turns": lambda _, roles: _unusual(roles),
            "roles": lambda _, roles: roles[0] != "text",
        }
        if self.controls:
            texts = tuple(json.dumps(text, ensure_ascii=False)[1:-1] for text in self.controls)
            starts = tuple({text[:2] for text in texts})
            kinds["control tokens"] = lambda row, _: _has(row, starts) and _has(row, texts)
        return kinds


@dataclass(slots=True)
class RowTable:
    """One line for each row of a source, in its order: digests of the row, its prompt and its last answer, its traits as bits,
    its messages, the bytes of their contents, and its images."""

    look: Look
    digests: array[int] = field(default_factory=lambda: array("Q"))
    prompts: array[int] = field(default_factory=lambda: array("Q"))
    answers: array[int] = field(default_factory=lambda: array("Q"))
    traits: array[int] = field(default_factory=lambda: array("H"))
    messages: array[int] = field(default_factory=lambda: array("I"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    images: array[int] = field(default_factory=lambda: array("I"))
    texts: list[Row] = field(default_factory=list)
    examples: dict[str, Row] = field(default_factory=dict)
    dialogues: list[Row] = field(default_factory=list)
    told: dict[str, list[str]] = field(default_factory=dict)
    alike: dict[str, str] = field(default_factory=dict)
    _kinds: dict[str, Callable[[Row, list[str]], object]] = field(init=False, compare=False)
    _plain: dict[str, str] = field(init=False, compare=False)
    _longest: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self._kinds = self.look.kinds
        self._plain = {plainly(question): question for question in self.look.asked}
        self._longest = 2 * max(map(len, self.look.asked), default=0)

    def __len__(self) -> int:
        return len(self.digests)

    def add(self, conversation: Conversation) -> None:
        """Looks at one more row."""
        row = canonical(conversation)
        messages = conversation.get("messages", ())
        roles = [message["role"] for message in messages] or ["text"]
        self.digests.append(digest(row))
        prompt, answer = parted(row)
        images = "".join(conversation.get("images", ()))  # the same question about another one is another question
        self.prompts.append(digest(prompt + images))
        self.answers.append(digest(answer.rpartition(',"images":[')[0] + "}" if images else answer))
        self.traits.append(self._bits(row, roles))
        self.messages.append(len(roles))
        contents = [message["content"] or "" for message in messages] or [conversation["text"]]
        self.sizes.append(sum(len(content.encode("utf-8", "surrogatepass")) for content in contents))
        self.images.append(len(conversation.get("images", ())))
        if len(self.texts) < MOST_TEXTS:
            self.texts.append(row if len(row) < LONG else _without_pixels(conversation))
        if roles.count("assistant") > 1 and len(self.dialogues) < MOST_DIALOGUES:
            self.dialogues.append(row)
        if self._plain:
            self._hear(conversation)

    def extend(self, other: RowTable) -> None:
        """Puts the rows of another table, that was looked at in the same way, behind these."""
        for name in COLUMNS:
            getattr(self, name).extend(getattr(other, name))
        self.texts += other.texts[: MOST_TEXTS - len(self.texts)]
        self.dialogues += other.dialogues[: MOST_DIALOGUES - len(self.dialogues)]
        for kind, row in other.examples.items():
            self.examples.setdefault(kind, row)
        for question, answers in other.told.items():
            heard = self.told.setdefault(question, [])
            heard += [answer for answer in answers if answer not in heard]
        for question, text in other.alike.items():
            self.alike.setdefault(question, text)

    def _bits(self, row: Row, roles: list[str]) -> int:
        bits = 0
        for index, (kind, holds) in enumerate(self._kinds.items()):
            if holds(row, roles):
                bits |= 1 << index
                self.examples.setdefault(kind, row)
        return bits

    def _hear(self, conversation: Conversation) -> None:
        """Notes what the row answers to the questions that are asked later."""
        turns = conversation.get("messages", ())
        for index, turn in enumerate(turns):
            text = turn["content"]
            if turn["role"] != "user" or len(text) > self._longest or (question := self._plain.get(plainly(text))) is None:
                continue
            if text in self.look.asked:
                heard = self.told.setdefault(text, [])
                following = [after["content"] for after in turns[index + 1 : index + 2] if after["role"] == "assistant"]
                heard += [answer for answer in following if answer not in heard]
            else:
                self.alike.setdefault(question, text)

    def with_trait(self, kind: str) -> Iterator[int]:
        """The numbers of the rows that have a trait."""
        if kind in self.examples:
            bit = 1 << list(self._kinds).index(kind)
            yield from (index for index, bits in enumerate(self.traits) if bits & bit)


def _without_pixels(conversation: Conversation) -> Row:
    """A row without what its data: URLs hold."""
    images = [image.partition(",")[0] if image.startswith("data:") else image for image in conversation.get("images", ())]
    return canonical({**conversation, "images": images})


def _has(row: Row, parts: tuple[str, ...]) -> bool:
    for part in parts:  # noqa: SIM110  (a generator would take three times as long)
        if part in row:
            return True
    return False


def _contents(row: Row) -> list[str]:
    conversation = json.loads(row)
    return [message["content"] or "" for message in conversation["messages"]] if "messages" in conversation else [conversation["text"]]


def _unusual(roles: list[str]) -> bool:
    turns = roles[1:] if roles[0] == "system" else roles
    repeated = any(one == other != "tool" for one, other in itertools.pairwise(turns))
    return turns[:1] == ["assistant"] or "system" in turns or repeated


def plainly(text: str) -> str:
    """A text without case, punctuation and spaces."""
    return "".join(character for character in text.casefold() if character.isalnum())
