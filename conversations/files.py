"""Files of rows, read in chunks: memory does not grow with the file.

A Chunk is made cheaply by one process and parsed by another: lines of JSON Lines stay bytes, and batches of Arrow stay Arrow.
"""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from conversations.json_values import row_of_line, values_of
from conversations.kinds import UTF_8_MARK, Compression, Kind, delimiter_of, describe, opened, pyarrow_for, seekable
from conversations.problems import BadFile, unread

END_OF_DOCUMENT = b"<|endoftext|>"  # on a line of its own between the documents of one text file, as the dumps of GPT-2's time have it
LONGEST_DOCUMENT = 1 << 26  # bytes
TEXTS = {"role", "content", "from", "value"}  # null in one of these is a fault of the row; elsewhere it is Arrow's "not there"

Numbered = tuple[int, object]  # line or row number, from 1; the row, or a Problem


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a file. `rows` are lines of bytes (jsonl), a batch of Arrow (parquet, arrow), or numbered rows; `first` is the
    number of the first line or row."""

    kind: Kind
    first: int
    rows: Any


def matching_files(pattern: str) -> list[str]:
    """The files that a path or a pattern names, sorted; relative to the working folder. A folder is what `datasets` has saved."""
    if Path(pattern).is_file():
        return [pattern]
    if Path(pattern).is_dir():
        return _saved_files(Path(pattern))
    return sorted(match for match in glob.glob(pattern, recursive=True) if Path(match).is_file())  # noqa: PTH207  (absolute too)


def chunks(path: str, *, rows: int = 1000) -> Iterator[Chunk]:
    """A file's rows, so many at a time. Raises OSError where it cannot be read, BadFile where nothing more can be made of it."""
    kind, compression = describe(path)
    with opened(path, compression) as stream:
        if kind == "jsonl":
            yield from _lines(stream, rows)
        elif kind in ("parquet", "arrow"):
            yield from _batches(stream, kind, compression, rows)
        else:
            numbered = values_of(stream) if kind == "json" else _records(stream) if kind == "csv" else _documents(stream)
            while found := list(islice(numbered, rows)):
                yield Chunk(kind, found[0][0], found)


def parse(chunk: Chunk) -> Iterator[Numbered]:
    """The rows of a chunk, each with its number. A row that cannot be read is a Problem."""
    if chunk.kind == "jsonl":
        for number, line in enumerate(chunk.rows, chunk.first):
            if not line.isspace():
                yield number, row_of_line(line)
    elif chunk.kind in ("parquet", "arrow"):
        yield from enumerate(_arrow_rows(chunk), chunk.first)
    else:
        yield from chunk.rows


def text_lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file without those that are blank, each with its number."""
    with opened(path, describe(path)[1]) as stream:
        for number, line in _decoded(stream):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _lines(stream: BinaryIO, rows: int) -> Iterator[Chunk]:
    first = 1
    while lines := list(islice(stream, rows)):
        if first == 1:
            lines[0] = lines[0].removeprefix(UTF_8_MARK)
        yield Chunk("jsonl", first, lines)
        first += len(lines)


def _decoded(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(stream, start=1):
        try:
            yield number, (line.removeprefix(UTF_8_MARK) if number == 1 else line).decode()
        except UnicodeDecodeError as error:
            text = f"the line is not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}"
            raise BadFile("encoding", text, line=number) from None


def _records(stream: BinaryIO) -> Iterator[Numbered]:
    """The rows of a CSV file as objects. The first line names the columns."""
    csv.field_size_limit(1 << 30)
    lines = (line for _, line in _decoded(stream))
    header = next(lines, "")
    delimiter = delimiter_of(header)
    names = _names(header, delimiter)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 2
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadFile("syntax", f"the line is not CSV: {error}", line=number, hint='quotes in a text are written twice: ""') from None
        if not record:
            continue
        if len(record) == len(names):
            yield number, {name: field for name, field in zip(names, record, strict=True) if name}
        else:
            fields = f"{len(record)} field{'s' if len(record) > 1 else ''}"
            yield number, unread("another number of fields", f"the row has {fields}, and the header {len(names)}")


def _names(header: str, delimiter: str) -> list[str]:
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter, strict=True), [])]
    except csv.Error as error:
        raise BadFile("syntax", f"the header is not CSV: {error}", line=1) from None
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise BadFile("shape", f"two columns are called {twice}", line=1)
    return names


def _documents(stream: BinaryIO) -> Iterator[Numbered]:
    """A text file is one document, or several with <|endoftext|> on a line of its own between them."""
    lines: list[str] = []
    first, size = 1, 0
    for number, line in _decoded(stream):
        if line.strip() == END_OF_DOCUMENT.decode():
            if text := "".join(lines).strip("\r\n"):
                yield first, {"text": text}
            first, lines, size = number + 1, [], 0
            continue
        lines.append(line)
        size += len(line) if line.isascii() else len(line.encode())
        if size > LONGEST_DOCUMENT:
            hint = "put <|endoftext|> on a line of its own between documents, or write JSON Lines with a row for each"
            raise BadFile("shape", f"a document has more than {LONGEST_DOCUMENT >> 20} MiB", line=first, hint=hint)
    if text := "".join(lines).strip("\r\n"):
        yield first, {"text": text}


def _batches(stream: BinaryIO, kind: Kind, compression: Compression, rows: int) -> Iterator[Chunk]:
    arrow = pyarrow_for("Parquet" if kind == "parquet" else "Arrow")
    first = 1
    try:
        with seekable(stream, compression) as whole:
            for batch in _parquet(whole, rows) if kind == "parquet" else _arrow(whole):
                for start in range(0, batch.num_rows, rows):
                    yield Chunk(kind, first + start, batch.slice(start, rows))
                first += batch.num_rows
    except (arrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        name = "Parquet" if kind == "parquet" else "Arrow"
        reason = str(error).partition("\n")[0].rstrip(".")
        raise BadFile("damaged", f"its {name} data cannot be read: {reason}", line=first, hint="write or copy it again") from None


def _parquet(stream: BinaryIO, rows: int) -> Iterator[Any]:
    from pyarrow import parquet

    yield from parquet.ParquetFile(stream).iter_batches(batch_size=rows)


def _arrow(stream: BinaryIO) -> Iterator[Any]:
    from pyarrow import ipc

    start = stream.read(6)
    stream.seek(0)
    if start == b"ARROW1":
        reader = ipc.open_file(stream)
        yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
    else:
        yield from ipc.open_stream(stream)


def _arrow_rows(chunk: Chunk) -> list[object]:
    try:
        rows = chunk.rows.to_pylist(maps_as_pydicts="strict")
    except (ValueError, TypeError, KeyError, NotImplementedError, OverflowError) as error:
        reason = str(error).partition("\n")[0].strip('".')
        problem = unread("a value that cannot be read", f"the row cannot be read: {reason}")
        if chunk.rows.num_rows == 1:
            return [problem]
        singles = (Chunk(chunk.kind, chunk.first + index, chunk.rows.slice(index, 1)) for index in range(chunk.rows.num_rows))
        return [row for single in singles for row in _arrow_rows(single)]
    return [{name: without_nulls(value) for name, value in row.items()} for row in rows]


def without_nulls(value: object) -> object:
    """A value without the keys that Arrow fills in with null because other rows have them."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None or key in TEXTS}
    return value


def _saved_files(folder: Path) -> list[str]:
    """The files of a data set that `datasets` has saved with save_to_disk; none where the folder is no such one."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return [str(folder / file["filename"]) for file in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
