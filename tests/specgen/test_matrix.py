"""schemas/support.yaml: which settings work together, and the nearest combination that does."""

from __future__ import annotations

import itertools

import pytest

from docsite import support as support_page
from specgen.rules.matrix import FIXED, gpu_of, matrix, nearest
from specgen.schema import lookup

PLAIN = support_page.PLAIN
CONFLICTS = pytest.mark.parametrize("conflict", matrix().conflicts, ids=lambda conflict: f"{conflict.code}-{'-'.join(conflict.when)}")


def combinations_of(conflict):
    """Every combination of the values that a conflict names, on an otherwise plain spec."""
    for values in itertools.product(*conflict.when.values()):
        combination = {**PLAIN, **dict(zip(conflict.when, values, strict=True))}
        if combination["compute_dtype"] != "none" or combination["quantization"] == "nf4":
            compute_dtype = combination["compute_dtype"] if combination["compute_dtype"] != "none" else "bfloat16"
            combination |= {"quantization": "nf4", "compute_dtype": compute_dtype}
        yield combination


def errors_in(combination):
    return [conflict for conflict in matrix().conflicts if conflict.severity == "error" and conflict.holds(combination)]


def test_a_plain_combination_has_no_conflict():
    assert not [conflict for conflict in matrix().conflicts if conflict.holds(PLAIN)]


@pytest.mark.parametrize("name", matrix().axes)
def test_an_axis_is_a_key_of_the_spec_and_knows_its_values(name):
    axis = matrix().axes[name]
    schema = lookup(axis.key)
    assert schema is not None
    if "enum" in schema and name != "compute_dtype":
        assert set(axis.values) == set(schema["enum"])


@CONFLICTS
def test_a_conflict_names_values_that_there_are(conflict):
    for axis, values in conflict.when.items():
        assert set(values) <= set(matrix().axes[axis].values)
    assert conflict.message.format(**PLAIN, compute_capability=7.5)
    assert conflict.why.endswith(".")


@CONFLICTS
def test_what_is_offered_instead_has_no_conflict(conflict):
    for combination in combinations_of(conflict):
        ways = nearest(combination, conflict)
        assert ways or all(axis in FIXED for axis in conflict.when)
        for changes in ways:
            after = {**combination, **changes}
            if "quantization" in changes:
                after["compute_dtype"] = "bfloat16" if changes["quantization"] == "nf4" else "none"
            assert not conflict.holds(after)
            assert not errors_in(after)
            assert not FIXED & changes.keys()


def test_two_settings_change_where_one_is_not_enough():
    combination = {**PLAIN, "zero_stage": 3, "offload": "all", "quantization": "nf4", "compute_dtype": "bfloat16"}
    (conflict,) = errors_in(combination)
    assert nearest(combination, conflict) == [{"quantization": "none"}]
    combination |= {"adapter": "full"}
    assert {"quantization": "none"} in nearest(combination, conflict)


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        (None, "unknown"),
        (6.1, "pascal"),
        (7.0, "volta"),
        (7.5, "turing"),
        (8.6, "ampere"),
        (9.0, "hopper"),
        (10.0, "blackwell"),
        (12.0, "blackwell"),
    ],
)
def test_a_gpu_is_told_by_its_compute_capability(capability, name):
    assert gpu_of(capability) == name


def test_the_page_of_the_matrix_is_fresh(root):
    assert (root / "docs/reference/support.md").read_text(encoding="utf-8") == support_page.page()
