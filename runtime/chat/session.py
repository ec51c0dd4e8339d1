"""A conversation with a model: questions, answers and commands. What it looks like is the view's affair."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from threading import Event
from typing import Protocol

from conversations.row import Message
from runtime.chat import images as chat_images
from runtime.config import ChatConfig
from runtime.faults import RunFault
from runtime.generation.generate import Answer, is_greedy, sees_nothing
from runtime.talking import chat_files
from runtime.talking.answering import Answering
from runtime.talking.talker import Talker
from runtime.tokens.chat_template import with_system
from runtime.vision.form import asking

COMMANDS = {
    "/reset": "begin anew",
    "/system": "TEXT  another system text; without TEXT show it",
    "/save": "FILE  write the conversation, as OpenAI's messages",
    "/load": "FILE  go on with a conversation that was saved",
    "/image": "FILE  show a picture with the next question; without FILE list them, - takes them off",
    "/regen": "answer the last question again, with the next seed",
    "/exit": "end; Ctrl-D, too",
    "/help": "show this",
}


class View(Protocol):
    """What shows a chat."""

    def note(self, text: str) -> None:
        """A line of our own."""

    def fault(self, fault: RunFault) -> None:
        """What went wrong; the conversation goes on."""

    def begin(self) -> None:
        """An answer begins."""

    def piece(self, text: str) -> None:
        """The next piece of the answer's text."""

    def end(self, answer: Answer) -> None:
        """The answer is whole."""


@dataclass(slots=True, kw_only=True)
class Session:
    """The state of one chat. `chat` are its settings, which commands change. `images` are shown with the next question."""

    talker: Talker
    view: View
    chat: ChatConfig
    answering: Answering
    messages: list[Message] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    repeats: int = 0
    over: bool = False

    def take(self, text: str) -> None:
        """A line of the user's: a command, or a question. One that begins with a blank is a question."""
        word, _, rest = text.partition(" ")
        try:
            if word.startswith("/") and word[1:].isalpha():
                self._command(word, rest.strip())
            elif text.strip():
                self.repeats = 0
                self._question(text.strip())
        except RunFault as fault:
            self.view.fault(fault)

    def _command(self, word: str, rest: str) -> None:
        match word:
            case "/exit":
                self.over = True
            case "/reset":
                self.messages, self.images, self.repeats = [], [], 0
            case "/help":
                self.view.note("\n".join(f"{name:<8} {about}" for name, about in COMMANDS.items()))
            case "/system":
                self._system(rest)
            case "/image":
                self._image(rest)
            case "/regen":
                self._again()
            case "/save" | "/load" if not rest:
                self.view.note(f"{word} needs the name of a file")
            case "/save":
                if not self.messages:
                    self.view.note("nothing has been said yet")
                    return
                chat_files.save(self._whole(), Path(rest))
                self.view.note(f"wrote {rest}")
            case "/load":
                self.messages = chat_files.load(Path(rest), sees=self.talker.sees)
                self.view.note(f"loaded {len(self.messages)} messages from {rest}")
            case _:
                near = get_close_matches(word, COMMANDS, n=1)
                hint = f"did you mean {near[0]}?" if near else "/help shows them all"
                self.view.note(f"there is no command {word}; {hint} (a text that begins with a blank is no command)")

    def _system(self, text: str) -> None:
        if not text:
            self.view.note(self.chat.system or "there is no system text")
            return
        self.chat = replace(self.chat, system=text)
        self.messages = [message for message in self.messages if message["role"] != "system"]

    def _image(self, text: str) -> None:
        if not self.talker.sees:
            raise sees_nothing()
        if text == "-":
            self.images = []
        elif text:
            self.images = [*self.images, chat_images.found(text)]
        if not self.images:
            self.view.note("no image is shown with the next question; /image FILE shows one")
            return
        number = "1 image is" if len(self.images) == 1 else f"{len(self.images)} images are"
        self.view.note("\n".join((f"{number} shown with the next question; /image - takes them off", *self.images)))

    def _question(self, text: str) -> None:
        if self._ask(asking(text, self.images)):
            self.images = []

    def _again(self) -> None:
        asked = [index for index, message in enumerate(self.messages) if message["role"] == "user"]
        if not asked:
            self.view.note("nothing has been asked yet")
            return
        question = self.messages[asked[-1]]
        before, self.messages = self.messages, self.messages[: asked[-1]]
        self.repeats += 1
        if is_greedy(self.chat):
            self.view.note(f"temperature is {self.chat.temperature:g}: the likeliest answer is the same again")
        is_answered = False
        try:
            is_answered = self._ask(question)
        finally:  # also where an image is gone by now, or a tool fails
            if not is_answered:
                self.messages = before

    def _ask(self, question: Message) -> bool:
        """Asks, and keeps question and answer where there is one."""
        before = self.messages
        messages = [*(before if self.talker.has_turns else []), question]
        chat = replace(self.chat, seed=(self.chat.seed + self.repeats) % 2**32)
        messages, dropped = self.talker.fitted(messages, chat, self.answering.told)
        if dropped:
            self.view.note(f"the context is full: the oldest {'turn' if dropped == 1 else f'{dropped} turns'} left out")
        self.view.begin()
        answer = None
        try:
            with stoppable() as stop:
                answer = self.answering(self.talker, messages, chat, show=self.view.piece, note=self.view.note, stop=stop)
        finally:
            self.view.end(answer or Answer(text="", stopped=False, tokens=0))
        if not answer.text.strip():
            self.view.note("there is no answer; the question is left out")
            return False
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        if answer.full:
            full = f"the model's context is full, it holds {self.talker.context:,} with the question"
            self.view.note(f"cut after {answer.tokens} tokens: {full}; /reset begins anew, and a shorter question leaves more room")
        elif not (answer.stopped or answer.cancelled):
            self.view.note(f"cut after {answer.tokens} tokens (--max-new-tokens)")
        return True

    def _whole(self) -> list[Message]:
        return with_system(self.messages, self.chat.system)


@contextmanager
def stoppable() -> Iterator[Event]:
    """Within, Ctrl-C sets the event; a second one is KeyboardInterrupt."""
    stop = Event()

    def pressed(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, pressed)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
