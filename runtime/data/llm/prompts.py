"""What is asked: the prompt once for every combination of the variables, `samples` times."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from conversations.row import digest
from runtime.config import LlmSource
from runtime.data.llm.texts import turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """`values` are the variables'; `sample` tells the same messages apart that are asked more than once."""

    values: dict[str, Any]
    messages: tuple[dict[str, str], ...]
    sample: int


def prompts_of(source: LlmSource, *, seed: int) -> Iterator[Prompt]:
    """All prompts, in the order of their rows."""
    render = turns(source.prompt)
    asked: Counter[int] = Counter()
    for values in _combinations(source, seed=seed):
        messages = tuple(render(values))
        name = digest(json.dumps(messages, ensure_ascii=False))
        for _ in range(source.samples):
            yield Prompt(values=values, messages=messages, sample=asked[name])
            asked[name] += 1


def derived_seed(messages: tuple[dict[str, str], ...], sample: int, attempt: int) -> int:
    """The seed that is sent, 31 bits. It comes from the prompt alone: another order of the prompts, more of them, or another
    train.seed asks nothing again."""
    text = json.dumps([messages, sample, attempt], ensure_ascii=False)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little") >> 1


def _combinations(source: LlmSource, *, seed: int) -> Iterator[dict[str, Any]]:
    assert source.sample is None and all(isinstance(values, tuple) for values in source.variables.values()), "not made yet"
    lists = [values for values in source.variables.values() if isinstance(values, tuple)]
    together = itertools.product(*lists) if source.combine == "product" else zip(*lists, strict=True)
    for values in together:
        yield dict(zip(source.variables, values, strict=True))
