"""The support matrix is what was run: what compiles trains, and what does not train is refused before anything starts.

Complaint 23 of peers' users: QLoRA under ZeRO-3 dies when the model is wrapped, or every process holds all of it.
"""

from __future__ import annotations

import math

import pytest

from docsite import support as support_page
from tests.support.rows import METHODS, STEPS, Row, codes_of, rows
from tests.support.training import read_measured, train_all

PLAIN = {"quantization": "none", "zero_stage": 0, "offload": "none", "packing": False}
SOME = [Row(method="dora", **PLAIN | {"quantization": "nf4", "packing": True})]  # ZeRO is in tests/e2e, all of them are slow


@pytest.fixture(scope="module")
def codes():
    """Every combination, and the codes that the compiler refuses it with."""
    return {row: codes_of(row) for row in rows()}


def expected_codes(row):
    """Why a combination is refused, told once more and in other words than schemas/support.yaml."""
    if (row.offload == "optimizer" and row.zero_stage == 0) or (row.offload == "all" and row.zero_stage < 3):
        yield "SG261"  # ZeRO moves what it shares out: optimizer state from stage 1 on, weights in stage 3
    if row.quantization != "none" and row.zero_stage == 3:
        yield "SG262"  # packed weights are not shared out
    if row.quantization != "none" and row.method == "full":
        yield "SG243"  # integers have no gradient
    if row.quantization == "int8" and row.method == "dora":
        yield "SG623"  # fails in the first step on a CPU


def test_each_combination_that_cannot_be_is_refused_with_its_codes(codes):
    assert codes == {row: tuple(sorted(expected_codes(row))) for row in rows()}
    assert len(codes) == len(METHODS) * 3 * 4 * 3 * 2


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_complaint_23_qlora_under_zero_3_is_refused_before_anything_is_wrapped(codes, method, quantization, packing):
    row = Row(method=method, **PLAIN | {"quantization": quantization, "zero_stage": 3, "packing": packing})
    assert "SG262" in codes[row]


def require_trained(outcomes):
    """Every combination took its steps, and the loss fell: each step sees all rows, so it does where the gradient is right."""
    errors = {row.name: outcome["error"] for row, outcome in outcomes.items() if "error" in outcome}
    assert not errors
    for row, outcome in outcomes.items():
        losses = outcome["losses"]
        assert len(losses) == STEPS, row.name
        assert all(map(math.isfinite, losses)), (row.name, losses)
        assert losses[-1] < losses[0] < 2.5, (row.name, losses)


@pytest.mark.e2e
def test_some_combinations_take_their_steps_and_their_loss_falls(tmp_path):
    require_trained(train_all(SOME, tmp_path))


@pytest.mark.e2e
@pytest.mark.slow
def test_every_combination_that_compiles_trains(codes, tmp_path):
    require_trained(train_all([row for row, refused in codes.items() if not refused], tmp_path))


def test_what_is_committed_as_measured_was_trained_and_compiles(codes):
    measured = read_measured()
    require_trained(measured)
    assert measured.keys() == {row for row, refused in codes.items() if not refused}


def test_the_page_says_yes_of_exactly_what_was_run_with_packed_rows_and_without():
    """docs/reference/support.md is made of these cells: tests/specgen/test_matrix.py."""
    labels = [(row.method, row.quantization, row.zero_stage, row.offload) for row in read_measured()]
    assert {label for label, cell in support_page.run_cells().items() if cell == "yes"} == {
        label for label in labels if labels.count(label) == 2
    }
