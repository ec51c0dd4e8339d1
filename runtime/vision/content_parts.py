"""Chat templates that read contents in parts, as servers and processors hand them over: a text and an image each a part of its own.

The templates here, and most of those of language models, take a content that is one text. In front of them stands what makes one of the
parts, by the rule that rows are read by (conversations/turns.py): `<image>` for an image, with a line break between it and a text.
"""

from __future__ import annotations

from conversations.row import IMAGE

JOINED = (
    "{%- set whole = namespace(messages=[]) %}"
    "{%- for message in messages %}"
    "{%- if message['content'] is not defined or message['content'] is none or message['content'] is string %}"
    "{%- set whole.messages = whole.messages + [message] %}"
    "{%- else %}"
    "{%- set said = namespace(text='') %}"
    "{%- for part in message['content'] %}"
    "{%- set image = part['type'] in ('image', 'image_url') %}"
    f"{{%- set text = '{IMAGE}' if image else part['text'] %}}"
    f"{{%- set apart = said.text and text and said.text.endswith('{IMAGE}') != image %}}"
    "{%- if apart and not said.text.endswith('\n') and not text.startswith('\n') %}"
    "{%- set said.text = said.text + '\n' %}"
    "{%- endif %}"
    "{%- set said.text = said.text + text %}"
    "{%- endfor %}"
    "{%- set whole.messages = whole.messages + [dict(message, content=said.text)] %}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- set messages = whole.messages %}"
)


def joining(template: str) -> str:
    """The template, reading contents in parts, too."""
    return template if template.startswith(JOINED) else JOINED + template
