"""specgen sweep on a tiny random model: every trial is a real run, in a process of its own."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import signal
import subprocess
import time

import pytest

from runtime.sweep.__main__ import show
from runtime.sweep.page import page
from runtime.sweep.table import read_sweep, rows
from tests.e2e.commands import command, specgen

GRID = {"metric": "train_loss", "parameters": {"data.max_length": [128, 20]}}


@pytest.fixture(scope="module")
def swept(compiled):
    """Writes the tiny spec with a sweep into a folder; returns that."""

    def write(folder, sweep, **overrides):
        compiled(folder, sweep=sweep, **overrides)
        return folder

    return write


@pytest.fixture(scope="module")
def ran(swept, tmp_path_factory):
    """A sweep of two trials; the rows of the second are too long for it."""
    folder = swept(tmp_path_factory.mktemp("swept"), GRID)
    return specgen("sweep", "spec.yaml", cwd=folder)


def results(folder):
    return json.loads((folder / "runs/tiny-sweep/sweep.json").read_text())


def test_a_trial_that_fails_does_not_end_the_sweep_and_its_fault_is_in_the_table(ran):
    assert ran.code == 0, ran.output
    good, bad = results(ran.folder)["trials"]
    assert (good["state"], good["steps"], good["values"]) == ("done", 6, {"data.max_length": 128})
    assert bad["state"] == "failed"
    assert bad["fault"] == "SG424: 4 distinct rows are longer than 20 tokens"
    table = ran.output[ran.output.index("sweep    tiny · grid · 2 trials by train loss, * the best") :]
    assert "\n1 *    128 " in table
    assert table.splitlines()[4].endswith("SG424: 4 distinct rows are longer than 20 tokens")
    assert "the best trial as a run of its own: specgen run spec.yaml --set data.max_length=128\n" in table
    assert "talk to it: specgen chat build/tiny-sweep/max_length-128.yaml --runs-dir runs/tiny-sweep\n" in table


def test_every_trial_has_a_spec_a_lock_a_compiled_folder_and_a_report_of_its_own(ran):
    build, run = ran.folder / "build/tiny-sweep", ran.folder / "runs/tiny-sweep/tiny-max_length-128"
    for label in ("max_length-128", "max_length-20"):
        assert (build / f"{label}.yaml").read_text().startswith("# data.max_length ")
        assert f'name: "tiny-{label}"' in (build / f"{label}.lock.yaml").read_text()
        assert (build / label / "config.yaml").is_file()
    assert (run / "report/report.html").is_file()
    assert (run / "merge/model.safetensors").is_file()
    checked = specgen("lock", "build/tiny-sweep/max_length-128.yaml", "--check", cwd=ran.folder)
    assert checked.code == 0, checked.output


def test_the_training_loss_is_a_mean_of_the_last_tenth_of_the_steps(ran):
    train = ran.folder / "runs/tiny-sweep/tiny-max_length-128/train"
    losses = [json.loads(line)["loss"] for line in (train / "metrics.jsonl").read_text().splitlines()]
    assert results(ran.folder)["trials"][0]["train_loss"] == losses[-1]  # a tenth of six steps is one
    assert results(ran.folder)["trials"][0]["score"] == losses[-1]


def test_the_same_figures_are_there_as_comma_separated_values(ran):
    with (ran.folder / "runs/tiny-sweep/trials.csv").open() as stream:
        good, bad = csv.DictReader(stream)
    assert (good["number"], good["state"], good["data.max_length"], good["steps"]) == ("1", "done", "128", "6")
    assert float(good["train_loss"]) == results(ran.folder)["trials"][0]["train_loss"]
    assert (bad["steps"], bad["fault"][:5]) == ("", "SG424")


def test_the_page_has_the_table_both_plots_and_a_link_to_each_report(ran):
    html = (ran.folder / "runs/tiny-sweep/sweep.html").read_text()
    assert html.count("<svg") == 2
    assert '<a href="tiny-max_length-128/report/report.html"' in html
    assert "SG424: 4 distinct rows are longer than 20 tokens" in html
    assert html == page(read_sweep(ran.folder / "runs/tiny-sweep"), ran.folder / "runs/tiny-sweep")  # the same bytes again


def test_a_sweep_that_is_done_runs_nothing_again(ran):
    again = specgen("sweep", "spec.yaml", cwd=ran.folder)
    assert again.code == 0, again.output
    assert "trial 1/2  data.max_length 128\n         done before\n" in again.output
    assert "trial 2/2  data.max_length 20\n         failed before: SG424: 4 distinct rows" in again.output
    assert "train    " not in again.output
    assert again.output[again.output.index("sweep    tiny") :] == ran.output[ran.output.index("sweep    tiny") :]


def test_trials_are_planned_without_running_any(swept, tmp_path):
    planned = specgen(
        "sweep", "spec.yaml", "--plan", cwd=swept(tmp_path, {"metric": "train_loss", "parameters": {"train.max_steps": [3, 5]}})
    )
    assert planned.code == 0, planned.output
    *table, _, sums = planned.output[planned.output.index("trial  ") :].splitlines()
    assert [line.split() for line in table] == [
        ["trial", "train.max_steps", "steps", "tokens"],
        ["1", "3", "3", "246"],
        ["2", "5", "5", "410"],
    ]
    assert sums == "2 trials: 8 steps and 656 tokens in all, and a merge and a smoke test each"


def test_the_plan_tells_what_the_data_of_a_trial_do_not_fit(ran):
    planned = specgen("sweep", "spec.yaml", "--plan", cwd=ran.folder)
    assert planned.code == 2
    assert "error SG424: 4 distinct rows are longer than 20 tokens; with data.max_length 20\n  41 tokens: user: Count 1." in planned.output


def test_a_table_has_only_columns_that_have_figures_and_lines_for_people(capsys):
    failed = dict.fromkeys(("steps", "train_loss", "validation_loss", "tokens_per_s", "memory_bytes", "passed", "asked", "seconds"))
    done = {**failed, "steps": 1200, "train_loss": 1.5, "passed": 1, "asked": 2, "seconds": 61.4}
    trials = [
        {"number": 2, "label": "b", "state": "done", "fault": None, "values": {"template": {"jinja": "x"}}, **done},
        {"number": 1, "label": "a", "state": "failed", "fault": "SG433: the loss is nan", "values": {"template": None}, **failed},
    ]
    sweep = {"name": "n", "method": "random", "metric": "smoke", "parameters": ["template"], "best": "b", "trials": trials}
    heads, table = rows(sweep)
    assert heads == ["trial", "template", "steps", "train loss", "smoke", "time", "fault"]
    assert table[0] == ["2 *", '{"jinja": "x"}', "1,200", "1.5000", "1/2", "1:01", ""]
    assert table[1] == ["1", "null", "–", "–", "–", "–", "SG433: the loss is nan"]
    show(sweep)
    assert capsys.readouterr().out.splitlines()[2] == "trial  template        steps  train loss  smoke  time  fault"


OPTUNA = {
    "method": {"optuna": {"trials": 3, "n_startup_trials": 1}},
    "metric": "train_loss",
    "parameters": {"train.learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True}, "adapter.lora.r": [2, 4]},
}


def interrupted(folder, trial, number):
    """Starts a sweep, sends it a signal once a trial trains, and returns its exit code. SIGKILL is for its trial, too."""
    metrics = folder / "runs/tiny-sweep"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "start_new_session": True}
    with subprocess.Popen(command("sweep", "spec.yaml"), cwd=folder, **quiet) as process:
        deadline = time.monotonic() + 240
        while not (len(list(metrics.glob("tiny-*"))) >= trial and list(metrics.glob("*/train.partial/metrics.jsonl"))):
            assert process.poll() is None and time.monotonic() < deadline, "the sweep did not come so far"
            time.sleep(0.02)
        (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
        return process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [OPTUNA, {**OPTUNA, "method": {"random": {"trials": 3}}}], ids=["optuna", "random"])
def test_a_sweep_that_is_killed_goes_on_and_ends_with_the_same_trials(swept, tmp_path, sweep):
    unbroken = specgen("sweep", "spec.yaml", cwd=swept(tmp_path / "unbroken", sweep))
    assert unbroken.code == 0, unbroken.output
    broken = swept(tmp_path / "broken", sweep)
    assert interrupted(broken, 2, signal.SIGKILL) == -signal.SIGKILL
    done = len(results(broken)["trials"])
    assert done == 1
    again = specgen("sweep", "spec.yaml", cwd=broken)
    assert again.code == 0, again.output
    assert again.output.count("done before") == done
    assert figures(broken) == figures(tmp_path / "unbroken")
    assert len(figures(broken)) == 3


def figures(folder):
    return [(trial["label"], trial["train_loss"], trial["state"]) for trial in results(folder)["trials"]]


def test_a_trial_that_another_process_still_runs_stops_the_sweep_and_is_no_failure(ran):
    held = ran.folder / "runs/tiny-sweep/tiny-max_length-20/.specgen"
    with held.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        again = specgen("sweep", "spec.yaml", "--retry", cwd=ran.folder)
    assert again.code == 2
    assert "error SG406: another run is active in runs/tiny-sweep/tiny-max_length-20" in again.output
    assert "stopped after 1 of 2 trials; the same command goes on from here" in again.output
    assert len(results(ran.folder)["trials"]) == 2  # what an earlier call has recorded is kept


@pytest.mark.slow
def test_sigterm_reaches_the_trial_and_the_sweep_goes_on_later(swept, tmp_path):
    folder = swept(tmp_path, {"metric": "train_loss", "parameters": {"train.learning_rate": [1.0e-2, 1.0e-3]}}, train={"epochs": 30})
    assert interrupted(folder, 1, signal.SIGTERM) == 75
    assert not (folder / "runs/tiny-sweep/sweep.json").exists()
    again = specgen("sweep", "spec.yaml", "--trials", "1", cwd=folder)
    assert again.code == 0, again.output
    assert [trial["steps"] for trial in results(folder)["trials"]] == [60]


@pytest.mark.slow
def test_the_best_by_the_smoke_test_keeps_its_merged_model(swept, tmp_path):
    smoke = [
        {"user": "Count 1.", "expect": {"contains": ["It is"], "stops": False}},
        {"user": "Count 2.", "expect": {"not_contains": ["SmolLM"]}},
    ]
    sweep = {"metric": "smoke", "parameters": {"chat.max_new_tokens": [6, 7], "smoke": [smoke[:1], smoke[1:]]}}
    ran = specgen("sweep", "spec.yaml", cwd=swept(tmp_path, sweep))
    assert ran.code == 0, ran.output
    assert ran.output.count("train    the same as in ") == 3  # chat and smoke change no weights
    merged = [path.parent.name for path in tmp_path.glob("runs/tiny-sweep/*/merge")]
    best = next(trial for trial in results(tmp_path)["trials"] if trial["label"] == results(tmp_path)["best"])
    assert merged == [best["name"]]
