"""runtime/run/pipeline.py: what runs again after a change, and in which order stages may run."""

from __future__ import annotations

import pytest

from runtime.run import pipeline
from runtime.stages import keys

ALL = ["data", "train", "convert", "merge", "smoke", "report"]


@pytest.fixture(scope="module")
def runs_again(tmp_path_factory, configured):
    """The stages that are not up to date after a change of the tiny spec."""
    folder = tmp_path_factory.mktemp("pipeline")
    graph = pipeline.stages(folder / "build")
    before = keys(graph, configured(folder))

    def changed(**overrides):
        config = configured(folder / "changed", **overrides)
        after = keys(graph, config)
        return [stage.name for stage in graph if stage.asked(config) and after[stage.name] != before.get(stage.name)]

    return changed


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({}, []),
        ({"chat": {"temperature": 0.7}}, ["smoke", "report"]),
        ({"chat": {"stop": ["END."]}}, ["smoke", "report"]),
        ({"smoke": []}, ["smoke", "report"]),
        ({"eval": {"tasks": [{"name": "arc_easy"}]}}, ["eval", "report"]),
        ({"eval": {"tasks": [{"name": "arc_easy"}]}, "chat": {"temperature": 0.7}}, ["smoke", "eval", "report"]),
        ({"export": {"merged": {"dtype": "bfloat16"}}}, ["merge", "smoke", "report"]),
        ({"export": {"adapter": {"dtype": "float16"}}}, ["convert", "merge", "smoke", "report"]),
        ({"adapter": {"lora": {"r": 8}}}, ["train", "convert", "merge", "smoke", "report"]),
        ({"train": {"learning_rate": 1.0e-3}}, ["train", "convert", "merge", "smoke", "report"]),
        ({"model": {"dtype": "bfloat16"}}, ["train", "convert", "merge", "smoke", "report"]),
        ({"data": {"max_length": 64}}, ALL),
        ({"template": "chatml"}, ALL),
        ({"train": {"seed": 1}}, ALL),
    ],
    ids=str,
)
def test_a_change_runs_again_what_depends_on_it(runs_again, change, stages):
    assert runs_again(**change) == stages


@pytest.mark.parametrize(
    "change", [{"preview": {"every": 1, "prompts": ["Who are you?"]}}, {"save_steps": 1}, {"save_total_limit": 5}], ids=str
)
def test_what_only_watches_training_makes_only_the_report_anew(runs_again, change):
    assert runs_again(train=change) == ["report"]


def test_a_changed_base_model_runs_everything_again(tmp_path, tiny_base, configured):
    config = configured(tmp_path)
    graph = pipeline.stages(tmp_path / "build")
    before = keys(graph, config)
    (tiny_base / "extra.txt").write_text("x")
    try:
        after = keys(graph, config)
    finally:
        (tiny_base / "extra.txt").unlink()
    assert all(before[name] != after[name] for name in ALL)
    assert keys(graph, config) == before


def test_a_stage_whose_input_is_missing_is_refused(tmp_path, configured, fault_of):
    config = configured(tmp_path)
    options = {"build": tmp_path / "build", "runs_dir": tmp_path, "only": ("merge",), "talk": ""}
    text = "error SG405: stage merge needs convert, which is not up to date\n  hint: run it first: --stage convert"
    assert fault_of(pipeline.run, config, **options) == text


def test_a_run_that_is_up_to_date_does_nothing(finished, carried_out, capsys):
    build, run = finished
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".specgen"}
    carried_out(build, run.parent)
    assert capsys.readouterr().out.splitlines()[:6] == [f"{name:<8} up to date" for name in ALL]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_failed_smoke_test_fails_the_run_and_keeps_everything(finished_copy, tmp_path, configured, capsys):
    _, run = finished_copy
    config = configured(tmp_path, smoke=[{"user": "Count 1.", "expect": {"contains": ["no such answer"], "stops": False}}])
    again = {"build": tmp_path / "build", "runs_dir": run.parent, "only": (), "talk": ""}
    assert pipeline.run(config, **again) == 1
    assert pipeline.run(config, **again) == 1  # also when all is up to date
    said = capsys.readouterr().out
    assert f"The smoke test failed. Everything is kept in {run}" in said
    assert all((run / name / "stage.json").exists() for name in ALL)
