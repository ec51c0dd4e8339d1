"""A row as it is being read, and the format that says how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conversations.images import COLUMNS, Images
from conversations.problems import in_words
from conversations.row import Message
from conversations.turns import Faults, listed, text_of


@dataclass(slots=True)
class Reading:
    """A row as it is being read: its columns under the format's names, and what has been found."""

    row: Mapping[str, Any]
    names: Mapping[str, str]
    faults: Faults = field(default_factory=Faults)
    messages: list[Message] = field(default_factory=list)
    tools: list[Any] = field(default_factory=list)
    images: Images = field(default_factory=Images)
    text: str | None = None

    def name(self, column: str) -> str:
        """What the row calls a column of the format."""
        return self.names.get(column, column)

    def get(self, column: str) -> Any:
        """A column's value; None where there is none."""
        return self.row.get(self.name(column))

    def say(self, role: str, column: str, *, optional: bool = False) -> None:
        """A turn whose text is a column. An optional one that is null or empty is not there."""
        name = self.name(column)
        if optional and self.row.get(name) in (None, ""):
            return
        if name not in self.row:
            self.faults.add(f"no column {name}", "", f"the row has no {name}")
        else:
            self.add(role, self.row[name], name)

    def add(self, role: str, content: object, path: str) -> None:
        """A turn whose text stands at `path` of the row."""
        before = len(self.faults)
        text = text_of(content, path, self.faults)
        if role == "assistant" and not text.strip() and len(self.faults) == before:
            self.faults.add("an empty answer", path, f"{path} is empty, so there is nothing to learn")
        self.messages.append({"role": role, "content": text})

    def ask(self, columns: Sequence[str], *, optional: Sequence[str] = ()) -> None:
        """The user's turn: the texts of several columns on lines of their own, of the optional ones those that say something."""
        texts = []
        for column in columns:
            name = self.name(column)
            value = self.row.get(name)
            if column in optional and (value is None or (isinstance(value, str) and not value.strip())):
                continue
            if name not in self.row:
                self.faults.add(f"no column {name}", "", f"the row has no {name}")
            else:
                texts.append(text_of(value, name, self.faults))
        self.messages.append({"role": "user", "content": "\n".join(texts)})

    def see(self) -> None:
        """The images of the row's own columns."""
        self.images.of_columns({self.name(column): listed(self.get(column)) for column in COLUMNS}, self.faults)

    def turns(self, column: str) -> list[Any]:
        """A column that is a list of at least one turn, or JSON text of one."""
        name = self.name(column)
        found = listed(self.row.get(name))
        if name not in self.row:
            self.faults.add(f"no column {name}", "", f"the row has no {name}")
        elif not isinstance(found, list) or not found:
            what = "an empty list" if found == [] else in_words(found)
            self.faults.add(f"{name} is no list", name, f"{name} is {what}; it has to be a list of at least one message")
        return found if isinstance(found, list) else []


@dataclass(frozen=True, slots=True)
class Format:
    """A shape of rows. `needs` are the columns that a row has to have, `may` those that it may have; `about` is for the reference page."""

    read: Callable[[Reading], None]
    needs: tuple[str, ...]
    may: tuple[str, ...]
    about: str
