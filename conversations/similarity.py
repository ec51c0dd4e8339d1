"""How alike two texts are: ROUGE-L (Lin, 2004), the F1 of their longest common subsequence of words.

A word is a run of letters and digits, without case; a character of a script that is written without spaces (Chinese, Japanese, Thai
and their like) is a word of its own. For English text this is rouge-score without its stemmer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

UNSPACED = (
    r"\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"  # kana, and what stands among them
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
)
WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


def words(text: str) -> list[str]:
    """The words of a text."""
    return WORD.findall(text.lower())


def rouge_l(answer: str, expected: str) -> float:
    """From 0, no word in common, to 1, the same words in the same order. 0 where one of the two has no word."""
    said, wanted = words(answer), words(expected)
    common = longest_common(said, wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def nearest(answer: str, expected: Iterable[str]) -> float:
    """The likeness to the nearest of several texts."""
    return max((rouge_l(answer, text) for text in expected), default=0.0)


def longest_common(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table at a time as the bits of a number (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for index, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << index
    whole = (1 << len(left)) - 1
    row = whole
    for word in right:
        met = row & places.get(word, 0)
        row = (row + met | row - met) & whole
    return len(left) - row.bit_count()
