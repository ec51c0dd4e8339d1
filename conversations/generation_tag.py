"""{% generation %}…{% endgeneration %} in chat templates: what stands between them is said by the assistant.

transformers knows the tag. Jinja does not, nor do most servers: `without_tags` makes the template that they get.
"""

from __future__ import annotations

import re
from typing import ClassVar

from jinja2 import Environment, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

NAMES = ("generation", "endgeneration")
START, END = "\ufdd1", "\ufdd2"  # noncharacters: no text holds them


class GenerationTag(Extension):
    """Renders what stands between the tags as it is. What is set inside is not seen outside, as in transformers; but nothing is
    called, which would take a third of the rendering."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own way)
    around: ClassVar[tuple[str, str]] = ("", "")

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as its body alone, between the marks of `around`: Jinja calls it at the tag."""
        line = next(parser.stream).lineno
        body = parser.parse_statements((f"name:{NAMES[1]}",), drop_needle=True)
        before, after = (nodes.Output([nodes.TemplateData(mark)], lineno=line) for mark in self.around)
        return nodes.Scope([before, *body, after], lineno=line)


class MarkedGeneration(GenerationTag):
    """The same with a START before and an END behind it, for `spans`."""

    around = (START, END)


def spans(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """What an environment with MarkedGeneration rendered → the text, and where in it the assistant speaks: [start, end) in characters."""
    first, *parts = marked.split(START)
    pieces, found, length = [first], [], len(first)
    for part in parts:
        said, _, rest = part.partition(END)
        found.append((length, length + len(said)))
        length += len(said) + len(rest)
        pieces += (said, rest)
    return "".join(pieces), found


def without_tags(template: str) -> str:
    """The template without the tags, for programs that do not know them. Raises jinja2.TemplateSyntaxError.

    Each tag becomes a comment in its place: Jinja treats the blanks around the two alike. Tags are told by Jinja's own lexer, so that
    one in a text or in {% raw %} stays.
    """
    source = _lines(template)
    kept, parts = 0, []  # up to where the source is in the parts
    opened, name, here = (0, 0), "", 0
    for _, kind, value in Environment(trim_blocks=True, lstrip_blocks=True).lex(source):  # noqa: S701  (nothing is rendered)
        start = source.index(value, here)  # between two tokens are only blanks that the lexer leaves out
        here = start + len(value)
        if kind == "block_begin":
            opened, name = (start, here), ""
        elif kind == "name":
            name = name or value
        elif kind == "block_end" and name in NAMES:
            begin = source[slice(*opened)].replace("%", "#")
            parts += [source[kept : opened[0]], f"{begin} {name} {value.replace('%', '#')}"]
            kept = here
    return "".join(parts) + source[kept:]


def _lines(template: str) -> str:
    """The template with the line breaks that Jinja's lexer sees."""
    return re.sub(r"\r\n?", "\n", template)
