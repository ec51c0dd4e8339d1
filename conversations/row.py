"""A row: one conversation, or one text, as canonical JSON. Equal rows are equal texts.

A conversation is `{"messages": […]}`, with `"tools"` and `"images"` behind them where there are any. A message has role (system, user,
assistant, tool) and content, and maybe more of KEYS. Images are paths, from the working folder or absolute, or data: URLs; each stands
where a content says IMAGE, in their order. A row of plain text is `{"text": …}`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Row = str
Message = dict[str, Any]
Conversation = dict[str, Any]

KEYS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name", "train", "weight")
IMAGE = "<image>"
ANSWER = '{"role":"assistant",'


def canonical(conversation: Mapping[str, Any]) -> Row:
    """A conversation as text. Keys of messages come in one order, so that the same conversation is the same text."""
    if "messages" not in conversation:
        return _dumps({"text": conversation["text"]})
    tools, images = conversation.get("tools"), conversation.get("images")
    if not tools and not images and all(len(message) == 2 for message in conversation["messages"]):  # role and content: a third of the time
        turns = [f'{{"role":{_text(message["role"])},"content":{_text(message["content"])}}}' for message in conversation["messages"]]
        return f'{{"messages":[{",".join(turns)}]}}'
    messages = [{key: message[key] for key in KEYS if key in message} for message in conversation["messages"]]
    return _dumps({"messages": messages, **({"tools": tools} if tools else {}), **({"images": images} if images else {})})


def conversation_of(row: Row) -> Conversation:
    """The conversation that a row is the text of."""
    conversation: Conversation = json.loads(row)
    return conversation


def messages_of(row: Row) -> list[Message]:
    """The messages of a row; of a row of plain text one, of the role `text`."""
    conversation = conversation_of(row)
    if "messages" not in conversation:
        return [{"role": "text", "content": conversation["text"]}]
    messages: list[Message] = conversation["messages"]
    return messages


def parted(row: Row) -> tuple[str, str]:
    """A row's text before its last answer, and from there on; all before where nothing is answered."""
    at = row.rfind(ANSWER)
    return (row, "") if at < 0 else (row[:at], row[at:])


def digest(text: str) -> int:
    """64 bits of BLAKE2b: tells rows apart without keeping them. Two of a billion rows meet once in forty runs, and are then
    counted as equal; nothing is left out for it."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


_text = json.encoder.encode_basestring  # a text as JSON
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
