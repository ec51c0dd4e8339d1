"""Faults as SARIF 2.1.0, the format that code scanning and editors read: https://docs.oasis-open.org/sarif/sarif/v2.1.0/"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from specgen import __version__
from specgen.diagnostics import Diagnostic, Explanation, Place, explanations, from_root

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def as_sarif(diagnostics: Sequence[Diagnostic], root: Path) -> dict[str, Any]:
    """A log of one run. `root` is the repository's folder: files are named from there."""
    codes = sorted({d.code for d in diagnostics})
    explained = explanations()
    driver = {"name": "specgen", "version": __version__, "rules": [_rule(explained[code]) for code in codes]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(d, codes.index(d.code), root) for d in diagnostics],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(entry: Explanation) -> dict[str, Any]:
    examples = f"Wrong:\n\n```yaml\n{entry.wrong.rstrip()}\n```\n\nRight:\n\n```yaml\n{entry.right.rstrip()}\n```"
    why = entry.why.strip()
    return {
        "id": entry.code,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": why},
        "help": {"text": f"{why} More: specgen explain {entry.code}", "markdown": f"{why}\n\n{examples}"},
        "defaultConfiguration": {"level": entry.severity},
    }


def _result(diagnostic: Diagnostic, rule_index: int, root: Path) -> dict[str, Any]:
    hint = f"\nhint: {diagnostic.hint}" if diagnostic.hint else ""
    result: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "ruleIndex": rule_index,
        "level": diagnostic.severity,
        "message": {"text": diagnostic.message + hint},
    }
    if diagnostic.place:
        result["locations"] = [_location(diagnostic.place, root)]
    if diagnostic.related:
        result["relatedLocations"] = [
            {"id": number, **_location(place, root), "message": {"text": text}}
            for number, (place, text) in enumerate(diagnostic.related, 1)
        ]
    return result


def _location(place: Place, root: Path) -> dict[str, Any]:
    if place.is_flag:
        return {"logicalLocations": [{"fullyQualifiedName": place.file}]}
    file = from_root(place.file, root)
    inside = not Path(file).is_absolute()
    artifact = {"uri": quote(os.fsencode(file)), "uriBaseId": "%SRCROOT%"} if inside else {"uri": Path(file).as_uri()}
    region = {"startLine": place.line, "startColumn": place.column, "endLine": place.line, "endColumn": place.column + place.width}
    return {"physicalLocation": {"artifactLocation": artifact, "region": region}}
