"""What data.limits holds to, in words that the compiler and the runtime share."""

from __future__ import annotations

import pytest

from conversations.limits import MOST, over, under
from specgen.schema import lookup


def test_every_limit_of_the_spec_has_its_words():
    assert {*MOST, "trained"} == set(lookup("data.limits")["properties"])


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "dropped",
            "10.0% of the rows would be dropped; data.limits.dropped allows 1.0%",
            "raise data.max_length, mend rows that are broken, or raise data.limits.dropped",
        ),
        (
            "truncated",
            "10.0% of the rows would be truncated; data.limits.truncated allows 1.0%",
            "raise data.max_length, or data.limits.truncated",
        ),
    ],
)
def test_a_share_over_its_limit_is_told_with_both(name, message, hint):
    assert over(name, 0.1, 0.01) == (message, hint)


def test_too_few_trained_tokens_are_told_with_both():
    assert under(0.1, 0.5)[0] == "10.0% of the tokens are trained; data.limits.trained asks for 50.0%"
