"""Figures of the data set: what depends on them, and the limits that they have to keep to."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, replace

import pytest

from specgen.compiler import compile_tree
from specgen.diagnostics import SpecError
from specgen.facts.figures import DataFigures, data_key, figures_of
from specgen.source import parse
from tests.conftest import SMALL

FIGURES = DataFigures(
    rows=100,
    train_rows=80,
    validation_rows=10,
    examples=20,
    tokens=4000,
    trained_tokens=1000,
    median=48,
    p90=60,
    p99=64,
    longest=64,
    dropped=10,
    truncated=0,
    duplicates=0.25,
    overlap=0.1,
    near_duplicates=3,
    split=5,
    histogram=(0, 1, 4, 16, 32, 20, 6, 1),
)


def compiled(*settings, figures=FIGURES):
    return compile_tree(parse(SMALL, "small.yaml"), None, settings, figures=figures)


def test_packs_are_counted_once_the_figures_are_known():
    settings = ("data.packing=true", "train.batch_size=4", "train.epochs=3", "data.limits={dropped: 1}")
    unknown = compiled(*settings, figures=None).plan
    assert (unknown.data.examples, unknown.train.total_steps, unknown.train.warmup_steps) == (None, None, None)
    assert unknown.train.warmup_ratio == 0.03
    known = compiled(*settings).plan
    assert (known.data.examples, known.train.total_steps, known.train.warmup_steps) == (20, 15, 1)
    assert known.train.warmup_ratio is None


def test_max_steps_needs_no_figures():
    plan = compiled("data.packing=true", "train.max_steps=7", figures=None).plan
    assert (plan.train.total_steps, plan.train.steps_per_epoch, plan.train.warmup_steps) == (7, None, 1)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ("{}", "10.0% of the rows would be dropped; data.limits.dropped allows 0.0%"),
        ("{dropped: 1, duplicates: 0.2}", "25.0% of the training rows repeat another one; data.limits.duplicates allows 20.0%"),
        (
            "{dropped: 1, overlap: 0}",
            "10.0% of the validation rows have a prompt that is trained on, too; data.limits.overlap allows 0.0%",
        ),
        ("{dropped: 1, trained: 0.5}", "25.0% of the tokens are trained; data.limits.trained asks for 50.0%"),
    ],
)
def test_a_limit_that_is_not_kept_is_an_error(limits, message):
    with pytest.raises(SpecError) as raised:
        compiled(f"data.limits={limits}")
    assert [(fault.code, fault.message) for fault in raised.value.diagnostics if fault.severity == "error"] == [("SG234", message)]


def test_limits_that_are_kept_say_nothing():
    assert not [fault for fault in compiled("data.limits={dropped: 0.1, trained: 0.25}").diagnostics if fault.code == "SG234"]


def test_the_plan_shows_how_long_rows_are():
    settings = ("data.overlong=split", "data.near_duplicates={}", "data.limits={dropped: 1}")
    plan = compiled(*settings).files["plan.md"]
    assert "| length of a row | median 48, 90 % within 60, 99 % within 64, longest 64 |" in plan
    assert "| rows by length, in eighths of the longest | ·▁▁▄█▅▂▁ |" in plan
    assert "| parted into several | 5 rows |" in plan
    assert "| near duplicates left out | 3 rows |" in plan


def test_figures_of_an_older_lock_lack_what_was_not_counted_then():
    known = {name: value for name, value in asdict(FIGURES).items() if name not in ("near_duplicates", "split", "histogram")}
    assert figures_of(known) == replace(FIGURES, near_duplicates=0, split=0, histogram=())


def test_a_histogram_of_no_numbers_is_refused():
    with pytest.raises(TypeError, match="histogram is \\['a'\\]"):
        figures_of(asdict(FIGURES) | {"histogram": ["a"]})


def test_figures_survive_a_round_trip():
    assert figures_of(asdict(FIGURES) | {"something": "else"}) == FIGURES
    with pytest.raises(KeyError):
        figures_of({})
    with pytest.raises(TypeError):
        figures_of(asdict(FIGURES) | {"tokens": "many"})


def test_the_key_changes_with_what_the_figures_depend_on(compiled_with):
    plan = compiled_with().plan
    assert data_key(compiled_with("train.learning_rate=1e-5", "adapter.lora.r=4").plan) == data_key(plan)
    for setting in ("data.max_length=64", "data.packing=true", "template=chatml", "train.seed=1", "data.system=Be kind."):
        assert data_key(compiled_with(setting).plan) != data_key(plan)
    assert data_key(replace(plan, name="other")) == data_key(plan)


def test_a_plan_without_pytorch_leaves_unknown_what_only_tokens_tell(cli, small, tmp_path, monkeypatch):
    (tmp_path / "small.yaml").write_text(small)
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "torch" else found(name, *more))
    ran = cli("plan", "small.yaml")
    assert ran.code == 0
    assert "warning SG311: counting tokens, running and chatting need PyTorch, which is not installed\n" in ran.err
    assert "| optimizer steps | 3 (" in ran.out and "| tokens |" not in ran.out
    measured = cli("plan", "small.yaml", "--measure")
    assert measured.code == 2
    assert "error SG311" in measured.err
