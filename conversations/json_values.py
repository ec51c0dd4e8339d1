"""JSON as rows are written in it, read strictly: what two readers could take for two things is refused.

A key that is there twice, NaN and Infinity are no JSON; Python's reader takes them without a word.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from conversations.problems import BadFile, Problem, in_words, unread

BLOCK = 1 << 20
SURE = 1 << 12  # a fault so far before the end of what has been read is no value that goes on
MOST_NESTED = 64  # levels of a value that a template writes out


class NotJson(ValueError):
    """What JSON allows nobody to write. Carries the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NotJson(unread("a key twice", f"an object has the key {json.dumps(twice, ensure_ascii=False)} twice"))
    return found


def _constant(name: str) -> NoReturn:
    raise NotJson(unread("not JSON", f"{name} is no JSON number"))


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_strictly = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
LENIENT = json.JSONDecoder()  # finds where a value ends that DECODER has refused


def row_of_line(line: bytes) -> object | Problem:
    """The value of one line of JSON Lines."""
    try:
        row: object = DECODER.decode(line.decode())
    except NotJson as error:
        return error.problem
    except UnicodeDecodeError as error:
        return unread("not UTF-8", f"the line is not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}")
    except json.JSONDecodeError as error:
        reason = "a second value on the line" if error.msg == "Extra data" else _reason(error)
        return unread("not JSON", f"the line is not JSON: {reason}", error.colno)
    except RecursionError:
        return unread("nested too deeply", "the line is nested too deeply")
    except ValueError:  # what Python's int() says of more than 4,300 digits
        return unread("a number of too many digits", "a number in the line has too many digits")
    return row


def is_plain(value: object) -> bool:
    """Whether a value is surely one that a model can be told: at a glance, as all rows are looked at."""
    try:
        text = _strictly(value)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return text.count("{") + text.count("[") <= MOST_NESTED


def unfit(value: object) -> str | None:
    """Why a value cannot be told a model, as the rest of a sentence; None where it can. No tokenizer reads half a surrogate pair, and
    Arrow has values that JSON does not write."""
    return None if is_plain(value) else _why_unfit(value)


def _why_unfit(value: object) -> str | None:
    rest: list[tuple[object, int]] = [(value, 0)]
    while rest:
        value, depth = rest.pop()
        if depth > MOST_NESTED:
            return f"is nested deeper than {MOST_NESTED}"
        if isinstance(value, str):
            if not value.isascii() and value.encode("utf-8", "replace").decode() != value:
                return "holds half a surrogate pair"
        elif isinstance(value, float) and not math.isfinite(value):
            return f"holds {value}, which is no JSON number"
        elif isinstance(value, dict):
            rest += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            rest += [(item, depth + 1) for item in value]
        elif not isinstance(value, bool | int | float | None):
            return f"holds {in_words(value)}, which is no value of JSON"
    return None


def values_of(stream: BinaryIO) -> Iterator[tuple[int, object]]:
    """The elements of a JSON array, or the values that stand one after another, with the lines on which they begin.

    Reads as it goes: memory grows with the largest element only. Raises BadFile where the text is no JSON.
    """
    reader = _Reader(stream)
    reader.skip_space()
    if not reader.at("["):
        while not reader.at_end():
            yield reader.line, reader.value()
            reader.skip_space()
        return
    reader.advance()
    reader.skip_space()
    while not reader.at("]"):
        yield reader.line, reader.value()
        reader.skip_space()
        if reader.at(","):
            comma = reader.line
            reader.advance()
            reader.skip_space()
            if reader.at("]"):
                raise BadFile("syntax", "the file is not JSON: a comma after the last element", line=comma, hint="take the comma away")
        elif not reader.at("]"):
            what = "it ends within the array" if reader.at_end() else "a comma is missing between two elements"
            raise BadFile("syntax", f"the file is not JSON: {what}", line=reader.line)
    reader.advance()
    reader.skip_space()
    if not reader.at_end():
        raise BadFile("syntax", "the file is not JSON: something follows after the array", line=reader.line)


class _Reader:
    """Text of a stream, and how far it has been read. `line` is the line of the place."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.decoder = stream, codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.place, self.line = "", 0, 1
        self.ended = False

    def at(self, character: str) -> bool:
        return self.text.startswith(character, self.place)

    def at_end(self) -> bool:
        return self.ended and self.place == len(self.text)

    def advance(self, to: int | None = None) -> None:
        to = self.place + 1 if to is None else to
        self.line += self.text.count("\n", self.place, to)
        self.place = to

    def skip_space(self) -> None:
        while True:
            rest = self.place
            while rest < len(self.text) and self.text[rest] in " \t\r\n":
                rest += 1
            self.advance(rest)
            if rest < len(self.text) or self.ended:
                return
            self.fill()

    def fill(self) -> None:
        """Reads on, by at least as much as is waiting: a large value is tried a few times, not many."""
        waiting = self.text[self.place :]
        block = self.stream.read(max(BLOCK, len(waiting)))
        self.ended = not block
        try:
            self.text, self.place = waiting + self.decoder.decode(block, final=self.ended), 0
        except UnicodeDecodeError as error:
            line = self.line + waiting.count("\n") + block.count(b"\n", 0, error.start)
            raise BadFile("encoding", "the file is not UTF-8", line=line) from None

    def value(self) -> object | Problem:
        """The value that begins here; a Problem where it is one that DECODER refuses."""
        while True:
            found: object
            try:
                found, end = DECODER.raw_decode(self.text, self.place)
            except NotJson as error:
                return self._refused(error.problem)
            except json.JSONDecodeError as error:
                if not self.ended and (error.msg.startswith("Unterminated") or error.pos > len(self.text) - SURE):
                    self.fill()
                    continue
                line = self.line + self.text.count("\n", self.place, error.pos)
                hint = "take the comma away" if _after_comma(self.text, error.pos) else None
                raise BadFile("syntax", f"the file is not JSON: {_reason(error)}", line=line, hint=hint) from None
            except RecursionError:
                raise BadFile("syntax", "a value is nested too deeply", line=self.line) from None
            except ValueError:
                raise BadFile("syntax", "a number has too many digits", line=self.line) from None
            if end + 2 < len(self.text) or self.ended:  # 1. and 1e+ are numbers that go on
                self.advance(end)
                return found
            self.fill()

    def _refused(self, problem: Problem) -> Problem:
        while True:
            try:
                _, end = LENIENT.raw_decode(self.text, self.place)
            except ValueError:
                if self.ended:
                    raise BadFile("syntax", "the file is not JSON", line=self.line) from None
                self.fill()
            else:
                self.advance(end)
                return problem


def _reason(error: json.JSONDecodeError) -> str:
    return error.msg.removesuffix(" at")


def _after_comma(text: str, place: int) -> bool:
    return text[place : place + 1] in ("]", "}") and text[:place].rstrip().endswith(",")
