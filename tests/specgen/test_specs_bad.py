"""Every folder under tests/specs_bad holds a spec and all that `specgen validate` says of it. Adding one needs no code."""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = sorted(Path(__file__).parents[1].joinpath("specs_bad").iterdir())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_fault_is_told_where_it_stands_and_nothing_is_written(case, cli):
    before = contents(case)
    ran = cli("validate", "spec.yaml", cwd=case)
    expected = (case / "expected.txt").read_text(encoding="utf-8")
    assert (ran.out + ran.err).replace(str(case), "FOLDER") == expected
    assert ran.code == (2 if ": error SG" in expected or expected.startswith("error SG") else 0)
    assert contents(case) == before
