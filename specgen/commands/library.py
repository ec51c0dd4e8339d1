"""specgen list and specgen init: find a spec that comes along, and begin one's own from it."""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path

from specgen.diagnostics import Diagnostic, SpecError
from specgen.extend import load
from specgen.library import Entry, entries, find
from specgen.places import data_folder
from specgen.quoting import quoted
from specgen.reading import is_there
from specgen.schema import spec_schema
from specgen.source import scalar
from specgen.writing import write_whole

MODELINE = "# yaml-language-server: $schema="


def matching(patterns: tuple[str, ...], model: str | None, method: str | None) -> list[Entry]:
    """The entries that have every pattern somewhere, the model in their base, and the method (text: continued pretraining)."""
    return [
        entry
        for entry in entries()
        if all(pattern.lower() in entry.words for pattern in patterns)
        and (model is None or model.lower() in entry.base.lower())
        and (method is None or method in (entry.method, entry.objective))
    ]


def as_table(found: list[Entry]) -> str:
    """A line for each: name, method, base, description."""
    rows = [(entry.name, _kind(entry), entry.base.removeprefix("hf:"), entry.description) for entry in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows)


def as_json(found: list[Entry]) -> str:
    """The same for other programs."""
    keys = ("name", "base", "method", "objective", "profiles", "description")
    return json.dumps(
        [{key: getattr(entry, key) for key in keys} | {"path": str(entry.path)} for entry in found], ensure_ascii=False, indent=2
    )


def _kind(entry: Entry) -> str:
    return f"{entry.method}, text" if entry.objective == "text" else entry.method


def init(name: str, source: str, output: Path | None) -> list[Path]:
    """Writes a spec of that name, copied from one of the library, and the data that it names; returns what was written.

    Never overwrites. Raises SpecError.
    """
    allowed = spec_schema()["properties"]["name"]
    if not re.search(allowed["pattern"], name) or len(name) > allowed["maxLength"]:
        message = f"the name {name} may hold only letters, digits, '.', '_' and '-', and not more than {allowed['maxLength']} of them"
        raise SpecError(Diagnostic(code="SG115", message=message, hint="for example specgen init support-bot"))
    entry = find(source)
    if entry is None:
        near = difflib.get_close_matches(source, [entry.name for entry in entries()], n=1)
        hint = f"did you mean '{near[0]}'?" if near else "specgen list shows those that come along"
        raise SpecError(Diagnostic(code="SG116", message=f"no spec named '{source}' comes along", hint=hint))
    target = output or Path("specs", f"{name}.yaml")
    if is_there(target):
        raise SpecError(
            Diagnostic(code="SG301", message=f"{target} is there already; nothing was touched", hint="choose another with --output")
        )
    written = name if scalar(name) == name else quoted(name)  # 2024, 1e3 and null are no text without quotes
    text = re.sub(r"(?m)^name: .*$", f"name: {written}", entry.path.read_text(encoding="utf-8"), count=1)
    files: dict[Path, str | bytes] = {target: _with_modeline(text, target), **_data(entry)}
    for file, content in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, content)
        except OSError as error:
            raise SpecError(Diagnostic(code="SG302", message=f"{file} cannot be written: {error.strerror}")) from None
    return list(files)


def _data(entry: Entry) -> dict[Path, bytes]:
    """The example data of a spec that are not there yet, and the pictures that they name; its paths start at the working folder, and at
    that of the library."""
    files = [node for source in load(entry.path).children["data"].children["sources"].items if (node := source.at("file"))]
    home = data_folder("specs").parent
    paths = [Path(node.text("path")) for node in files]
    for folder in (node.text("images") for node in files if node.at("images")):
        paths += [path.relative_to(home) for path in sorted((home / folder).iterdir())]
    return {path: (home / path).read_bytes() for path in dict.fromkeys(paths) if not path.exists()}


def _with_modeline(text: str, target: Path) -> str:
    """The first line names the schema for editors: by a relative path inside a checkout, else there is none."""
    lines = [line for line in text.split("\n") if not line.startswith(MODELINE)]
    schema = data_folder("schemas") / "spec.schema.json"
    if schema.is_relative_to(Path.cwd()):
        lines.insert(0, MODELINE + os.path.relpath(schema, target.parent.absolute()))
    return "\n".join(lines)
