"""Two rows of one's own and a spec of six lines, as the README and the first page of the docs have them: the model learns the answer."""

from __future__ import annotations

import subprocess

import pytest

from tests.docs.test_blocks import files
from tests.e2e.commands import ROOT, command, specgen


@pytest.mark.e2e
@pytest.mark.slow
def test_the_rows_of_the_readme_are_learned(tmp_path):
    told = dict(files((ROOT / "README.md").read_text(encoding="utf-8")))
    assert told.items() <= dict(files((ROOT / "docs/index.md").read_text(encoding="utf-8"))).items()
    for name, text in told.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    ran = specgen("run", "specs/mine.yaml", cwd=tmp_path)
    assert ran.code == 0, ran.output
    asked = "When are you open?\n"
    done = subprocess.run(command("chat", "specs/mine.yaml"), cwd=tmp_path, input=asked, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "From nine to six.\n"), done.stderr
