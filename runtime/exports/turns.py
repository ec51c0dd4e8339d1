"""A chat template taken apart: what it writes before and after each role's words. Found by rendering, and proved by it."""

from __future__ import annotations

from dataclasses import dataclass

from conversations.row import Message
from runtime.faults import RunFault
from runtime.tokens.chat_template import ChatFormat

SYSTEM, USER, ANSWER, AGAIN = "Speak so.", "What is it?", "It is that.", "And then?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Texts around each role's words. `opening` stands where no system turn does, `prompt` where the assistant is to speak."""

    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    opening: str
    prompt: str

    def render(self, messages: list[Message]) -> str:
        """A conversation up to where the assistant is to speak."""
        around = {"system": self.system, "user": self.user, "assistant": self.assistant}
        said = [around[message["role"]][0] + message["content"] + around[message["role"]][1] for message in messages]
        return ("" if messages[0]["role"] == "system" else self.opening) + "".join(said) + self.prompt


def turns_of(form: ChatFormat, *, begin: str) -> Turns | None:
    """The template's parts, without `begin`, which the tokenizer adds by itself. None where turns are not written alike."""
    try:
        found = _found(form, begin)
        wanted = [form.render(messages, prompt=True).removeprefix(begin) for messages in _probes()]
    except (RunFault, ValueError):
        return None
    return found if [found.render(messages) for messages in _probes()] == wanted else None


def _found(form: ChatFormat, begin: str) -> Turns:
    system, user, answer, again = _probes()[-1]
    asked = form.render([user])
    prompt = form.render([user], prompt=True)[len(asked) :]
    user_end = asked.rpartition(USER)[2]
    assistant_end = form.render([user, answer]).rpartition(ANSWER)[2]
    whole = form.render([system, user, answer, again], prompt=True).removeprefix(begin)
    before, rest = _parted(whole, SYSTEM)
    to_user, rest = _parted(rest, USER)
    to_answer, rest = _parted(rest, ANSWER)
    user_begin = _without_start(_parted(rest, AGAIN)[0], assistant_end)
    return Turns(
        system=(before, _without_end(to_user, user_begin)),
        user=(user_begin, user_end),
        assistant=(_without_start(to_answer, user_end), assistant_end),
        opening=_without_end(_parted(asked.removeprefix(begin), USER)[0], user_begin),
        prompt=prompt,
    )


def _probes() -> list[list[Message]]:
    """Conversations of which each has to be rendered as the parts render it."""
    system: Message = {"role": "system", "content": SYSTEM}
    user: Message = {"role": "user", "content": USER}
    answer: Message = {"role": "assistant", "content": ANSWER}
    again: Message = {"role": "user", "content": AGAIN}
    return [[user], [system, user], [user, answer, again], [user, answer, again, answer, user], [system, user, answer, again]]


def _parted(text: str, at: str) -> tuple[str, str]:
    before, found, after = text.partition(at)
    if not found:
        raise ValueError(at)
    return before, after


def _without_start(text: str, start: str) -> str:
    if not text.startswith(start):
        raise ValueError(start)
    return text[len(start) :]


def _without_end(text: str, end: str) -> str:
    if not text.endswith(end):
        raise ValueError(end)
    return text[: len(text) - len(end)]
