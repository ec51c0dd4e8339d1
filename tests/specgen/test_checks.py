"""Every check has a spec that fails and one that passes: tests/specs_bad/NAME and tests/specs_good/CODE_NAME. Adding one needs no code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import specgen
from specgen.diagnostics import explanations
from specgen.rules.matrix import matrix

BAD, GOOD = (Path(__file__).parents[1] / name for name in ("specs_bad", "specs_good"))
PASSING = sorted(GOOD.iterdir())


OF_THE_CALL = {"SG001", "SG109", "SG110", "SG659"}  # no spec, --profile, --set: tests/specgen/test_cli.py, test_sweep.py
OF_THE_MACHINE = {"SG572", "SG640"}  # a library or a tool that is not installed: tests/specgen/test_rows.py, test_export_rules.py


def checked_codes():
    """The codes that `specgen validate` can report of the text of a spec, its keys, what it refers to and how its parts fit together."""
    package = Path(specgen.__file__).parent
    files = [package / f"{module}.py" for module in ("source", "validate", "compose", "extend")]
    files += [file for folder in ("rules", "facts") for file in (package / folder).rglob("*.py")]
    sources = [file.read_text(encoding="utf-8") for file in files]
    named = {code for text in sources for code in re.findall(r'"(SG\d{3})"', text)}
    return sorted((named | {conflict.code for conflict in matrix().conflicts}) - OF_THE_CALL - OF_THE_MACHINE)


def failing():
    """Folder → the codes that are told in it."""
    return {case.name: set(re.findall(r"(SG\d{3}): ", (case / "expected.txt").read_text(encoding="utf-8"))) for case in BAD.iterdir()}


def test_there_are_many_checks():
    assert len([code for code in checked_codes() if code >= "SG2"]) >= 60
    assert set(checked_codes()) <= set(explanations())


def test_every_check_has_a_spec_that_fails():
    told = set().union(*failing().values())
    missing = [code for code in checked_codes() if code not in told]
    assert not missing, f"no folder under tests/specs_bad has these codes in its expected.txt: {', '.join(missing)}"


def test_every_check_has_a_spec_that_passes():
    passing = {case.name.partition("_")[0] for case in PASSING}
    missing = [code for code in checked_codes() if code not in passing]
    assert not missing, f"no folder tests/specs_good/CODE_NAME passes these checks: {', '.join(missing)}"


def test_a_passing_spec_is_the_twin_of_a_failing_one():
    told = failing()
    alone = [case.name for case in PASSING if case.name.partition("_")[0] not in told.get(case.name.partition("_")[2], ())]
    assert not alone, f"tests/specs_bad has no folder of that name that shows the code: {', '.join(alone)}"


@pytest.mark.parametrize("case", PASSING, ids=lambda case: case.name)
def test_the_check_passes_and_nothing_is_an_error(case, cli):
    ran = cli("validate", "spec.yaml", "--format", "json", cwd=case)
    found = json.loads(ran.out)
    assert case.name.partition("_")[0] not in {fault["code"] for fault in found}
    assert [fault for fault in found if fault["severity"] == "error"] == []
    assert ran.code == 0
