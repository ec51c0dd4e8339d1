"""Codes, their explanations and how faults are printed."""

import ast
import json
import re

from specgen.diagnostics import explanations
from specgen.rules.matrix import matrix

GRAVITY = ["error", "warning", "note"]


def test_every_code_is_explained_and_every_explanation_is_used(root):
    sources = [file.read_text() for package in ("specgen", "runtime") for file in (root / package).rglob("*.py")]
    sources.append(re.sub(r"code: (\w+)", r'"\1"', (root / "schemas/support.yaml").read_text()))
    used = {code for text in sources for code in re.findall(r'"(SG\d{3})"', text)}
    assert used == set(explanations())


def severities_in(text):
    """(code, severity) of every diagnostic that one source file makes, as far as both are written there."""
    for call in ast.walk(ast.parse(text)):
        if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "Diagnostic":
            words = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
            if isinstance(words["code"], str):
                yield words["code"], words.get("severity", "error")


def test_every_code_is_explained_with_the_gravest_severity_that_it_is_reported_with(root):
    made = [pair for file in (root / "specgen").rglob("*.py") for pair in severities_in(file.read_text())]
    made += [(conflict.code, conflict.severity) for conflict in matrix().conflicts]
    gravest = {code: min((severity for other, severity in made if other == code), key=GRAVITY.index) for code, _ in made}
    assert gravest == {code: entry.severity for code, entry in explanations().items() if code in gravest}
    assert set(gravest.values()) == set(GRAVITY)


def test_every_explanation_has_its_parts():
    for entry in explanations().values():
        assert all(part.strip() for part in (entry.title, entry.why, entry.wrong, entry.right)), entry.code
        assert entry.wrong != entry.right


def test_faults_as_json_have_a_place(cli, tmp_path):
    (tmp_path / "spec.yaml").write_text("specgen: 1\nnaem: x\n")
    ran = cli("validate", "spec.yaml", "--format", "json")
    assert ran.code == 2
    assert {"code": "SG101", "file": "spec.yaml", "line": 2, "column": 1}.items() <= next(
        fault for fault in json.loads(ran.out) if fault["code"] == "SG101"
    ).items()
