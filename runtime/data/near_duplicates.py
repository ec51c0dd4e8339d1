"""data.near_duplicates: rows that say nearly the same as an earlier one are left out.

Two rows are compared as sets of five words in sequence, by MinHash with 128 functions: the similarity (Jaccard) that it estimates
is within 0.07 of the true one for 19 rows of 20. System texts are no part of it: many rows share one. datasketch finds the rows
to compare; the first stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conversations.row import Conversation
from conversations.similarity import words as words_of
from runtime.faults import WRONG, RunFault

Sketch = NDArray[np.uint32]

WORDS = 5
FUNCTIONS = 128
SURE = 0.1  # less than the threshold, so that the search misses none; what it finds is then compared


def groups_of_words(conversation: Conversation) -> set[bytes]:
    """All groups of five words in sequence, small letters, without punctuation; of a shorter row all its words. What is said of other
    images is something else."""
    words = words_of(_text_of(conversation))
    said_of = "".join(f"\0{image}" for image in conversation.get("images", ()))
    return {(" ".join(words[start : start + WORDS]) + said_of).encode() for start in range(max(1, len(words) - WORDS + 1))}


def _text_of(conversation: Conversation) -> str:
    if "messages" not in conversation:
        return str(conversation["text"])
    parts: list[str] = []
    for message in conversation["messages"]:
        if message["role"] != "system":
            calls = json.dumps(message["tool_calls"], ensure_ascii=False) if "tool_calls" in message else ""
            parts += [message.get("reasoning_content", ""), message["content"], calls]
    return "\n".join(parts)


def sketcher() -> Callable[[Conversation], Sketch]:
    """What tells rows apart: conversation → uint32 [F]. Raises RunFault where datasketch is not installed."""
    empty = _minhash()(num_perm=FUNCTIONS)

    def sketch(conversation: Conversation) -> Sketch:
        found = empty.copy()
        found.update_batch(groups_of_words(conversation))
        values: Sketch = found.hashvalues
        return values

    return sketch


def repeats(sketches_RF: Sketch, counts_R: NDArray[np.bool_], threshold: float) -> NDArray[np.bool_]:
    """Which of the rows that count is nearly the same as an earlier one that stays, bool [R]. About 10 KiB of memory for each
    that stays, and 10,000 rows a second."""
    from datasketch import MinHashLSH

    minhash = _minhash()
    permutations = minhash(num_perm=FUNCTIONS).permutations
    index = MinHashLSH(threshold=max(SURE, threshold - SURE), num_perm=FUNCTIONS)
    repeats_R = np.zeros(len(counts_R), dtype=bool)
    for row in np.flatnonzero(counts_R).tolist():
        sketch = minhash(hashvalues=sketches_RF[row], permutations=permutations, scheme="affine32")
        if any((sketches_RF[earlier] == sketches_RF[row]).mean() >= threshold for earlier in index.query(sketch)):
            repeats_R[row] = True
        else:
            index.insert(row, sketch, check_duplication=False)
    return repeats_R


def _minhash() -> Any:
    try:
        from datasketch import MinHash
    except ImportError:
        hint = "pip install 'specgen[dedup]', or leave data.near_duplicates out"
        raise RunFault("SG493", "data.near_duplicates needs datasketch, which is not installed", hint, exit_code=WRONG) from None
    return MinHash
