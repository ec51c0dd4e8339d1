"""Conversations as files: OpenAI's messages in JSON. An image is a part of a content, as its path or as a data: URL."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from conversations.images import COLUMNS, Images, count_faults
from conversations.json_values import DECODER
from conversations.row import IMAGE, Message
from conversations.turns import ROLES, Faults, message_of
from runtime.faults import WRONG, RunFault
from runtime.vision.form import IMAGES, images_of, placed
from runtime.vision.pictures import BadPicture, checked

LARGEST = 20 * 10**6  # bytes of a file that is loaded
BLIND = "this model sees none"


def save(messages: list[Message], file: Path) -> None:
    """Writes a conversation, whole or not at all. Raises RunFault where another file is there, or none can be written."""
    try:
        place = file.expanduser()
        if place.exists() and not _is_conversation(place):
            raise _not_saved(file, "a file that is no conversation is there", "give another name")
        partial = place.with_name(f".{os.getpid()}.part")  # short: a name may be as long as a folder takes
        try:
            content = {"messages": [as_openai(message) for message in messages]}
            partial.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_saved(file, _why(error)) from None


def as_openai(message: Message) -> Message:
    """A message as OpenAI has it: its images are parts of the content. What is read of that is the message again, but for an image within
    a line, which gets one of its own."""
    images = message.get(IMAGES)
    if not images:
        return message
    parts: list[dict[str, Any]] = []
    texts = message["content"].split(IMAGE)
    for index, text in enumerate(texts):
        if index:
            parts.append({"type": "image_url", "image_url": {"url": images[index - 1]}})
        kept = text[1:] if index and text[:1] == "\n" and text[1:2] not in ("", "\n") else text  # who reads parts puts the break there
        if kept:
            parts.append({"type": "text", "text": kept})
    return {**{key: value for key, value in message.items() if key != IMAGES}, "content": parts}


def load(file: Path, *, sees: bool) -> list[Message]:
    """The conversation in a file: an object with messages, or the list of them. `sees`: it may show images, whose paths start at the
    file's folder. Raises RunFault where it is none, or shows an image that cannot be used."""
    messages = _read(file, sees=sees)
    try:
        for image in images_of(messages):
            checked(image)
    except BadPicture as fault:
        raise _not_loaded(file, fault.named.message) from None
    return messages


def _read(file: Path, *, sees: bool) -> list[Message]:
    try:
        place = file.expanduser()
        if place.stat().st_size > LARGEST:
            raise _not_loaded(file, f"it has more than {LARGEST // 10**6} MB")
        written = place.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(file, _why(error)) from None
    try:
        content = DECODER.decode(written.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _not_loaded(file, f"it is no JSON: {error}") from None
    turns = content.get("messages") if isinstance(content, dict) else content
    if not isinstance(turns, list) or not turns:
        raise _not_loaded(file, "it has no messages")
    faults = Faults()
    folder = str(place.absolute().parent) if sees else None
    messages = [_message(turn, f"messages[{index}]", faults, Images(folder, BLIND)) for index, turn in enumerate(turns)]
    columns = {name: content[name] for name in COLUMNS if name in content} if isinstance(content, dict) else {}
    if not faults:
        messages = _with_images(messages, columns, Images(folder, BLIND), faults)
    if faults:
        raise _not_loaded(file, faults[0].text)
    return messages


def _with_images(messages: list[Message], columns: dict[str, Any], images: Images, faults: Faults) -> list[Message]:
    """Messages with the images that stand beside them, as rows of data have these."""
    images.found += images_of(messages)
    own = len(images.found)
    images.of_columns(columns, faults)
    if faults or len(images.found) == own:
        return messages
    faults += count_faults(messages, (), images.found)
    return list(placed({"messages": messages, IMAGES: images.found})["messages"])


def _is_conversation(file: Path) -> bool:
    try:
        _read(file, sees=True)
    except RunFault:
        return False
    return True


def _why(error: Exception) -> str:
    """Why a name leads to no file: the system's words, or those for ~somebody and for a NUL byte."""
    words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return words[:1].upper() + words[1:].rstrip(".")


def _message(turn: Any, path: str, faults: Faults, images: Images) -> Message:
    if not isinstance(turn, dict):
        faults.wrong("a message", path, turn, "an object with role and content")
        return {}
    role = turn.get("role")
    if role not in ROLES:
        faults.add("an unknown role", f"{path}.role", f"{path}.role has to be one of {', '.join(ROLES)}")
        return {}
    message = message_of(turn, path, ROLES[role], "content", faults, images=images)
    if not images.found:
        return message
    if (number := str(message["content"]).count(IMAGE)) != len(images.found):
        faults.add("another number of <image>", path, f"{path} says {IMAGE} {number} times, and has {len(images.found)} images")
    return {**message, IMAGES: images.found}


def _not_loaded(file: Path, why: str) -> RunFault:
    return RunFault("SG668", f"{file} cannot be loaded: {why}", "the conversation stays as it is", exit_code=WRONG)


def _not_saved(file: Path, why: str, hint: str | None = None) -> RunFault:
    return RunFault("SG669", f"{file} cannot be saved: {why}", hint, exit_code=WRONG)
