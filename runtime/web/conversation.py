"""Conversations in the browser: questions, what was said to them, and the same as files."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from conversations.row import Message
from runtime.talking.chat_files import as_openai
from runtime.vision.form import asking
from runtime.web.pictures import Shown

TITLE_LENGTH = 40
MOST_VISITORS = 200
Ended = Literal["stop", "length", "cancelled", "failed"]


@dataclass(slots=True, kw_only=True)
class Said:
    """One model's answer, as it grows; `ended` is None meanwhile. Of an answer that failed `text` is the reason."""

    text: str = ""
    ended: Ended | None = None
    tokens: int = 0
    left_out: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Turn:
    """A question, the images that it is about, and what was said to it. `base` is the base model's answer, where that was asked, too.

    `attempt` counts the answers that were made to it before. `stop` ends an answer, `seen` is when a page last looked at it.
    """

    question: str
    images: tuple[Shown, ...] = ()
    attempt: int = 0
    answer: Said = field(default_factory=Said)
    base: Said | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    seen: float = field(default_factory=time.monotonic)

    @property
    def message(self) -> Message:
        """What the model is asked. Raises RunFault where the question says <image> more often than there are images."""
        return asking(self.question, [image.url for image in self.images])

    @property
    def said(self) -> tuple[Said, ...]:
        """All answers to it."""
        return (self.answer,) if self.base is None else (self.answer, self.base)

    @property
    def running(self) -> bool:
        """Whether an answer to it is still being made."""
        return any(said.ended is None for said in self.said)

    @property
    def counts(self) -> bool:
        """Whether it is part of the conversation: not where no answer came, as questions without answers fit no template."""
        return self.answer.ended in ("stop", "length") or (self.answer.ended != "failed" and bool(self.answer.text))


@dataclass(slots=True, kw_only=True, eq=False)
class Conversation:
    """Turns in their order. `title` None: the first question is the title."""

    id: str = field(default_factory=lambda: secrets.token_hex(4))
    title: str | None = None
    turns: list[Turn] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it is called in the list."""
        if self.title:
            return self.title
        first = " ".join(self.turns[0].question.split()) or self.turns[0].images[0].name if self.turns else "New conversation"
        return first if len(first) <= TITLE_LENGTH else first[: TITLE_LENGTH - 1] + "…"

    def ask(self, question: str, *, at: int | None = None, images: tuple[Shown, ...] = ()) -> Turn:
        """A new turn at the end, or in the place of turn `at` and all that follow. An answer that is still coming ends. Raises RunFault
        where question and images do not fit; nothing is changed then."""
        asked = Turn(question=question, images=images)
        asked.message  # noqa: B018  (raises)
        for turn in self.turns:
            turn.stop.set()
        self.cut(len(self.turns) if at is None else at)
        self.turns.append(asked)
        return asked

    def again(self) -> Turn:
        """The last question once more."""
        last = self.turns[-1]
        turn = self.ask(last.question, at=len(self.turns) - 1, images=last.images)
        turn.attempt = last.attempt + 1
        return turn

    def cut(self, at: int) -> None:
        """Takes turn `at` and all that follow away; an answer that is being made is ended."""
        for turn in self.turns[at:]:
            turn.stop.set()
        del self.turns[at:]

    def messages(self, turn: Turn) -> list[Message]:
        """What the model is asked: the turns before a turn, and its question."""
        return [*_messages(self.turns[: self.turns.index(turn)]), turn.message]

    def as_openai(self, system: str | None) -> str:
        """The conversation as a row of data in OpenAI's format, indented; whole images are in it."""
        messages = [{"role": "system", "content": system}] if system else []
        messages += [as_openai(message) for message in _messages(self.turns)]
        return json.dumps({"messages": messages}, ensure_ascii=False, indent=2) + "\n"

    def as_markdown(self, system: str | None) -> str:
        """The conversation for readers, with the base model's answers where it was asked."""
        parts = [f"# {self.name}"]
        if system:
            parts.append(f"**System**\n\n{system}")
        for turn in self.turns:
            parts.append("\n\n".join(("**User**", *(image.as_markdown for image in turn.images), turn.question)))
            if turn.counts:
                parts.append(f"**Assistant**\n\n{turn.answer.text}")
            if turn.base is not None and turn.base.ended not in (None, "failed"):
                parts.append(f"**Base model**\n\n{turn.base.text}")
        return "\n\n".join(parts) + "\n"


@dataclass(slots=True, kw_only=True)
class Visitor:
    """A browser's conversations, the newest first."""

    conversations: list[Conversation] = field(default_factory=lambda: [Conversation()])

    def begin(self) -> Conversation:
        """A new conversation; one that is still empty is that already."""
        if self.conversations[0].turns or self.conversations[0].title:
            self.conversations.insert(0, Conversation())
        return self.conversations[0]

    def delete(self, conversation: Conversation) -> None:
        """Takes a conversation away. There is always one left."""
        conversation.cut(0)
        self.conversations.remove(conversation)
        if not self.conversations:
            self.conversations.append(Conversation())

    def find(self, id_: str | None) -> Conversation:
        """The conversation of an id, else the newest."""
        return next((conversation for conversation in self.conversations if conversation.id == id_), self.conversations[0])


class Visitors:
    """The conversations of every browser, by a secret in its address, so that loading the page again keeps them. In memory only."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Visitor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, secret: str | None) -> tuple[str, Visitor]:
        """The visitor of a secret; a new one where there is none. Of too many the one who was away longest is forgotten."""
        with self._lock:
            if secret is None or secret not in self._known:
                secret = secrets.token_urlsafe(16)
                self._known[secret] = Visitor()
            self._known.move_to_end(secret)
            while len(self._known) > MOST_VISITORS:
                self._known.popitem(last=False)
            return secret, self._known[secret]


def _messages(turns: list[Turn]) -> list[Message]:
    return [message for turn in turns if turn.counts for message in (turn.message, {"role": "assistant", "content": turn.answer.text})]
