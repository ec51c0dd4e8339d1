"""The rows of eval.sources: what is asked of each, and what is expected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from conversations.mixing import counts
from conversations.row import Conversation, canonical, digest
from runtime.config import Config, FileSource, Source, SyntheticSource
from runtime.data.chosen import often_of
from runtime.data.parts import parts_of
from runtime.data.synthetic import rules_of
from runtime.faults import WRONG, RunFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A row without its last answer, which is what is expected."""

    conversation: Conversation
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The rows, and the questions among them. `trained` of them are in data.sources, too; None where the compiler has looked."""

    rows: list[Conversation] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    trained: int | None = None

    def told(self) -> Iterator[str]:
        """What has to be said of them."""
        if self.rows:
            without = len(self.rows) - len(self.questions)
            yield f"{len(self.rows):,} rows" + (f", {without:,} of them without an answer at the end" if without else "")
        if self.trained:
            yield f"warning SG690: {self.trained:,} of these rows are in data.sources, too: what they show is what was learned by heart"


def asked_rows(config: Config) -> Asked:
    """The rows of the spec's sources, after weight, share and limit. Raises RunFault where none is left."""
    plan, seed = config.eval, config.train.seed
    assert plan is not None
    found = [_rows(source, config) for source in plan.sources]
    often, _ = often_of(plan.sources, [len(rows) for rows in found], seed)
    rows = [row for row, count in zip((row for rows in found for row in rows), often, strict=True) for _ in range(count)]
    if plan.limit is not None and plan.limit < len(rows):
        chosen = counts(len(rows), plan.limit, seed, plan.limit)
        rows = [row for row, count in zip(rows, chosen, strict=True) if count]
    if not rows:
        raise RunFault("SG698", "eval.sources have no row that can be asked", "give it rows", exit_code=WRONG)
    return Asked(rows=rows, questions=[question for row in rows if (question := question_of(row))], trained=_trained(config, rows))


def question_of(row: Conversation) -> Question | None:
    """What a row asks; None where its last turn is no answer, or nothing stands before it."""
    messages = row.get("messages", [])
    if len(messages) < 2 or messages[-1]["role"] != "assistant" or not isinstance(messages[-1]["content"], str):
        return None
    return Question(conversation={**row, "messages": messages[:-1]}, expected=messages[-1]["content"])


def _rows(source: Source, config: Config) -> list[Conversation]:
    drop = config.data.on_bad_row == "drop"
    assert config.eval is not None
    rules = rules_of(config.data, seed=config.train.seed, more=config.eval.sources)
    parts = parts_of(source, 0, seed=config.train.seed, rows_of=rules, drop=drop)
    return [row for part in parts for _, row in part if not isinstance(row, list)]


def _trained(config: Config, rows: list[Conversation]) -> int | None:
    """How many rows training has, too. The compiler knows where all are at hand, and refuses it there."""
    assert config.eval is not None
    if all(isinstance(source, FileSource | SyntheticSource) for source in (*config.data.sources, *config.eval.sources)):
        return None
    seen = {digest(canonical(row)) for source in config.data.sources for row in _rows(source, config)}
    return sum(digest(canonical(row)) in seen for row in rows)
