"""What is asked: the prompt once for every combination of the variables, `samples` times."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from conversations.row import digest
from conversations.rules import RowsOf, Writer
from conversations.variables import combinations, values_of
from runtime.config import LlmSource, TurnRule
from runtime.data.synthetic import plain_variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """`values` are the variables'; `sample` tells the same messages apart that are asked more than once."""

    values: dict[str, Any]
    messages: tuple[dict[str, str], ...]
    sample: int


def prompts_of(source: LlmSource, *, seed: int, rows_of: RowsOf) -> Iterator[Prompt]:
    """All prompts, in the order of their rows. Raises RunFault for a file that has changed since the spec was compiled."""
    values_by_name = values_of(plain_variables(source.variables), rows_of=rows_of)
    writer = writer_of(source.prompt, seed=seed)
    asked: Counter[int] = Counter()
    for values in combinations(values_by_name, combine=source.combine, sample=source.sample, seed=seed):
        messages = tuple(writer.write(values)["messages"])
        name = digest(json.dumps(messages, ensure_ascii=False))
        for _ in range(source.samples):
            yield Prompt(values=values, messages=messages, sample=asked[name])
            asked[name] += 1


def writer_of(turns: Sequence[TurnRule], *, seed: int) -> Writer:
    """What renders turns: of a prompt, a row or a judge's prompt."""
    return Writer([{"role": turn.role, "content": turn.content} for turn in turns], seed)


def derived_seed(messages: tuple[dict[str, str], ...], sample: int, attempt: int) -> int:
    """The seed that is sent, 31 bits. It comes from the prompt alone: another order of the prompts, more of them, or another
    train.seed asks nothing again."""
    text = json.dumps([messages, sample, attempt], ensure_ascii=False)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little") >> 1
