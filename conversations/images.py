"""Images of a row: where a row names them, and that there is one for each <image> of its texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conversations.problems import Problem, in_words, kind_of
from conversations.row import IMAGE, Message, canonical

BLIND = "model.vision is null, so that the model sees none"
ON_HUB = "those of a data set on the hub are not read: save them as files, and name them in a source of files, with model.vision"
COLUMNS = ("images", "image")
SOURCES = {"image_url": ("image_url",), "image": ("image", "path", "url")}  # type of a part → where it may name its image
DATA = re.compile(r"data:image/[A-Za-z0-9.+-]+;base64,")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(slots=True)
class Images:
    """The images of a row as it is being read.

    `folder` is where their relative paths start; None where a row may have none, and `none` then says why. A part of a message that is
    an image and names none takes one of the row's column.
    """

    folder: str | None = None
    none: str = BLIND
    found: list[str] = field(default_factory=list)

    def of_part(self, part: Mapping[str, Any], path: str, faults: list[Problem]) -> str:
        """What stands in the text for a part that is an image."""
        if self.folder is None:
            self._refuse(path, faults)
            return ""
        names = [name for name in SOURCES[part["type"]] if part.get(name) is not None]
        known = {"type", *SOURCES[part["type"]]}
        if lost := next((key for key, value in part.items() if key not in known and value is not None), None):
            faults.append(Problem("an unknown key", f"{path}.{lost}", f"{path}.{lost} is not understood, and would be lost"))
        if len(names) > 1:
            faults.append(Problem("two names for one thing", path, f"{path} has {' and '.join(names)}: an image is named once"))
        elif names:
            value, where = part[names[0]], f"{path}.{names[0]}"
            if names[0] == "image_url" and isinstance(value, Mapping):  # its detail, if any, is for other models
                value, where = value.get("url"), f"{where}.url"
            self._add(value, where, faults)
        return IMAGE

    def of_columns(self, columns: Mapping[str, object], faults: list[Problem]) -> None:
        """Takes the images of columns, by what they are called: one, or a list."""
        given = {name: value for name, value in columns.items() if value is not None and value not in ("", [])}
        if not given:
            return
        name, value = next(iter(given.items()))
        if self.folder is None:
            self._refuse(name, faults)
        elif len(given) > 1:
            faults.append(
                Problem("two names for one thing", name, f"the row has images in {' and '.join(given)}: one of them holds them all")
            )
        elif self.found:
            text = f"the row has images in {name} and in parts of its messages: one of them holds them all"
            faults.append(Problem("two names for one thing", name, text))
        else:
            listed = isinstance(value, list)
            for index, one in enumerate(value if isinstance(value, list) else [value]):
                self._add(one, f"{name}[{index}]" if listed else name, faults)

    def _refuse(self, path: str, faults: list[Problem]) -> None:
        faults.append(Problem("an image", path, f"{path} names an image, and {self.none}"))

    def _add(self, value: object, path: str, faults: list[Problem]) -> None:
        if isinstance(value, Mapping) and value.get("bytes") is None and isinstance(value.get("path"), str):
            value = value["path"]  # as `datasets` writes an image whose file it has not read
        if not isinstance(value, str):
            what = f"an image is {kind_of(value)}"
            faults.append(Problem(what, path, f"{path} is {in_words(value)}; it has to be the path of an image, or a data: URL"))
        elif not value.strip() or "\0" in value:
            faults.append(Problem("an image without a path", path, f"{path} is no path"))
        elif value.startswith("data:"):
            if DATA.match(value):
                self.found.append(value)
            else:
                text = f"{path} is a data: URL of another kind than data:image/…;base64,…"
                faults.append(Problem("a data: URL of another kind", path, text))
        elif ADDRESS.match(value):
            text = f"{path} is an address, {_short(value)}: download the image, and give the path of its file"
            faults.append(Problem("an image at an address", path, text))
        else:
            assert self.folder is not None
            self.found.append(joined(self.folder, value))


def joined(folder: str, path: str) -> str:
    """A path that a row names, from the working folder or absolute."""
    if path.startswith("/") or folder in ("", "."):
        return path
    return f"{folder.rstrip('/')}/{path.removeprefix('./')}"


def with_break(before: str, text: str, *, image: bool) -> str:
    """A part of a message behind what stands before it: between an image and a text is a line break."""
    if before and text and before.endswith(IMAGE) is not image and not before.endswith("\n") and not text.startswith("\n"):
        return f"{before}\n{text}"
    return before + text


def count_faults(messages: Sequence[Message], tools: Sequence[Any], images: Sequence[str]) -> list[Problem]:
    """What is wrong with a row whose texts do not have one <image> for each image."""
    marks = [str(message["content"]).count(IMAGE) for message in messages]
    elsewhere = canonical({"messages": messages, "tools": tools}).count(IMAGE) - sum(marks)
    if elsewhere:
        return [
            Problem("<image> outside of a content", "", f"{IMAGE} stands in the row outside of a message's content, where no image can be")
        ]
    if sum(marks) == len(images):
        return []
    if not images:
        place = next(index for index, number in enumerate(marks) if number)
        return [Problem("<image> without an image", f"messages[{place}]", f"message {place + 1} says {IMAGE}, and the row has no image")]
    number = f"{len(images)} image{'s' if len(images) > 1 else ''}"
    times = "nowhere" if not sum(marks) else "once" if sum(marks) == 1 else f"{sum(marks)} times"
    return [Problem("another number of <image>", "", f"the row has {number}, and its texts say {IMAGE} {times}")]


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"
