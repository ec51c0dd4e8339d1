"""What a data file is, told by its first bytes. Its name only settles what the bytes leave open."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from conversations.problems import BadFile

Kind = Literal["json", "jsonl", "csv", "parquet", "arrow", "text"]
Compression = Literal["none", "gzip", "zstd"]

HEAD = 1 << 16  # bytes that are looked at
DELIMITERS = ",;\t|"
NAME = re.compile(r"\w[\w .#:/()-]{0,63}")  # of a column, where the file is not called .csv
GZIP, ZSTD, UTF_8_MARK = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xef\xbb\xbf"
PARQUET, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
WIDE_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def describe(path: str) -> tuple[Kind, Compression]:
    """What a file holds, and how it is compressed. Raises OSError where it cannot be read, BadFile where it is no data file."""
    with Path(path).open("rb") as file:
        start = file.read(4)
    compression: Compression = "gzip" if start.startswith(GZIP) else "zstd" if start == ZSTD else "none"
    with opened(path, compression) as stream:
        head = stream.read(HEAD)
    return kind_of_head(head, path), compression


@contextmanager
def opened(path: str, compression: Compression) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked. Raises BadFile where what is packed is damaged."""
    import zlib

    with Path(path).open("rb") as file:
        try:
            if compression == "gzip":
                with gzip.open(file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            elif compression == "zstd":
                arrow = pyarrow_for("zstd")
                yield cast(BinaryIO, io.BufferedReader(arrow.CompressedInputStream(arrow.PythonFile(file, mode="r"), "zstd")))
            else:
                yield file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadFile("damaged", f"its gzip data are damaged: {_gzip_reason(error)}", hint="pack or copy it again") from None
        except OSError as error:
            if compression != "zstd" or error.errno is not None:
                raise
            raise BadFile("damaged", f"its zstd data are damaged: {error}".rstrip("."), hint="pack or copy it again") from None


@contextmanager
def seekable(stream: BinaryIO, compression: Compression) -> Iterator[BinaryIO]:
    """The same bytes, of which any part can be read: unpacked into a file that is gone afterwards."""
    if compression == "none":
        yield stream
        return
    with tempfile.TemporaryFile() as whole:
        while block := stream.read(1 << 20):
            whole.write(block)
        whole.seek(0)
        yield cast(BinaryIO, whole)


def kind_of_head(head: bytes, name: str) -> Kind:
    """The kind of an unpacked file that begins with `head`."""
    if head.startswith(PARQUET):
        return "parquet"
    if head.startswith((ARROW_FILE, ARROW_STREAM)):
        return "arrow"
    if wide := WIDE_MARKS.get(head[:2]):
        raise BadFile("encoding", f"the file is {wide}", line=1, hint=f"write it as UTF-8: iconv -f {wide} -t UTF-8")
    if b"\0" in head:
        wide = "UTF-16 without a byte order mark" if head[1::2].count(0) > len(head) // 4 or head[::2].count(0) > len(head) // 4 else None
        hint = "write it as UTF-8" if wide else "JSON, JSON Lines, CSV, Parquet, Arrow and text are read, each also as .gz or .zst"
        raise BadFile("encoding", f"the file is {wide or 'no text, and no data file that is known'}", line=1, hint=hint)
    text = head.removeprefix(UTF_8_MARK).decode("utf-8", errors="replace")
    suffix = suffix_of(name)
    if (found := text.lstrip()[:1]) in ("{", "["):
        kind: Kind | None = _object_kind(text.lstrip()) if found == "{" else _array_kind(text.lstrip(), suffix)
        if kind and not (suffix in (".txt", ".md") and not _is_json(text)):
            return kind
    if suffix in (".csv", ".tsv") or (suffix not in (".txt", ".md") and _is_table(text, cut=len(head) == HEAD)):
        return "csv"
    return "jsonl" if suffix in (".jsonl", ".ndjson", ".json") else "text"


def suffix_of(name: str) -> str:
    """The end of a name, without that of a packed file: `.jsonl` of rows.jsonl.gz."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in (".gz", ".gzip", ".zst", ".zstd")), "")


def delimiter_of(header: str) -> str:
    """What separates the columns of a header; a comma where it is one column."""
    return max(DELIMITERS, key=lambda delimiter: len(_fields(header, delimiter)))


def pyarrow_for(what: str) -> Any:
    """The module pyarrow. Raises BadFile where it is not installed."""
    try:
        import pyarrow
    except ImportError:
        raise BadFile("library", f"{what} needs pyarrow, which is not installed", hint="pip install 'specgen[data]'") from None
    return pyarrow


def _gzip_reason(error: Exception) -> str:
    return "they end early" if isinstance(error, EOFError) else str(error)


def _object_kind(text: str) -> Kind:
    """JSON Lines, or JSON over several lines: there the first line ends where a value has to go on."""
    line = text.partition("\n")[0].rstrip()
    try:
        json.JSONDecoder().raw_decode(line)
    except json.JSONDecodeError as error:
        goes_on = error.pos >= len(line) and "\n" in text
        return "json" if goes_on else "jsonl"
    except (ValueError, RecursionError):
        pass
    return "jsonl"


def _array_kind(text: str, suffix: str) -> Kind | None:
    """JSON, where a value can follow that no other text begins with: `[1, 2]` is JSON in a file that is called so alone."""
    following = text[1:].lstrip()[:1]
    return "json" if suffix == ".json" or following in ("{", "]", "[", '"', "") else None


def _is_json(text: str) -> bool:
    """Whether a beginning is one of JSON: a value, or a value that goes on."""
    try:
        json.JSONDecoder().raw_decode(text.lstrip())
    except json.JSONDecodeError as error:
        return error.pos >= len(text.rstrip()) - 1
    except (ValueError, RecursionError):
        return True
    return True


def _is_table(text: str, *, cut: bool) -> bool:
    """Whether a text has a header of several names, and rows of as many fields below."""
    lines = text.splitlines()
    if len(lines) < 2:
        return False
    delimiter = delimiter_of(lines[0])
    names = _fields(lines[0], delimiter)
    if len(names) < 2 or len(set(names)) < len(names) or not all(NAME.fullmatch(name) for name in names if name):
        return False
    try:
        records = [record for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=not cut) if record]
    except csv.Error:
        return False
    records = records[1:-1] if cut else records[1:]
    return bool(records) and all(len(record) == len(names) for record in records)


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []
