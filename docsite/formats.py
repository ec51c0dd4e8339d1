"""docs/reference/formats.md: the formats of rows as a table, from conversations/formats.py. `python -m docsite.formats` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from conversations.chat_formats import LISTS, SPEAKERS, SPEECH
from conversations.formats import FORMATS
from conversations.turns import REASONING, ROLES, SWITCHES

HEAD = """\
# Files and formats of rows

Made from conversations/formats.py by `make docs`.

## Files

What a file is, its bytes tell; its name only settles what they leave open. Each may be compressed by gzip or zstd. Parquet, Arrow and zstd
need pyarrow: `pip install 'specgen[data]'`.

| kind | rows |
|---|---|
| JSON Lines | an object on each line; blank lines, a byte order mark and CRLF are no part of a row |
| JSON | an array of objects, or objects one after another, over any number of lines; read as it goes |
| CSV | the first line names the columns, and what separates them: comma, semicolon, tab or a bar |
| Parquet, Arrow | rows with the names of the columns; null in a key that others have is "not there". Also a folder that `datasets` saved |
| text | the file is one document; a line `<\\|endoftext\\|>` ends a document. For `format: text` |

UTF-8 is read and nothing else. A key that is there twice, NaN and Infinity are faults, as is everything that would be lost.

## Formats

`fields` says what a column is called in a file: `fields: {messages: dialog}`. Columns that a format does not name are left alone. Lists
may be JSON text, as they are in CSV.

| format | columns | may have | rows |
|---|---|---|---|
"""
TAIL = """\

XTuner's names read what its map functions read, with its system texts. What they dropped without a word is kept: a leading assistant, a
last question without an answer, headings in oasst1. Columns of a question are joined by a line break; an `input` that is absent, null or
blank adds nothing. XTuner's own `alpaca` began with a system text, which `data.system` says here: "Below is an instruction that describes
a task. Write a response that appropriately completes the request."

## Messages

"""
ROW = """\

Content is text, or a list of parts of the type text, which are joined without anything between them, or images (below). Other parts,
null, numbers and booleans are faults; an assistant that calls tools may have no content. Roles come from what a row says, never from the
place of a turn: a role may follow itself, a system text may come later, and an assistant may begin.

## Images

With `model.vision`, rows of files may have images: each is a path, or a `data:image/…;base64,…` URL. Relative paths start at the source's
`images`, by default the folder of the data file. Where an image stands, a message's content says `<image>`, as often as the row has images.

| images | as |
|---|---|
| a column `image` or `images` | a path, or a list of them, beside texts that say `<image>`: LLaVA's data, LLaMA-Factory's |
| a part `image_url` | `{"type": "image_url", "image_url": {"url": PATH}}`, or the path alone: OpenAI's |
| a part `image` | `{"type": "image", "image": PATH}`, or `path`, or `url`; without any, the next one of the column |
| the format imagefolder | `file_name` and `text`, as metadata.jsonl of an image folder; the question is `<image>` |

A part that is an image becomes `<image>`, with a line break between it and a text. Rows without images mix in. Another number of images
than of `<image>`, an address on the web, images of a data set on the hub, and any image without `model.vision` are faults; without it,
`<image>` is text as any other.

## Any other shape

`row` makes a conversation of the columns, by Jinja: a text for each turn, or one template that writes JSON of the format.

```yaml
row: [{system: "{{ about }}"}, {user: "{{ question }}"}, {assistant: "{{ answer }}"}]
row: '{"messages": {{ turns | tojson }}}'
```
`row['a name with spaces']` is a column, too. A column that is not there, null, a boolean, a list or an object is no text: `| tojson` writes
it as JSON, and `{% if about %}` asks for it. A system text or a tool's that is blank is left out.

## Faults

Every faulty row is listed with file, line and path inside the row, of each kind the first 20. `data.on_bad_row: drop` leaves such rows out,
counts them, and holds their number against `data.limits.dropped`. A file that cannot be read to its end is always an error.
"""


def page() -> str:
    """The whole page, Markdown."""
    return HEAD + "\n".join(_formats()) + "\n" + TAIL + "\n".join(_messages()) + "\n" + ROW


def _formats() -> Iterator[str]:
    for name, form in FORMATS.items():
        yield f"| `{name}` | {_names(form.needs)} | {_names(form.may)} | {_cell(form.about)} |"


def _messages() -> Iterator[str]:
    yield "| in a message | what is read |\n|---|---|"
    yield f"| roles of openai | {', '.join(f'{said} → {role}' if said != role else said for said, role in ROLES.items())} |"
    for role in ("system", "user", "assistant", "function_call", "tool"):
        what = "a call as JSON text" if role == "function_call" else role
        yield f"| {what}, in sharegpt | {_names(tuple(said for said, meant in SPEAKERS.items() if meant == role))} |"
    yield f"| keys of a turn, in sharegpt | {', '.join(f'`{who}` and `{what}`' for who, what in SPEECH)} |"
    yield f"| column of turns, in sharegpt | {_names(LISTS)} |"
    yield "| tools | `tools` of the row; `tool_calls` (or `function_call`), their arguments an object or JSON text of one; `tool_call_id` |"
    yield f"| what was thought | {_names(REASONING)} |"
    yield f"| trained or not | {_names(SWITCHES)}: true or false; `weight`: a number, 0 or more |"
    yield "| anything else | is a fault that names it, unless it is null |"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
