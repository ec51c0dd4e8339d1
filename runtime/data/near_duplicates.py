"""data.near_duplicates: rows that say nearly the same as an earlier one are left out.

Two rows are compared as sets of five words in sequence, by MinHash with 128 functions: the similarity (Jaccard) that it estimates
is within 0.07 of the true one for 19 rows of 20. System texts are no part of it: many rows share one. datasketch finds the rows
to compare; the first stays.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from conversations.row import Conversation
from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Sketch = NDArray[np.uint32]

WORDS = 5
FUNCTIONS = 128
SURE = 0.1  # less than the threshold, so that the search misses none; what it finds is then compared

# a word; in scripts that put no spaces between words, a character
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0e7f"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def groups_of_words(conversation: Conversation) -> set[bytes]:
    """All groups of five words in sequence, small letters, without punctuation; of a shorter row all its words."""
    words = _WORD.findall(_text_of(conversation).lower())
    return {" ".join(words[start : start + WORDS]).encode() for start in range(max(1, len(words) - WORDS + 1))}


def _text_of(conversation: Conversation) -> str:
    if "messages" not in conversation:
        return str(conversation["text"])
    parts: list[str] = []
    for message in conversation["messages"]:
        if message["role"] != "system":
            calls = json.dumps(message["tool_calls"], ensure_ascii=False) if "tool_calls" in message else ""
            parts += [message.get("reasoning_content", ""), message["content"], calls]
    return "\n".join(parts)


class NearDuplicates:
    """The rows seen so far: about 10 KiB of memory for each that stays, and 8,000 a second.

    Raises RunFault where datasketch is not installed.
    """

    def __init__(self, threshold: float) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            hint = "pip install 'specgen[dedup]', or leave data.near_duplicates out"
            raise RunFault("SG493", "data.near_duplicates needs datasketch, which is not installed", hint, exit_code=WRONG) from None
        self.threshold = threshold
        self._empty = MinHash(num_perm=FUNCTIONS)
        self._index = MinHashLSH(threshold=max(SURE, threshold - SURE), num_perm=FUNCTIONS)
        self._kept: list[Sketch] = []

    def is_new(self, conversation: Conversation) -> bool:
        """Whether no earlier row that stays is nearly the same. Then this one stays."""
        sketch = self._empty.copy()
        sketch.update_batch(groups_of_words(conversation))
        hashes: Sketch = sketch.hashvalues
        if any((self._kept[row] == hashes).mean() >= self.threshold for row in self._index.query(sketch)):
            return False
        self._index.insert(len(self._kept), sketch, check_duplication=False)
        self._kept.append(hashes)
        return True
