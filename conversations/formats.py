"""Row formats: what a row has to look like, and the conversation that it stands for.

A format is a function that reads a row into a Reading. Roles come from what a row says, never from the place of a turn: the same
role may follow itself, and an assistant may begin. Columns that a format does not name are no part of the conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from conversations import row_templates
from conversations.chat_formats import LISTS, openai, openai_message, sharegpt
from conversations.images import BLIND, COLUMNS, Images, count_faults
from conversations.presets import XTUNERS
from conversations.problems import Problem, in_words
from conversations.reading import Format, Reading
from conversations.row import IMAGE, Conversation, Message
from conversations.turns import listed, text_of

Found = tuple[Conversation, list[Problem]]
BESIDE = {"tools", "functions", *COLUMNS}  # what a row of plain messages does not have
PLAIN = ("user", "assistant", "system")


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rows of a source are read. `fields` are pairs of the format's column and what it is called there; `row` is a Jinja
    template for each role, or one that renders to JSON of the format.

    `images` is the folder that relative paths of images start at. None where rows may have none, and `no_images` then says why, as the
    rest of a sentence: BLIND, or ON_HUB (images.py). <image> in a text is text as any other there.
    """

    format: str
    fields: tuple[tuple[str, str], ...] = ()
    row: tuple[tuple[str, str], ...] | str | None = None
    images: str | None = None
    no_images: str = BLIND


def shape_of(
    form: str,
    fields: Mapping[str, str],
    row: Sequence[Mapping[str, str]] | str | None,
    *,
    images: str | None = None,
    no_images: str = BLIND,
) -> Shape:
    """A shape from what a spec says: `row` is a text, or a list of {role: text}."""
    turns = row if row is None or isinstance(row, str) else tuple(next(iter(turn.items())) for turn in row)
    return Shape(form, tuple(fields.items()), turns, images, no_images)


def read(row: object, shape: Shape) -> Found:
    """The conversation of a row, and what is wrong with the row: only without problems is it a conversation."""
    return reader(shape)(row)


@lru_cache(maxsize=64)
def reader(shape: Shape) -> Callable[[object], Found]:
    """`read` for many rows of one shape."""
    form, names = FORMATS[shape.format], dict(shape.fields)
    if shape.row is not None:
        return row_templates.reader(shape.row, lambda row: _read(row, form, {}, shape), shape.images)
    if shape.format == "openai" and names.keys() <= {"messages"}:
        column, sees = names.get("messages", "messages"), shape.images is not None
        return lambda row: _plain(row, column, sees=sees) or _read(row, form, names, shape)
    return lambda row: _read(row, form, names, shape)


def _plain(row: object, column: str, *, sees: bool) -> Found | None:
    """Most rows are plain messages without a fault: they take a third of the time. None for the others."""
    if type(row) is not dict or not BESIDE.isdisjoint(row) or type(messages := row.get(column)) is not list:
        return None
    plain: list[Message] = []
    is_answered = False
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        role, content = message.get("role"), message.get("content")
        if role not in PLAIN or type(content) is not str or (sees and IMAGE in content):
            return None
        if role == "assistant":
            if not content or content.isspace():
                return None
            is_answered = True
        if not content.isascii():
            try:
                content.encode()
            except UnicodeEncodeError:
                return None
        plain.append({"role": role, "content": content})
    return ({"messages": plain}, []) if is_answered else None


def _read(row: object, form: Format, names: Mapping[str, str], shape: Shape) -> Found:
    if not isinstance(row, dict):
        if isinstance(row, Problem):
            return {}, [row]
        columns = " and ".join(names.get(column, column) for column in form.needs)
        return {}, [Problem("no object", "", f"the row is {in_words(row)}; it has to be an object with {columns}")]
    reading = Reading(row, names, images=Images(shape.images, shape.no_images))
    form.read(reading)
    if reading.text is not None:
        if shape.images is not None and IMAGE in reading.text:
            reading.faults.add("<image> in a text", names.get("text", "text"), f"the text says {IMAGE}; only conversations have images")
        return {"text": reading.text}, reading.faults
    if not reading.faults:
        _answers_are_learned(reading)
    if not reading.faults and shape.images is not None:
        reading.faults += count_faults(reading.messages, reading.tools, reading.images.found)
    conversation: Conversation = {"messages": reading.messages}
    if reading.tools:
        conversation["tools"] = reading.tools
    if reading.images.found:
        conversation["images"] = reading.images.found
    return conversation, reading.faults


def _answers_are_learned(reading: Reading) -> None:
    answers = [message for message in reading.messages if message["role"] == "assistant"]
    if not answers:
        reading.faults.add("no answer", "", "no message is from the assistant, so there is nothing to learn")
    elif all(answer.get("train") is False or answer.get("weight") == 0 for answer in answers):
        reading.faults.add("no trained answer", "", "no answer is to be trained, by train or weight, so there is nothing to learn")


def _alpaca(reading: Reading) -> None:
    reading.say("system", "system", optional=True)
    name = reading.name("history")
    history = listed(reading.get("history")) or []
    if not isinstance(history, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
        reading.faults.add("history is no list of pairs", name, f"{name} has to be a list of [question, answer] pairs")
        history = []
    for index, (question, answer) in enumerate(history):
        reading.add("user", question, f"{name}[{index}][0]")
        reading.add("assistant", answer, f"{name}[{index}][1]")
    reading.ask(["instruction", "input"], optional=["input"])
    reading.say("assistant", "output")
    reading.see()


def _completion(reading: Reading) -> None:
    """Two texts, or two lists of messages, of which only the second is learned."""
    if not isinstance(reading.get("prompt"), list) and not isinstance(reading.get("completion"), list):
        reading.say("user", "prompt")
        reading.say("assistant", "completion")
        reading.see()
        return
    for column in ("prompt", "completion"):
        before = len(reading.messages)
        for index, message in enumerate(reading.turns(column)):
            openai_message(reading, message, f"{reading.name(column)}[{index}]")
        if column == "prompt":
            answers = [message for message in reading.messages[before:] if message["role"] == "assistant"]
            for answer in answers:
                answer["train"] = False
    reading.see()


def _imagefolder(reading: Reading) -> None:
    reading.messages.append({"role": "user", "content": IMAGE})
    reading.say("assistant", "text")
    name = reading.name("file_name")
    if reading.images.folder is not None and not reading.get("file_name"):
        reading.faults.add(f"no column {name}", "", f"the row has no {name}")
    reading.images.of_columns({name: reading.get("file_name")}, reading.faults)


def _text(reading: Reading) -> None:
    name = reading.name("text")
    if name not in reading.row:
        reading.faults.add(f"no column {name}", "", f"the row has no {name}")
        return
    reading.text = text_of(reading.row[name], name, reading.faults)
    if not reading.faults and not reading.text.strip():
        reading.faults.add("an empty text", name, f"{name} is empty, so there is nothing to learn")


FORMATS: dict[str, Format] = {
    "openai": Format(
        openai,
        ("messages",),
        ("tools", "functions", *COLUMNS),
        "Messages with role and content; tool calls, reasoning_content, train and weight; images as parts, or in a column.",
    ),
    "sharegpt": Format(
        sharegpt,
        ("conversations",),
        ("system", "tools", *COLUMNS),
        "Turns with from and value (or role and content, speaker and text), as LLaVA's data. "
        f"The column may be {' or '.join(LISTS[1:])}, too.",
    ),
    "alpaca": Format(
        _alpaca, ("instruction", "output"), ("input", "history", "system", *COLUMNS), "instruction and input are joined by a line break."
    ),
    "completion": Format(
        _completion, ("prompt", "completion"), COLUMNS, "Two texts; or two lists of messages, the second of which is learned."
    ),
    "imagefolder": Format(
        _imagefolder, ("file_name", "text"), (), "An image and what is said of it, as metadata.jsonl of an image folder has them."
    ),
    "text": Format(_text, ("text",), (), "A document, for train.objective: text."),
    **XTUNERS,
}


def wrong_fields(shape: Shape) -> list[str]:
    """Names in `fields` that are no columns of the format."""
    form = FORMATS[shape.format]
    return [column for column, _ in shape.fields if column not in (*form.needs, *form.may)]
