"""How the code is built: functions and files of a size that can be read, and no check silenced without a reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("specgen", "runtime", "conversations", "docsite", "benchmarks")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
LONGEST_FUNCTION, LONGEST_FILE = 60, 500  # lines
# longer files, and the words of their docstring that say why
LONG_FILES = {"specgen/plan.py": "All sections on one page", "runtime/config.py": "All sections on one page"}

SILENCED = re.compile(r"#\s*(?:type:\s*ignore|noqa|ruff:\s*noqa)\b.*")
WITH_REASON = re.compile(r"# (?:type: ignore\[[\w-]+(?:, [\w-]+)*\]  # \w.*|(?:ruff: )?noqa: [A-Z]+\d+(?:, [A-Z]+\d+)*  \(.+\))")


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_function_is_longer_than_a_screen(package):
    long = [
        f"{file.relative_to(ROOT)}:{function.lineno} {function.name}"
        for file in (ROOT / package).rglob("*.py")
        for function in functions(ast.parse(file.read_text(encoding="utf-8")))
        if function.end_lineno - function.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []


def test_long_files_say_why():
    long = {file.relative_to(ROOT).as_posix(): file for file in FILES if len(file.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE}
    assert set(long) == set(LONG_FILES)
    for name, file in long.items():
        assert LONG_FILES[name] in ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def silenced(file):
    """Comments that silence ruff or mypy, with their place."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if found := SILENCED.search(line):
            yield f"{file.relative_to(ROOT)}:{number}", found[0]


def test_a_silenced_check_says_why():
    files = [*FILES, *(file for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__))]
    told = [(place, comment) for file in files for place, comment in silenced(file)]
    assert len(told) > 10
    assert [f"{place}: {comment}" for place, comment in told if WITH_REASON.fullmatch(comment) is None] == []


@pytest.mark.parametrize(
    ("comment", "fits"),
    [
        ("# noqa: S311  (chance, not secrecy)", True),
        ("# type: ignore[assignment]  # as Python's import system says that there is none", True),
        ("# noqa: S311", False),
        ("# noqa", False),
        ("# type: ignore", False),
        ("# type: ignore[arg-type]", False),
    ],
)
def test_what_counts_as_a_reason(comment, fits):
    assert SILENCED.search(f"x = 1  {comment}")[0] == comment
    assert (WITH_REASON.fullmatch(comment) is not None) == fits
