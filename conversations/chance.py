"""Choices by the seed: the same on every machine and in every version of Python.

Two sources of numbers have that property. `random.Random(seed).random()` is MT19937, and Python promises that the same integer
seed goes on giving the same numbers; of its other methods it promises nothing, so that they are not used here. And BLAKE2b of a
text, for choices that must not depend on what else is chosen.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, MutableSequence, Sequence
from random import Random
from typing import Any

from conversations.row import digest

DENSE = 8  # a dict takes about eight times the memory of an array for each number it holds
WORD_BITS = 32
FINE_BITS = 32  # so many bits more than the number has: no choice is likelier than another by more than 2**-32


def first_shuffled(number: int, first: int, seed: int) -> Sequence[int]:
    """The first ones of 0 … number - 1, shuffled. Fewer of them are the beginning of more of them.

    Durstenfeld's shuffle (Algorithm 235, CACM 7, 1964), stopped after `first` swaps. Takes 8 bytes for each number, or where
    few of many are asked for about 100 bytes for each of those: `number` may have any size.
    """
    assert 0 <= first <= number, (first, number)
    below = _below(seed)
    if number <= DENSE * first:
        order = array("Q", range(number))
        _swap(order, first, below)
        return order[:first]
    moved: dict[int, int] = {}  # place → the number that stands there, where that is not its own
    chosen = []
    for place in range(first):
        other = place + below(number - place)
        chosen.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return chosen


def _swap(order: MutableSequence[int], first: int, below: Callable[[int], int]) -> None:
    number = len(order)
    for place in range(first):
        other = place + below(number - place)
        order[place], order[other] = order[other], order[place]


def _below(seed: int) -> Callable[[int], int]:
    random = Random(seed).random  # noqa: S311  (chance, not secrecy)

    def below(number: int) -> int:
        """A number from 0 to number - 1."""
        if number < 1 << 21:  # random() has 53 bits
            return int(random() * number)
        words = -(-(number.bit_length() + FINE_BITS) // WORD_BITS)
        bits = 0
        for _ in range(words):
            bits = bits << WORD_BITS | int(random() * (1 << WORD_BITS))
        return bits * number >> words * WORD_BITS

    return below


def chosen_text(texts: Sequence[str], key: str) -> int:
    """The place of the one text that `key` chooses. A text more in the list changes the choice only where that text itself is
    chosen: the smallest digest wins (rendezvous hashing, Thaler and Ravishankar, 1996)."""
    return min(range(len(texts)), key=lambda place: (digest(f"{key}:{texts[place]}"), place))


class Chance:
    """choice() and shuffle() of templates. What they give depends on `key` and on how many numbers were drawn since it was set."""

    def __init__(self) -> None:
        self.begin("")

    def begin(self, key: str) -> None:
        """What is drawn from here on depends on this key alone."""
        self._key, self._drawn = key, 0

    def choice(self, values: Sequence[Any]) -> Any:
        """One of the values; what is in the list twice is chosen twice as often. Raises ValueError where there are none."""
        values = list(values)
        if not values:
            raise ValueError("choice() of an empty list")
        return values[self._below(len(values))]

    def shuffle(self, values: Sequence[Any]) -> list[Any]:
        """The values in another order."""
        values = list(values)
        _swap(values, len(values), self._below)
        return values

    def _below(self, number: int) -> int:
        self._drawn += 1
        return digest(f"{self._key}:{self._drawn}") * number >> 64
