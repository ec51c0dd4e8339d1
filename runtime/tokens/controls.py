"""Control tokens in what people wrote: they are text there, and are tokenized as text.

Each is parted in two by a character that no text has, at which the rendered text is tokenized apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from conversations.row import Message

CUTS = [chr(code) for code in range(0xFDD3, 0xFDF0)]  # noncharacters
PLAIN = ("role", "train", "weight")


def cut_for(*values: Any) -> str:
    """A character that is in none of the texts. It is looked for in the texts themselves: Python shows a noncharacter as an escape."""
    texts = list(_texts(values))
    return next(cut for cut in CUTS if not any(cut in text for text in texts))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.items():
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


class Controls:
    """The control tokens of a tokenizer: text → id."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.ids = dict(ids)
        longest_first = sorted((text for text in ids if len(text) > 1), key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")  # (?!) matches nothing

    def as_text(self, messages: list[Message], tools: list[Any] | None) -> tuple[list[Message], list[Any] | None, str | None]:
        """The same with control tokens cut in two, and the character that cuts them; None where there is nothing to cut."""
        if not self._are_in(messages, tools):
            return messages, tools, None
        cut = cut_for(messages, tools)
        told = [{key: value if key in PLAIN else self._cut(value, cut) for key, value in message.items()} for message in messages]
        return told, self._cut(tools, cut), cut

    def text(self, content: str) -> tuple[str, str | None]:
        """The same for a text alone."""
        if self._any.search(content) is None:
            return content, None
        cut = cut_for(content)
        return self._cut(content, cut), cut

    def _are_in(self, messages: list[Message], tools: list[Any] | None) -> bool:
        search = self._any.search
        for message in messages:
            if search(message["content"]) is not None:
                return True
            if len(message) > 2 and any(self._has(value) for value in message.values()):
                return True
        return bool(tools) and self._has(tools)

    def _has(self, value: Any) -> bool:
        if isinstance(value, str):
            return self._any.search(value) is not None
        if isinstance(value, dict):
            return any(self._has(item) for entry in value.items() for item in entry)
        return isinstance(value, list) and any(map(self._has, value))

    def _cut(self, value: Any, cut: str) -> Any:
        if isinstance(value, str):
            while self._any.search(value) is not None:  # what is left of one may be a part of the next
                value = self._any.sub(lambda found: found[0][:1] + cut + found[0][1:], value)
            return value
        if isinstance(value, dict):
            return {self._cut(key, cut): self._cut(item, cut) for key, item in value.items()}
        return [self._cut(item, cut) for item in value] if isinstance(value, list) else value
