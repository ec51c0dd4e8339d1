"""docs/llava.md: its specs are valid and fit each other, its code runs on a folder of ours, and what it names is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from specgen.compiler import compile_spec
from specgen.places import data_folder
from tests.runtime.seeing import seeing_folder

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs/llava.md").read_text(encoding="utf-8")


def blocks(page, kind):
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch, page):
    """A working folder with the specs, rows and picture of the page."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    for text in blocks(page, "yaml")[:2]:
        (tmp_path / "specs" / f"{yaml.safe_load(text)['name']}.yaml").write_text(text)
    (row,) = json.loads(blocks(page, "json")[0])
    rows = [row] + [json.loads(json.dumps(row).replace("colour?", f"colour ({number})?")) for number in range(20)]
    for name in ("captions", "questions"):
        (tmp_path / "data" / f"{name}.json").write_text(json.dumps(rows))
    Image.new("RGB", (40, 40), (220, 20, 30)).save(tmp_path / "data" / "pictures" / "red.png")
    return tmp_path


def test_the_specs_are_valid(place):
    first, second = (compile_spec(place / "specs" / f"{name}.yaml") for name in ("colours_pretrain", "colours_finetune"))
    told = {(found.code, found.severity) for found in {*second.diagnostics} - {*first.diagnostics}}
    assert ("SG648", "note") in told  # the first run is not there yet
    assert not any(found.code >= "SG600" for found in first.diagnostics)
    assert second.plan.model.from_run == f"runs/{first.plan.name}"


def test_the_code_runs_on_a_folder_of_ours(place, page, capsys):
    (code,) = blocks(page, "python")
    exec(code.replace('"runs/colours_finetune/merge"', repr(str(seeing_folder(place)))), {})
    assert capsys.readouterr().out.strip()


def test_every_code_that_it_names_is_explained(page):
    known = yaml.safe_load((data_folder("schemas") / "diagnostics.yaml").read_text(encoding="utf-8"))
    assert not set(re.findall(r"SG\d{3}", page)) - set(known)
