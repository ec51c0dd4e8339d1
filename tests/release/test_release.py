"""release/: what keeps a release from being made, told in a sentence."""

from __future__ import annotations

import json
import sys

import pytest

from conversations import __version__
from release import parts
from release.archives import require_dated_entry
from release.installed import Environment, find_python
from release.say import Refused, output_of


def test_the_changelog_has_to_say_when():
    require_dated_entry(f"# Changelog\n\n## [{__version__}] - 2026-11-27\n")
    for text in (f"## [{__version__}]\n", "## [0.0.1] - 2026-11-27\n"):
        with pytest.raises(Refused, match="has no line"):
            require_dated_entry(text)


def test_a_python_is_found_by_its_version():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert output_of([find_python(version), "-c", "import sys; print(sys.version)"]).startswith(version)


def test_a_python_that_is_not_there_is_told():
    with pytest.raises(Refused, match=r"there is no Python 3\.1 here; PYTHONS="):
        find_python("3.1")


def test_what_fails_is_told_with_its_output():
    with pytest.raises(Refused, match=r"ended with 3:\nbecause$"):
        output_of([sys.executable, "-c", "import sys; print('because'); sys.exit(3)"])


@pytest.fixture
def audit(tmp_path, monkeypatch):
    """Audits an environment with a pip-audit that leaves this behind."""
    monkeypatch.delenv("AUDIT", raising=False)
    monkeypatch.setattr(parts, "BIN", tmp_path)
    (tmp_path / "env/lib/python3.11/site-packages").mkdir(parents=True)
    auditor = tmp_path / "pip-audit"

    def run(answer):
        written = f"cat > \"$6\" <<'END'\n{json.dumps(answer)}\nEND\n" if answer else "echo 'ERROR: no connection' >&2; exit 1\n"
        auditor.write_text(f"#!/bin/sh\n{written}")
        auditor.chmod(0o755)
        parts.audit(Environment(tmp_path))

    return run


def test_packages_that_nothing_is_known_against_are_counted(audit, capsys):
    audit({"dependencies": [{"name": "click", "version": "8.5.1", "vulns": []}, {"name": "own", "skip_reason": "not on PyPI"}]})
    assert capsys.readouterr().out == "audit    nothing is known against 1 packages; not looked up: own\n"


def test_a_known_vulnerability_is_no_release(audit):
    faults = [{"id": "PYSEC-1", "fix_versions": ["2.0"]}, {"id": "PYSEC-2", "fix_versions": []}]
    with pytest.raises(Refused, match=r"one 1\.0: PYSEC-1, mended in 2\.0\none 1\.0: PYSEC-2, mended in no version yet"):
        audit({"dependencies": [{"name": "one", "version": "1.0", "vulns": faults}]})


def test_no_answer_about_vulnerabilities_is_no_release_unless_it_is_left_out(audit, monkeypatch, capsys):
    with pytest.raises(Refused, match="pip-audit has no answer; AUDIT=skip goes on without: ERROR: no connection"):
        audit(None)
    with pytest.raises(Refused, match="could look up none of 1 packages; AUDIT=skip goes on without: not on PyPI"):
        audit({"dependencies": [{"name": "click", "version": "8.5.1", "skip_reason": "not on PyPI"}]})
    monkeypatch.setenv("AUDIT", "skip")
    audit(None)
    assert capsys.readouterr().out == "audit    left out: AUDIT=skip\n"
