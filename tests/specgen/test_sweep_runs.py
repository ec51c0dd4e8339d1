"""What surrounds the trials of a sweep: Optuna's choices, results and their order, folders, and faults of the call."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import json
from dataclasses import replace

import pytest
import yaml

from specgen.compiler import compile_tree
from specgen.diagnostics import SpecError
from specgen.facts.figures import data_key
from specgen.lock.file import read, write
from specgen.source import parse
from specgen.sweep import planning
from specgen.sweep.builds import read_sweep
from specgen.sweep.folders import held, open_folder, read_records, write_records
from specgen.sweep.results import Record, best_first, best_of, failed_only_its_tests, figures_of, reason
from specgen.sweep.space import sweep_of
from specgen.sweep.study import Study
from specgen.sweep.trials import as_setting, listed

SECTION = """
  sweep:
    metric: train_loss
    method: {optuna: {trials: 8, n_startup_trials: 3}}
    parameters:
      train.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}
      adapter.lora.r: {low: 4, high: 65, step: 4}
      adapter.lora.dropout: {low: 0, high: 0.3}
      adapter.lora.targets: [all-linear, [q_proj]]
      train.schedule: [cosine, linear]
"""


@pytest.fixture
def sweep(small):
    return sweep_of(compile_tree(parse(small + SECTION.replace("\n  ", "\n"), "small.yaml")).tree)


def chosen(sweep, folder, asked_twice=()):
    """The trials that Optuna chooses where the learning rate 2e-4 is the best, and the fourth trial fails."""
    study, labels = Study(sweep, folder, "study"), []
    for number in range(1, sweep.trials + 1):
        if number in asked_twice:  # the process ends before the result is known
            study.ask(number)
            study = Study(sweep, folder, "study")
        trial = study.ask(number)
        labels.append(trial.label)
        study.tell(number, None if number == 4 else abs(trial.values["train.learning_rate"].value - 2e-4))
        study.tell(number, -1.0)  # a trial is told once
    return labels, study.study


def test_optuna_chooses_the_same_trials_again_whether_it_was_interrupted_or_not(sweep, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole, study = chosen(sweep, tmp_path / "whole")
    broken, _ = chosen(sweep, tmp_path / "broken", asked_twice=(1, 2, 5, 8))
    assert whole == broken
    assert len(set(whole)) == 8
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3 + ["FAIL"] + ["COMPLETE"] * 4
    assert all(trial.value >= 0 for trial in study.get_trials(states=[study.trials[0].state]))


def test_optunas_values_fit_the_ranges_of_the_spec(sweep, tmp_path):
    study = Study(sweep, tmp_path, "study")
    for number in range(1, 9):
        values = {path: node.plain() for path, node in study.ask(number).values.items()}
        assert 1e-5 <= values["train.learning_rate"] <= 1e-3
        assert values["train.learning_rate"] == float(f"{values['train.learning_rate']:.4g}")
        assert values["adapter.lora.r"] in range(4, 65, 4)
        assert values["adapter.lora.targets"] in ("all-linear", ["q_proj"])


def test_a_missing_optuna_is_told_with_what_to_install(small, cli, tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text(small + SECTION.replace("\n  ", "\n"))
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "optuna" else found(name, *more))
    ran = cli("sweep", "a.yaml", "--plan")
    assert ran.code == 2
    assert ran.err.endswith(
        "error SG490: the sweep is one of Optuna, which is not installed\n"
        "  hint: pip install 'specgen[sweep]', or take method: {random: {trials: N}}\n"
        "1 error. Explanation: specgen explain SG490\n"
    )


def record(number, **figures):
    state = figures.pop("state", "done")
    return Record(number=number, label=str(number), name=f"n-{number}", values={}, key="", state=state, **figures)


def test_the_best_has_the_lowest_loss_and_failed_trials_come_last():
    trials = [
        record(1, state="failed"),
        record(2, validation_loss=1.5),
        record(3, validation_loss=float("nan")),
        record(4, validation_loss=1.2),
    ]
    assert [trial.number for trial in best_first(trials, "validation_loss")] == [4, 2, 3, 1]
    assert best_of(trials, "validation_loss").number == 4
    assert best_of(trials, "train_loss") is None
    assert best_of([], "smoke") is None


def test_of_as_many_questions_passed_the_lower_loss_is_better():
    trials = [
        record(1, passed=1, asked=2, validation_loss=1.0),
        record(2, passed=2, asked=2, validation_loss=1.4),
        record(3, passed=2, asked=2, validation_loss=1.3),
        record(4, passed=2, asked=2),
    ]
    assert [trial.number for trial in best_first(trials, "smoke")] == [3, 2, 4, 1]


def test_records_are_read_back_as_they_were_written(tmp_path):
    trials = [record(1, passed=1, asked=2), record(2, passed=2, asked=2, seconds=1.5)]
    write_records(tmp_path, {"name": "n"}, trials, "smoke")
    assert read_records(tmp_path) == {"1": trials[0], "2": trials[1]}
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert [(trial["number"], trial["score"]) for trial in written["trials"]] == [(2, 1.0), (1, 0.5)]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"trials": [{"number": 1}]}', '{"trials": 3}'])
def test_records_that_cannot_be_read_count_as_none(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    assert read_records(tmp_path) == {}


@pytest.mark.parametrize(
    ("errors", "code", "why"),
    [
        ("a warning\nerror SG433: the loss is nan at step 3\n  hint: lower it\n", 1, "SG433: the loss is nan at step 3"),
        ("Traceback (most recent call last):\n  File x\nValueError: no\n", 1, "ValueError: no"),
        ("", -9, "killed by signal 9, as by the system when memory runs out"),
        ("", -11, "killed by signal 11"),
        ("", 3, "exit code 3"),
    ],
)
def test_why_a_trial_failed_is_one_line(errors, code, why):
    assert reason(errors, code) == why


def run_folder(folder, *, passed, validation=(2.0, 1.0, 1.5)):
    for stage, summary in {"train": {"steps": 20, "tokens_per_s": 7, "peak_memory_bytes": 9}, "smoke": {"passed": passed}}.items():
        (folder / stage).mkdir(parents=True)
        transcript = {"transcript": [{"problems": []}, {"problems": [] if passed else ["no"]}]} if stage == "smoke" else {}
        (folder / stage / "stage.json").write_text(json.dumps({"seconds": 1.25, "summary": {**summary, **transcript}}))
    (folder / "train/metrics.jsonl").write_text("".join(json.dumps({"step": step, "loss": float(step)}) + "\n" for step in range(1, 21)))
    (folder / "train/validation.jsonl").write_text("".join(json.dumps({"step": 1, "loss": loss}) + "\n" for loss in validation))
    return folder


def test_the_figures_of_a_run_are_those_of_its_files(tmp_path):
    folder = run_folder(tmp_path, passed=False)
    assert figures_of(folder, keeps_best=False) == {
        "steps": 20, "train_loss": 19.5, "validation_loss": 1.5, "tokens_per_s": 7, "memory_bytes": 9, "passed": 1, "asked": 2,
        "seconds": 2.5,
    }  # fmt: skip
    assert figures_of(folder, keeps_best=True)["validation_loss"] == 1.0
    assert figures_of(tmp_path / "none", keeps_best=False)["validation_loss"] is None


def test_a_model_that_answers_wrongly_is_a_result_and_no_failure(tmp_path):
    folder = run_folder(tmp_path, passed=False)
    assert failed_only_its_tests(folder, "some library warns\n")
    assert not failed_only_its_tests(folder, "error SG433: the loss is nan\n")
    assert not failed_only_its_tests(folder, "Traceback (most recent call last):\n")
    assert not failed_only_its_tests(run_folder(tmp_path / "good", passed=True), "")


def test_a_model_that_misses_a_threshold_is_a_result_too(tmp_path):
    folder = run_folder(tmp_path, passed=True)
    (folder / "eval").mkdir()
    (folder / "eval/stage.json").write_text(json.dumps({"seconds": 1, "summary": {"passed": False}}))
    assert failed_only_its_tests(folder, "")


def test_the_loss_of_a_run_that_was_cut_off_is_that_of_its_whole_lines(tmp_path):
    folder = run_folder(tmp_path, passed=True)
    with (folder / "train/metrics.jsonl").open("a") as stream:
        stream.write('{"step": 21, "lo')
    assert figures_of(folder, keeps_best=False)["train_loss"] == 19.5


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SpecError, match="holds files that specgen did not write; nothing was touched"):
        open_folder(tmp_path, "--runs-dir")
    with pytest.raises(SpecError, match="is a file; nothing was touched"):
        open_folder(tmp_path / "mine.txt", "--output")
    open_folder(tmp_path / "new", "--output")
    open_folder(tmp_path / "new", "--output")
    (tmp_path / "runs" / "trial").mkdir(parents=True)
    (tmp_path / "runs" / "trial" / ".specgen").touch()  # a trial that was run by itself
    open_folder(tmp_path / "runs", "--runs-dir")


def test_a_folder_that_cannot_be_looked_at_is_told(tmp_path):
    with pytest.raises(SpecError, match="cannot be written: File name too long"):
        open_folder(tmp_path / ("a" * 300), "--output")


def test_two_sweeps_in_one_folder_are_refused(tmp_path):
    open_folder(tmp_path, "--runs-dir")
    with (tmp_path / ".sweep").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(SpecError, match="another sweep is active in "), held(tmp_path, print):
            pass
    with held(tmp_path, print):
        pass


def test_a_disk_without_locks_is_no_other_sweep(tmp_path, monkeypatch):
    def flock(stream, _how):
        assert stream.writable(), "NFS gives no lock for one process alone to a file that is open for reading"
        raise OSError(errno.ENOLCK, "No locks available")

    open_folder(tmp_path, "--runs-dir")
    monkeypatch.setattr(fcntl, "flock", flock)
    said = []
    with held(tmp_path, said.append):
        assert said == [f"note: {tmp_path} cannot be locked (No locks available): nothing keeps another sweep out of it"]


SETTINGS = {
    "train.learning_rate=0.0002": 0.0002,
    "train.learning_rate=1.0e-05": 1e-5,
    "adapter.lora.r=8": 8,
    "train.schedule=cosine": "cosine",
    'chat.system="8"': "8",
    'chat.system="null"': "null",
    'chat.system="Be: brief."': "Be: brief.",
    "model.quantization=null": None,
    'model.quantization={"nf4": {"double_quant": false}}': {"nf4": {"double_quant": False}},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_value_is_written_so_that_set_reads_it_back(setting):
    path, _, text = setting.partition("=")
    assert as_setting(path, SETTINGS[setting]) == setting
    assert parse(f"x: {text}", "x").plain() == {"x": SETTINGS[setting]}


def test_a_spec_without_a_sweep_is_told(small, cli, tmp_path):
    (tmp_path / "a.yaml").write_text(small)
    ran = cli("sweep", "a.yaml")
    assert ran.code == 2
    assert "a.yaml:1:1: error SG662: a.yaml has no sweep\n" in ran.err


GRID = """
sweep:
  metric: train_loss
  parameters:
    train.learning_rate: [1.0e-4, 2.0e-4]
    chat.system: ["Be: brief.", '8', null, "yes\\nno"]
profiles: {other: {train: {epochs: 1}}}
"""


def test_trials_are_compiled_each_with_a_spec_and_a_lock_of_its_own(small, cli, tmp_path):
    (tmp_path / "a.yaml").write_text(small + GRID)
    ran = cli("sweep", "a.yaml", "--compile-only", "--profile", "other", "--set", "train.seed=7")
    assert ran.code == 0, ran.err
    assert ran.out.endswith("wrote build/small-other-sweep (8 trials); next: specgen sweep a.yaml --profile other --set train.seed=7\n")
    target = tmp_path / "build/small-other-sweep"
    specs = sorted(target.glob("*[!k].yaml"))
    found = [yaml.safe_load(path.read_text()) for path in specs]
    assert {trial["chat"]["system"] for trial in found} == {"Be: brief.", "8", None, "yes\nno"}
    assert {(trial["train"]["epochs"], trial["train"]["seed"]) for trial in found} == {(1, 7)}
    assert not any({"sweep", "profiles"} & trial.keys() for trial in found)
    for path in specs:
        assert read(path.with_suffix(".lock.yaml")).name == f"small-other-{path.stem}"
        assert cli("compile", f"build/small-other-sweep/{path.name}", "--check", "--output", target / path.stem).code == 0
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    assert cli("sweep", "a.yaml", "--compile-only", "--profile", "other", "--set", "train.seed=7").code == 0
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("seed", ["42.0", "1e3"])
def test_a_seed_is_whole_however_it_is_written(small, cli, tmp_path, seed):
    (tmp_path / "a.yaml").write_text(f"{small}train: {{seed: {seed}}}\n{GRID.partition('profiles')[0]}")
    ran = cli("sweep", "a.yaml", "--compile-only")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--plan", "--compile-only"), "--plan only looks: it goes neither with --compile-only nor with --retry nor with --output"),
        (("--plan", "--output", "x"), "--plan only looks: it goes neither with --compile-only nor with --retry nor with --output"),
        (("--compile-only", "--retry"), "--compile-only runs no trial, and --retry runs some once more: give one of them"),
    ],
)
def test_options_of_a_sweep_that_do_not_go_together_are_refused(small, cli, tmp_path, given, told):
    (tmp_path / "a.yaml").write_text(small + GRID)
    ran = cli("sweep", "a.yaml", *given)
    assert ran.code == 2 and ran.err.endswith(f"Error: {told}\n")


PACKS = {
    "rows": 80, "train_rows": 80, "validation_rows": 0, "examples": 16, "tokens": 1600, "trained_tokens": 400, "median": 20, "p90": 20,
    "p99": 20, "longest": 20, "dropped": 0, "truncated": 0, "duplicates": 0.0, "overlap": 0.0,
}  # fmt: skip


def test_a_plan_takes_the_figures_of_the_lock(small, cli, tmp_path, monkeypatch):
    packed = small.replace("data:", "data:\n  packing: true").replace("synthetic:", "synthetic:\n        repeat: 80")
    (tmp_path / "a.yaml").write_text(f"{packed}train: {{epochs: 1, batch_size: 8}}\n{GRID.partition('profiles')[0]}")
    assert cli("lock", "a.yaml").code == 0
    lock, key = read(tmp_path / "a.lock.yaml"), data_key(read_sweep(tmp_path / "a.yaml", None, ()).compiled.plan)
    write(replace(lock, figures={"key": key, **PACKS}), tmp_path / "a.lock.yaml")
    monkeypatch.setattr(planning, "measured_data", lambda compiled: pytest.fail("the lock has the figures"))
    swept = read_sweep(tmp_path / "a.yaml", None, ())
    assert planning.plan(swept, list(listed(swept.sweep)), 8).endswith(
        "\n8 trials: 16 steps and 12,800 tokens in all, and a merge and a smoke test each"
    )


def test_a_trial_of_the_same_model_template_and_data_has_the_lock_of_the_spec(small, cli, tmp_path):
    sweep = "sweep: {metric: train_loss, parameters: {train.seed: [1, 2], template: [tokenizer, chatml]}}\n"
    (tmp_path / "a.yaml").write_text(small + "template: tokenizer\n" + sweep)
    assert cli("lock", "a.yaml").code == 0
    own = replace(read(tmp_path / "a.lock.yaml"), figures={"key": "to know it by"})
    write(own, tmp_path / "a.lock.yaml")
    assert cli("sweep", "a.yaml", "--compile-only").code == 0
    locks = {path.name: read(path) for path in (tmp_path / "build/small-sweep").glob("*.lock.yaml")}
    same = locks.pop("seed-1_template-tokenizer.lock.yaml")
    assert replace(same, name="small") == own
    assert locks["seed-1_template-chatml.lock.yaml"].figures is None
    assert locks["seed-1_template-chatml.lock.yaml"].template.name == "chatml"


def test_all_trials_are_checked_before_one_is_compiled(small, cli, tmp_path):
    """`validate` compiles the first 32 of them."""
    sizes = [*range(2, 80, 2), 81]
    data = small.replace("synthetic:", "synthetic:\n        repeat: 100")
    sweep = f"train: {{micro_batch_size: 2}}\nsweep: {{metric: train_loss, parameters: {{train.batch_size: {sizes}}}}}\n"
    (tmp_path / "a.yaml").write_text(data + sweep)
    assert cli("validate", "a.yaml").code == 0
    ran = cli("sweep", "a.yaml")
    assert ran.code == 2
    assert "error SG252: train.batch_size is 81, no multiple of 2 (micro_batch_size) x 1 (processes); with train.batch_size 81\n" in ran.err
    assert not (tmp_path / "build").exists()


def test_optunas_trials_cannot_be_compiled_beforehand(small, cli, tmp_path):
    (tmp_path / "a.yaml").write_text(small + SECTION.replace("\n  ", "\n"))
    ran = cli("sweep", "a.yaml", "--compile-only")
    assert ran.code == 2
    assert "Error: --compile-only: Optuna chooses each trial by how the ones before came out" in ran.err
