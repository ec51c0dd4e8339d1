"""runtime/training/sampling.py: rows of like length in a batch, in the same order whenever and wherever it is asked for."""

from __future__ import annotations

import random

import pytest
import torch

from runtime import config as configs
from runtime.data.dataset import load_rows
from runtime.models.adapter import read_adapter
from runtime.training.sampling import ByLength
from tests.runtime.runs import metrics

LENGTHS = random.Random(16).choices(range(8, 2049), k=2000)


def order(*, seed=16, epoch=0):
    sampler = ByLength(LENGTHS, 8, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def padding(indices):
    """Padding, as a share of all positions of batches of eight."""
    batches = [[LENGTHS[index] for index in indices[start : start + 8]] for start in range(0, len(indices), 8)]
    return 1 - sum(LENGTHS) / sum(max(batch) * len(batch) for batch in batches)


def test_every_row_comes_once_and_little_is_padding():
    assert sorted(order()) == list(range(2000))
    assert padding(order()) < 0.02
    assert padding(range(2000)) > 0.4


def test_the_longest_row_comes_first_so_that_memory_runs_out_at_once_or_never():
    assert LENGTHS[order()[0]] == max(LENGTHS)


def test_seed_and_epoch_alone_decide():
    first = order()
    torch.manual_seed(1)
    assert order() == first
    assert len({tuple(order(epoch=epoch)) for epoch in range(3)} | {tuple(order(seed=99))}) == 4


TEXTS = ["yes", "It is so, as I said.", "This is a longer sentence, as you asked for one.", "No.", "Well, who knows that?"]
SOURCES = [
    {
        "synthetic": {
            "variables": {"n": [1, 2, 3, 4], "text": TEXTS},
            "messages": [{"user": "Say {{ n }}: {{ text }}"}, {"assistant": "{{ text }}"}],
        }
    }
]


@pytest.fixture(scope="module")
def grouped(tmp_path_factory, compiled, carried_out):
    folder = tmp_path_factory.mktemp("grouped")
    train = {"epochs": 2, "batch_size": 4, "save_steps": 2, "group_by_length": True}
    build = compiled(folder, data={"sources": SOURCES, "validation": {"fraction": 0.1}}, train=train)
    return build, carried_out(build, folder / "runs", "data", "train")


def test_batches_of_a_run_hold_rows_of_like_length(grouped):
    _, run = grouped
    rows, _ = load_rows(run / "data")
    sampler = ByLength(rows.lengths, 4, seed=configs.load(grouped[0]).train.seed)
    wanted = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        indices = list(sampler)
        wanted += [sum(rows.lengths[index] for index in indices[start : start + 4]) for start in range(0, len(indices), 4)]
    steps = metrics(run)
    assert [step["tokens"] for step in steps] == wanted


def test_a_grouped_run_that_was_broken_off_ends_as_one_that_was_not(grouped, tmp_path, carried_out, broken_off):
    build, run = grouped
    broken_off(build, tmp_path, step=7)
    again = carried_out(build, tmp_path, "data", "train")
    unbroken, resumed = read_adapter(run / "train" / "final"), read_adapter(again / "train" / "final")
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
