"""Several rows in one: best fit into packs of at most T tokens, the longest rows first. About 1 % of the room stays empty.

In a pack the position ids start again at each row, and the model gets no attention mask: transformers (5.23) sees the
restarts and lets no row attend to another, under sdpa, eager and flex_attention alike (measured: logits as of the rows alone
within 1e-4). An attention mask beside them, all ones even, turns that off, and so does a cache of keys: the model is called
with use_cache=False. The padding behind the last row of a batch's shorter packs is a row of its own.

flash_attention_2 looks for restarts only in a batch of one line: there the packs of a batch are put one after another, which
costs it nothing. The other attentions would pay for the square of that length.
"""

from __future__ import annotations

from collections.abc import Sequence


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Packs of indices of `lengths`, none over `room` tokens together; the same for the same lengths.

    The next row, longest first, goes where it leaves the least room, and into a new pack where it fits nowhere.
    """
    packs: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(room + 1)]  # room that is left → packs, newest last
    occupied = 0  # bit r: some pack has r tokens left
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        fitting = occupied >> length
        if fitting:
            left = length + (fitting & -fitting).bit_length() - 1
            pack = by_room[left].pop()
            if not by_room[left]:
                occupied &= ~(1 << left)
        else:
            left, pack = room, len(packs)
            packs.append([])
        packs[pack].append(index)
        by_room[left - length].append(pack)
        occupied |= 1 << (left - length)
    return sorted(sorted(pack) for pack in packs)


def fill(lengths: Sequence[int], packs: Sequence[Sequence[int]], room: int) -> float:
    """Tokens in the packs, as a share of all the room in them."""
    return sum(lengths) / (len(packs) * room)
