"""runtime/training/schedule.py: the compiler's arithmetic again, and numbers that only the data can tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runtime import config as configs
from runtime.faults import RunFault
from runtime.run import pipeline
from runtime.stages import read_stage
from runtime.training.schedule import settled, steps_of
from specgen.compiler import checked
from specgen.schedule import schedule, world_size
from specgen.source import parse
from tests.runtime.runs import metrics

WORDS = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
TWO_LENGTHS = [
    {"synthetic": {"variables": {"n": [1, 2, 3, 4]}, "messages": [{"user": "Count {{ n }}."}, {"assistant": "{{ n }}"}]}},
    {"synthetic": {"variables": {"n": [1, 2]}, "messages": [{"user": "Spell {{ n }}."}, {"assistant": WORDS}]}},
]
DROPPING = {"sources": TWO_LENGTHS, "max_length": 50, "overlong": "drop", "limits": {"dropped": 0.5}}


@pytest.fixture(scope="module")
def train_config(tmp_path_factory, configured):
    return configured(tmp_path_factory.mktemp("config")).train


@settings(max_examples=150, deadline=None)
@given(
    examples=st.integers(1, 5000),
    micro=st.integers(1, 16),
    accumulation=st.integers(1, 8),
    nodes=st.integers(1, 3),
    processes=st.integers(1, 8),
    epochs=st.floats(0.01, 20),
    max_steps=st.none() | st.integers(1, 1000),
    warmup=st.integers(0, 50) | st.floats(0, 1),
)
def test_the_steps_are_the_compilers(train_config, examples, micro, accumulation, nodes, processes, epochs, max_steps, warmup):
    length = {"epochs": epochs} if max_steps is None else {"max_steps": max_steps}
    key = "warmup_steps" if isinstance(warmup, int) else "warmup_ratio"
    batch = {"batch_size": micro * accumulation * nodes * processes, "micro_batch_size": micro}
    spec = {"specgen": 1, "name": "a", "model": {"base": "hf:a/b"}, "data": {"sources": TWO_LENGTHS}}
    spec |= {"train": {**batch, **length, key: warmup}, "distributed": {"nodes": nodes, "processes_per_node": processes}}
    tree = checked(parse(yaml.safe_dump(spec), "spec.yaml"))
    wanted = schedule(tree, examples)
    train = replace(
        train_config,
        epochs=epochs if max_steps is None else None,
        max_steps=max_steps,
        micro_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        warmup_steps=warmup if isinstance(warmup, int) else None,
        warmup_ratio=warmup if isinstance(warmup, float) else None,
    )
    found = steps_of(train, examples=examples, processes=world_size(tree))
    assert (found.per_epoch, found.total, found.warmup) == (wanted.steps_per_epoch, wanted.total_steps, wanted.warmup_steps)


@given(ratio=st.floats(0, 1, exclude_max=True), total=st.integers(1, 10_000))
def test_a_warm_up_by_share_leaves_a_step_at_the_full_rate(train_config, ratio, total):
    assume(ratio < 1)
    train = replace(train_config, epochs=None, max_steps=total, warmup_steps=None, warmup_ratio=ratio)
    assert steps_of(train, examples=1, processes=1).warmup < total


def test_dropped_rows_shorten_the_run(tmp_path, compiled, carried_out):
    build = compiled(tmp_path, data=DROPPING, train={"epochs": 2, "batch_size": 2})
    written = configs.load(build)
    assert (written.data.examples, written.train.total_steps) == (None, None)
    run = carried_out(build, tmp_path, "data", "train")
    steps = metrics(run)
    assert len(steps) == read_stage(run, "train")["summary"]["steps"] == 4  # 4 of 6 rows are left, 2 a step, twice
    known = pipeline.known(written, build, run)
    assert (known.data.examples, known.train.total_steps, known.train.steps_per_epoch) == (4, 4, 2)
    assert (known.train.warmup_steps, known.train.warmup_ratio) == (0, None)  # the tiny spec's own warmup_steps


def test_a_run_is_up_to_date_whether_the_numbers_are_known_or_not(tmp_path, compiled, carried_out, capsys):
    """A lock brings the numbers later: nothing has changed by that."""
    build = compiled(tmp_path, data=DROPPING, train={"epochs": 1})
    carried_out(build, tmp_path, "data", "train")
    written = yaml.safe_load((build / "config.yaml").read_text())
    written["data"]["examples"] = 4
    written["train"] |= {"steps_per_epoch": 2, "total_steps": 2}
    (build / "config.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    capsys.readouterr()
    carried_out(build, tmp_path, "data", "train")
    assert capsys.readouterr().out == "data     up to date\ntrain    up to date\n"


def test_other_numbers_than_the_compiled_ones_are_refused(tmp_path, compiled, fault_of):
    build = compiled(tmp_path, data=DROPPING)
    config = configs.load(build)
    locked = replace(config, data=replace(config.data, examples=5), train=replace(config.train, steps_per_epoch=3, total_steps=9))
    options = {"build": build, "runs_dir": tmp_path, "only": ("data",), "talk": ""}
    text = (
        "error SG428: the compiled config and the data differ\n"
        "  data.examples is 5, and the run finds 4\n"
        "  train.steps_per_epoch is 3, and the run finds 2\n"
        "  train.total_steps is 9, and the run finds 6\n"
        "  hint: compile the spec again; where a lock says it, update the lock"
    )
    assert fault_of(pipeline.run, locked, **options) == text
    assert fault_of(pipeline.run, locked, **options) == text  # the data is up to date now, and still another


def test_rows_of_a_source_are_held_against_the_compiled_ones(tmp_path, configured):
    config = configured(tmp_path, data={"sources": TWO_LENGTHS, "max_length": 128})
    figures = {"examples": 7, "rows": 7, "train_rows": 7, "by_source": [4, 3]}
    with pytest.raises(RunFault, match=r"data\.sources\[1\]\.rows is 2, and the run finds 3"):
        settled(config, figures)
