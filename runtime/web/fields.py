"""Chat settings as fields of a form have them, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runtime.config import ChatConfig

ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\t": "\t"}  # in stop texts, of which one stands on a line


def as_fields(chat: ChatConfig) -> dict[str, Any]:
    """Settings as the fields have them."""
    return {
        "system": chat.system or "",
        "temperature": float(chat.temperature),
        "top_k": chat.top_k,
        "top_p": float(chat.top_p),
        "max_new_tokens": chat.max_new_tokens,
        "repetition_penalty": float(chat.repetition_penalty),
        "seed": chat.seed,
        "stop": "\n".join(map(_escaped, chat.stop)),
    }


def from_fields(chat: ChatConfig, fields: dict[str, Any]) -> ChatConfig:
    """The same back; what has no field stays as it is in `chat`."""
    stop = tuple(_unescaped(line) for line in fields["stop"].split("\n") if line)
    return replace(chat, **{**fields, "system": fields["system"] or None, "stop": stop})


def _escaped(text: str) -> str:
    for escape, meant in ESCAPES.items():
        text = text.replace(meant, escape)
    return text


def _unescaped(line: str) -> str:
    parts = line.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\t", "\t") for part in parts)
