"""Conversations as files: OpenAI's messages in JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from conversations.json_values import DECODER
from conversations.row import Message
from conversations.turns import ROLES, Faults, message_of
from runtime.faults import WRONG, RunFault

LARGEST = 20 * 10**6  # bytes of a file that is loaded


def save(messages: list[Message], file: Path) -> None:
    """Writes a conversation, whole or not at all. Raises RunFault where another file is there, or none can be written."""
    try:
        place = file.expanduser()
        if place.exists() and not _is_conversation(place):
            raise _not_saved(file, "a file that is no conversation is there", "give another name")
        partial = place.with_name(f".{os.getpid()}.part")  # short: a name may be as long as a folder takes
        try:
            partial.write_text(json.dumps({"messages": messages}, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_saved(file, _why(error)) from None


def load(file: Path) -> list[Message]:
    """The conversation in a file: an object with messages, or the list of them. Raises RunFault where it is none."""
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
    messages = [_message(turn, f"messages[{index}]", faults) for index, turn in enumerate(turns)]
    if faults:
        raise _not_loaded(file, faults[0].text)
    return messages


def _is_conversation(file: Path) -> bool:
    try:
        load(file)
    except RunFault:
        return False
    return True


def _why(error: Exception) -> str:
    """Why a name leads to no file: the system's words, or those for ~somebody and for a NUL byte."""
    words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return words[:1].upper() + words[1:].rstrip(".")


def _message(turn: Any, path: str, faults: Faults) -> Message:
    if not isinstance(turn, dict):
        faults.wrong("a message", path, turn, "an object with role and content")
        return {}
    role = turn.get("role")
    if role not in ROLES:
        faults.add("an unknown role", f"{path}.role", f"{path}.role has to be one of {', '.join(ROLES)}")
        return {}
    return message_of(turn, path, ROLES[role], "content", faults)


def _not_loaded(file: Path, why: str) -> RunFault:
    return RunFault("SG668", f"{file} cannot be loaded: {why}", "the conversation stays as it is", exit_code=WRONG)


def _not_saved(file: Path, why: str, hint: str | None = None) -> RunFault:
    return RunFault("SG669", f"{file} cannot be saved: {why}", hint, exit_code=WRONG)
