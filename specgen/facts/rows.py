"""The rows of data files, read and checked before anything is paid for. What is wrong with them becomes diagnostics here."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from conversations.files import matching_files
from conversations.formats import FORMATS, Shape, shape_of, wrong_fields
from conversations.kinds import describe
from conversations.problems import BadFile, Problem
from conversations.row import conversation_of
from conversations.row_templates import syntax_fault
from conversations.rows import first_rows, fitting_format, missing_column, rows_of
from specgen.diagnostics import Diagnostic, Place, printable
from specgen.digest import sha256_of
from specgen.facts import tablecache
from specgen.facts.rowtable import Look, RowTable
from specgen.plan import DataFile
from specgen.source import Node

__all__ = ["FileRows", "is_file", "matching_files", "missing_pictures", "read_rows", "shape_faults", "shape_in"]

MOST_FAULTS = 20  # of each kind
MOST_MISSING = 3
MOST_COLUMNS = 12
BAD_FILES = {"syntax": "SG207", "damaged": "SG570", "encoding": "SG571", "library": "SG572", "shape": "SG573"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRows:
    """One data file, its rows, and what is wrong with it."""

    file: DataFile
    table: RowTable
    faults: tuple[Diagnostic, ...]


def shape_in(node: Node, images: str | None = None) -> Shape:
    """How the rows of a source of files or of the hub are read, as the spec says it. `images` is the folder that relative paths of
    images start at; None where there may be none."""
    settings = node.plain()
    assert isinstance(settings, dict), settings
    return shape_of(settings["format"], settings["fields"], settings["row"], images=images)


def shape_faults(node: Node) -> Iterator[Diagnostic]:
    """What is wrong with `fields` and `row` whatever the rows are."""
    shape = shape_in(node)
    for column in wrong_fields(shape):
        form, key = FORMATS[shape.format], node.children["fields"].children[column]
        known = [*form.needs, *form.may]
        near = difflib.get_close_matches(column, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"its columns are {', '.join(known)}"
        yield _told("SG574", key, f"the format {shape.format} has no column {printable(column)}", hint)
    if shape.row is None:
        return
    if shape.fields:
        hint = "the template names the columns itself: leave fields out"
        yield _told("SG574", node.children["fields"], "fields has no effect beside row", hint)
    if fault := syntax_fault(shape.row):
        index, reason = fault
        row = node.children["row"]
        yield _told("SG575", row if index is None else row.items[index], f"row is no Jinja template: {reason}")


def read_rows(path: str, node: Node, look: Look, *, drop: bool, images: str | None = None) -> FileRows:
    """Reads a file of the source `node`, or takes what is kept of it. With `drop`, rows with faults are only counted. `images` is as in
    `shape_in`.

    Raises OSError where the file cannot be read.
    """
    with Path(path).open("rb") as file:
        sha256 = sha256_of(file)
        size = file.tell()
    shape = shape_in(node, images)
    key = tablecache.key_of(sha256, shape, look) if size >= tablecache.LEAST_BYTES else None
    table = tablecache.kept(key, look) if key else None
    if table is not None:
        return FileRows(file=DataFile(path=path, rows=len(table), bad_rows=0, sha256=sha256), table=table, faults=())
    table, faults = RowTable(look), _Faults(path)
    try:
        for line, found in rows_of(path, shape):
            if isinstance(found, list):
                faults.add(line, found)
            else:
                table.add(found)
    except BadFile as error:
        told = [_of_bad_file(path, error)]
    else:
        rows = len(table)
        told = list(faults.left_out(rows) if drop else faults.diagnostics()) if rows else _of_whole_file(path, node, shape, faults)
    if key and not told:
        tablecache.keep(key, table)
    bad_rows = faults.rows if drop else 0
    return FileRows(file=DataFile(path=path, rows=len(table), bad_rows=bad_rows, sha256=sha256), table=table, faults=tuple(told))


def missing_pictures(path: str, node: Node, table: RowTable, *, images: str, drop: bool) -> Iterator[Diagnostic]:
    """What is said where pictures are not there that the first rows of a file name: the run looks at all of them, and into them."""
    named = dict.fromkeys(picture for row in table.texts if '"images":[' in row for picture in conversation_of(row).get("images", ()))
    pictures = [picture for picture in named if not picture.startswith("data:")]
    missing = [picture for picture in pictures if not is_file(picture)]
    if not missing:
        return
    shown = ", ".join(missing[:MOST_MISSING]) + (", …" if len(missing) > MOST_MISSING else "")
    are, first = "is" if len(missing) == 1 else "are", "first " if len(table) > len(table.texts) else ""
    found = Diagnostic(
        code="SG626",
        message=printable(f"{len(missing):,} of the {first}{len(pictures):,} pictures that {path} names {are} not there: {shown}"),
        place=node.children["images"].place or node.children["path"].place,
        hint=printable(f"relative paths of images start at {images}, and that at {Path.cwd()}; images: FOLDER says another"),
    )
    yield replace(found, severity="warning") if drop and len(missing) < len(pictures) else found


def is_file(path: str) -> bool:
    """Whether a file is there; a path that can be none is not."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


@dataclass(slots=True)
class _Faults:
    """The faults of a file's rows by their kinds; of each kind those that are shown, and how many there are."""

    path: str
    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    shown: list[Diagnostic] = field(default_factory=list)
    next: dict[str, Diagnostic] = field(default_factory=dict)

    def add(self, line: int, problems: list[Problem]) -> None:
        self.rows += 1
        for problem in problems:
            number = self.counts[problem.kind] = self.counts.get(problem.kind, 0) + 1
            if number <= MOST_FAULTS:
                self.shown.append(self.diagnostic(line, problem))
            elif number == MOST_FAULTS + 1:
                self.next[problem.kind] = self.diagnostic(line, problem)

    def diagnostic(self, line: int, problem: Problem) -> Diagnostic:
        hint = "a row is one JSON object on one line" if problem.kind == "not JSON" else None
        place = Place(file=self.path, line=line, column=problem.column)
        return Diagnostic(code="SG207" if problem.unread else "SG208", message=printable(problem.text), place=place, hint=hint)

    def left_out(self, good_rows: int) -> Iterator[Diagnostic]:
        """What is told where rows with faults are left out."""
        if self.rows:
            first = self.shown[0]
            message = f"{self.rows:,} of {self.rows + good_rows:,} rows are left out for faults; here {first.message}"
            yield Diagnostic(code="SG577", severity="note", message=message, place=first.place)

    def diagnostics(self) -> Iterator[Diagnostic]:
        yield from self.shown
        for kind, following in self.next.items():
            more = self.counts[kind] - MOST_FAULTS
            yield replace(following, message=f"{more:,} more fault{'s' if more > 1 else ''} of this kind: {kind}", hint=None)


def _of_bad_file(path: str, error: BadFile) -> Diagnostic:
    place = Place(file=path, line=error.line, column=1) if error.line is not None else None
    message = error.text if place else f"{path}: {error.text}"
    return Diagnostic(code=BAD_FILES[error.what], message=printable(message), place=place, hint=error.hint)


def _of_whole_file(path: str, node: Node, shape: Shape, faults: _Faults) -> list[Diagnostic]:
    """One fault instead of one for each row, where no row has the format of the spec for one and the same reason."""
    if not faults.rows:
        return [Diagnostic(code="SG206", message=f"{path} holds no rows")]
    rows = first_rows(path)
    if shape.row is None and (other := fitting_format(rows, shape.format, shape.images)):
        message = f"the rows of {path} have the format {other}, not {shape.format}"
        return [_told("SG517", _format_node(node), message, f"write format: {other}")]
    if lacking := missing_column(rows, shape):
        missing, columns, near = lacking
        shown = ", ".join(columns[:MOST_COLUMNS]) + (", …" if len(columns) > MOST_COLUMNS else "")
        message = f"{path} has no column {missing}, which the format {shape.format} needs; it has {shown or 'none'}"
        hint = f"write fields: {{{missing}: {near or 'NAME'}}}" if missing in FORMATS[shape.format].needs else f"fields names {missing}"
        if len(columns) == 1 and describe(path)[0] == "csv":
            hint = "columns are told apart by a comma, a semicolon, a tab or |, whichever the header has"
        return [_told("SG576", _format_node(node), printable(message), printable(hint))]
    return list(faults.diagnostics())


def _format_node(node: Node) -> Node:
    """Where the spec says the format, or else the path."""
    form = node.children["format"]
    return form if form.place else node.children["path"]


def _told(code: str, node: Node, message: str, hint: str | None = None) -> Diagnostic:
    return Diagnostic(code=code, message=message, place=node.place or node.key, hint=hint)
