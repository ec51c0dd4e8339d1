"""Pages written by hand: what stands there as a piece of a spec, between backticks or in a block of YAML, fits the schema."""

from __future__ import annotations

import re

import pytest

from specgen.diagnostics import SpecError
from specgen.schema import lookup, spec_schema
from specgen.source import parse
from specgen.validate import schema_errors
from tests.docs.test_blocks import WRITTEN_BY_HAND

KEYS = spec_schema()["properties"]
PIECE = re.compile(rf"(?:{'|'.join(KEYS)})(?:\.\w+)*: .+")
UNSAID = re.compile(r"…|\{\w+(?:, \w+)+\}")  # values that a page leaves to the reader
OF_A_SWEEP = {"model.quantization: [null, {nf4: {}}]"}  # a list of values to try


def pieces(text):
    """Settings between backticks, as a spec has them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = {span for span in re.findall(r"`([^`\n]+)`", prose) if PIECE.fullmatch(span) and not UNSAID.search(span)}
    return sorted(map(as_spec, spans - OF_A_SWEEP))


def as_spec(span):
    """`train.epochs: 1` as the text of a spec; where a key is an item's, the list has one."""
    dotted, _, value = span.partition(": ")
    names = dotted.split(".")
    for depth in range(len(names) - 1, 0, -1):
        value = f"{{{names[depth]}: {value}}}"
        if "items" in (lookup(".".join(names[:depth])) or {}):
            value = f"[{value}]"
    return f"{names[0]}: {value}\n"


def parts(text):
    """Blocks of YAML whose keys are all those of a spec: not the files of another tool."""
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        names = re.findall(r"^([\w-]+):", block, re.MULTILINE)
        if names and set(names) <= set(KEYS) and not UNSAID.search(block):
            yield block


def faults(text):
    """What is wrong with a piece of a spec, apart from what it leaves out."""
    try:
        tree = parse(text, "page")
    except SpecError as error:
        return [fault.message for fault in error.diagnostics]
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in schema_errors(tree) if error.validator != "required"]


def test_pieces_are_found():
    text = "`train.epochs: 1` `data.sources.file.format: openai` `smoke: […]` `eval: {a, b}` `data.system` `type: alpaca`\n"
    text += "```yaml\nname: a\n```\n```yaml\nb: 1\n```\n"
    assert pieces(text) == ["data: {sources: [{file: {format: openai}}]}\n", "train: {epochs: 1}\n"]
    assert list(parts(text)) == ["name: a\n"]
    assert faults("train: {epochs: 1}") == []
    assert faults("distributed: {preset: zero2}")[0].startswith("distributed.preset: 'zero2' is not one of")
    assert "'stage' was unexpected" in faults("distributed: {stage: 2}")[0]


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: page.stem)
def test_every_piece_of_a_spec_on_a_page_fits_the_schema(page):
    text = page.read_text(encoding="utf-8")
    assert [(piece, found) for piece in (*pieces(text), *parts(text)) if (found := faults(piece))] == []
