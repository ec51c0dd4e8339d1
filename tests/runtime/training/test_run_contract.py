"""runtime/training/contract.py and resume.py: what has changed is named key by key, and what is not known to be safe is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.stages import write_json
from runtime.training import resume
from runtime.training.contract import contract_of, differences


@pytest.fixture(scope="module")
def contract(tmp_path_factory, configured):
    """The contract of the tiny spec, with sections laid over it."""
    folder = tmp_path_factory.mktemp("contract")
    return lambda **overrides: contract_of(configured(folder, **overrides), rows=None)


@pytest.fixture
def partial(tmp_path, contract):
    """The folder of an unfinished run of the tiny spec, which has come to step 4."""
    folder = tmp_path / "train.partial"
    (folder / "checkpoint-4").mkdir(parents=True)
    write_json(folder / "contract.json", contract())
    return folder


def lines(before, now):
    return [difference.line(told=False).strip() for difference in differences(before, now)]


def test_what_only_watches_keeps_or_reports_is_no_change(contract):
    train = {"preview": {"every": 1, "prompts": ["Who are you?"]}, "save_steps": 1, "save_total_limit": 5, "report_to": ["tensorboard"]}
    other = {"chat": {"temperature": 0.5}, "smoke": [], "distributed": {"ddp_timeout": 60}}
    data = {"validation": {"fraction": 0.25}}
    assert lines(contract(data=data), contract(data=data, train={**train, "eval_steps": 1}, **other)) == []


def test_each_difference_is_named_as_the_spec_writes_it(contract):
    now = contract(
        model={"dtype": "bfloat16"},
        adapter={"lora": {"r": 8, "dropout": 0.1}},
        data={"max_length": 64},
        train={"learning_rate": 1.0e-3, "epochs": 4, "seed": 7},
    )
    assert lines(contract(), now) == [
        "model.dtype: float32 → bfloat16",
        "adapter.lora.r: 4 → 8",
        "adapter.lora.dropout: 0.0 → 0.1",
        "data.max_length: 128 → 64",
        "train.epochs: 3.0 → 4.0",
        "train.learning_rate: 0.01 → 0.001",
        "train.seed: 42 → 7",
    ]


def test_an_evaluation_counts_where_its_loss_decides(contract):
    validated = {"data": {"validation": {"fraction": 0.25}}}
    for more in ({"load_best_model_at_end": True}, {"early_stopping": {"patience": 2}}):
        before, now = (contract(**validated, train={**more, "eval_steps": steps}) for steps in (1, 2))
        assert lines(before, now) == ["train.eval_steps: 1 → 2"]


@pytest.mark.parametrize(
    ("change", "safe"),
    [
        ({"train": {"learning_rate": 1.0e-3}}, True),
        ({"train": {"schedule": "linear"}}, True),
        ({"train": {"weight_decay": 0.1}}, True),
        ({"train": {"micro_batch_size": 1}}, True),
        ({"train": {"max_grad_norm": 0.5}}, True),
        ({"distributed": {"processes_per_node": 2}}, True),
        ({"distributed": {"zero_stage": 2}}, False),
        ({"adapter": {"lora": {"dropout": 0.1}}}, True),
        ({"adapter": {"lora": {"r": 8}}}, False),
        ({"adapter": {"lora": {"targets": ["q_proj"]}}}, False),
        ({"adapter": None}, False),
        ({"train": {"batch_size": 4}}, False),
        ({"train": {"seed": 1}}, False),
        ({"train": {"optimizer": "adafactor"}}, False),
        ({"train": {"group_by_length": True}}, False),
        ({"data": {"max_length": 64}}, False),
        ({"data": {"limits": {"dropped": 0.1}}}, True),
        ({"template": "chatml"}, False),
        ({"model": {"dtype": "bfloat16"}}, False),
    ],
    ids=str,
)
def test_a_run_goes_on_only_with_what_is_known_to_be_safe(contract, change, safe):
    found = differences(contract(), contract(**change))
    assert found
    assert all(difference.how is not None for difference in found) == safe


def test_a_rate_that_is_state_stays_as_it_is(contract):
    before = contract()
    (found,) = differences(before, {**before, "train.schedule": "reduce_lr_on_plateau"})
    assert found.why == "the rate of reduce_lr_on_plateau is a part of its state"


def test_every_key_of_the_spec_is_safe_or_refused_for_a_reason(contract):
    """A key that is new in the spec, and in neither list, is refused."""
    before = contract()
    for key, difference in ((key, differences(before, {**before, key: "other"})) for key in before if key != "data.rows_sha256"):
        assert [found.key for found in difference] == [key]
        assert (difference[0].how is None) != (difference[0].why is None)
    (unknown,) = differences(before, {**before, "train.new_setting": 1})
    assert unknown.line(told=True) == "  train.new_setting: null → 1  (not possible: nothing is known of going on with another one)"


def test_a_version_and_the_rows_are_part_of_it(contract):
    before = {**contract(), "data.rows_sha256": "a"}
    now = {**before, "versions.torch": "9.0", "data.rows_sha256": "b"}
    rows, torch = differences(before, now)
    assert (rows.key, rows.why) == ("data.rows_sha256", "the rows and their order are others: some would be trained twice, some never")
    assert (torch.key, torch.how) == ("versions.torch", "equal up to rounding")


def test_a_changed_spec_is_refused_by_name_and_nothing_is_touched(partial, contract, fault_of):
    before = {path: path.stat().st_mtime_ns for path in partial.rglob("*")}
    now = contract(train={"learning_rate": 1.0e-3, "epochs": 4})
    assert fault_of(resume.prepare, partial, now, change="refuse", total_steps=8) == (
        f"error SG445: the unfinished run in {partial} was begun with other settings\n"
        "  train.epochs: 3.0 → 4.0  (the schedule is counted over the new length)\n"
        "  train.learning_rate: 0.01 → 0.001  (from the next step on, along the schedule)\n"
        "  hint: --accept-change goes on from checkpoint-4 as said; --begin-anew keeps that run aside; --runs-dir DIR leaves it as it is"
    )
    assert {path: path.stat().st_mtime_ns for path in partial.rglob("*")} == before


@pytest.mark.parametrize("change", ["refuse", "accept"])
def test_another_model_is_refused_even_if_the_change_is_accepted(partial, contract, fault_of, change):
    now = contract(adapter={"lora": {"r": 8}}, train={"learning_rate": 1.0e-3})
    assert fault_of(resume.prepare, partial, now, change=change, total_steps=6) == (
        f"error SG446: the unfinished run in {partial} cannot go on with what has changed\n"
        "  adapter.lora.r: 4 → 8  (not possible: the weights so far have another form)\n"
        "  train.learning_rate: 0.01 → 0.001  (from the next step on, along the schedule)\n"
        "  hint: set it back; or --begin-anew keeps that run aside and starts over; or --runs-dir DIR leaves it as it is"
    )


def test_an_accepted_change_is_told_and_needs_no_second_word(partial, contract, capsys):
    now = contract(train={"learning_rate": 1.0e-3})
    resume.prepare(partial, now, change="accept", total_steps=6)
    assert capsys.readouterr().out == (
        "train    goes on with another train.learning_rate: 0.01 → 0.001  (from the next step on, along the schedule)\n"
    )
    resume.prepare(partial, now, change="refuse", total_steps=6)
    write_json(partial / "checkpoint-4" / "contract.json", contract())
    assert [difference.key for difference in resume.accepted(partial, partial / "checkpoint-4")] == ["train.learning_rate"]


def test_a_run_is_not_made_shorter_than_it_is(partial, contract, fault_of):
    now = contract(train={"epochs": 2})
    assert fault_of(resume.prepare, partial, now, change="accept", total_steps=4) == (
        f"error SG447: training would end at step 4, and the unfinished run in {partial} is at checkpoint-4 already\n"
        "  hint: train for longer, or --begin-anew"
    )


def test_beginning_anew_keeps_what_there_is(partial, contract, capsys):
    for number in (1, 2):
        (partial / "checkpoint-4").mkdir(parents=True, exist_ok=True)
        resume.prepare(partial, contract(adapter=None), change="anew", total_steps=6)
        aside = partial.with_name(f"train.unfinished-{number}")
        assert capsys.readouterr().out == f"train    begins anew; the unfinished run is kept in {aside}\n"
        assert (aside / "checkpoint-4").is_dir()
        assert [path.name for path in partial.iterdir()] == ["contract.json"]


def test_where_no_checkpoint_was_written_there_is_nothing_to_protect(partial, contract):
    (partial / "checkpoint-4").rmdir()
    (partial / "metrics.jsonl").write_text("")
    resume.prepare(partial, contract(adapter=None), change="refuse", total_steps=6)
    assert [path.name for path in partial.iterdir()] == ["contract.json"]


def test_checkpoints_without_a_contract_are_not_trusted(partial, contract, fault_of):
    (partial / "contract.json").write_text("{")
    assert fault_of(resume.prepare, partial, contract(), change="accept", total_steps=6) == (
        f"error SG446: the unfinished run in {partial} does not say what it was made from\n"
        "  hint: --begin-anew keeps it aside and starts over"
    )


def test_a_change_of_the_data_is_refused_before_the_data_are_made_anew(tmp_path, configured, carried_out, compiled, fault_of):
    from runtime.run import pipeline

    build = compiled(tmp_path / "one")
    run = carried_out(build, tmp_path / "runs", "data")
    config = configured(tmp_path / "one")
    (run / "train.partial" / "checkpoint-4").mkdir(parents=True)
    write_json(run / "train.partial" / "contract.json", contract_of(config, rows=pipeline._rows(run)))
    before = (run / "data" / "stage.json").stat().st_mtime_ns
    changed = replace(config, data=replace(config.data, max_length=64))
    text = fault_of(pipeline.run, changed, build=build, runs_dir=tmp_path / "runs", only=(), talk="")
    assert text.splitlines()[1] == (
        "  data.max_length: 128 → 64  (not possible: the rows and their order are others: some would be trained twice, some never)"
    )
    assert (run / "data" / "stage.json").stat().st_mtime_ns == before
