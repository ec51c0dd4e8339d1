"""What the rows at hand have in common: worked out once from their tables, for all checks that ask it."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from conversations.row import Row, messages_of
from specgen.diagnostics import printable
from specgen.facts.rowtable import MOST_DIALOGUES, RowTable

EXAMPLE_CHARACTERS = 60

Counted = tuple[RowTable, "array[int]"]  # the rows of a source, and how often each is in the data set


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """Rows that have something in common, with repetitions, and how the first of them begins."""

    rows: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """`rows` and `distinct` count all rows at hand, `held_rows` and `held_distinct` those held out of training, `trained_rows` the rest.

    `traits` by the name of what is common. `dialogues` are the first rows in which the assistant speaks more than once.
    `answers` has what the rows answer to each question of the smoke test and the previews, `alike` what they ask instead that
    differs in case and punctuation only. `usual_answer` is the share of rows that end with the answer of most of them, and how many
    prompts it has; nothing where no answer has half of the rows. `duplicates` and `overlap` are as runtime/data/figures.py has
    them; None without training rows or validation.
    """

    rows: int
    distinct: int
    held_rows: int
    held_distinct: int
    trained_rows: int
    traits: dict[str, Trait]
    dialogues: tuple[Row, ...]
    answers: dict[str, tuple[str, ...]]
    alike: dict[str, str]
    usual_answer: tuple[float, int]
    duplicates: float | None
    overlap: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The rows of eval.sources: how many there are, how many of them are trained on, and of how many the prompt is."""

    rows: int
    trained: int
    prompts: int


NOT_TESTED = Tested(rows=0, trained=0, prompts=0)


def survey(sources: Sequence[Counted], held: Collection[int], validation: Sequence[Counted], *, asked: Sequence[str]) -> Survey:
    """Of the rows of `sources`, `held` are the digests of those that are not trained on. `validation` are sources of its own."""
    rows, distinct = _numbers(sources)
    own, own_distinct = _numbers(validation)
    kept_from_training, _ = _numbers(sources, only=held) if held else (0, 0)
    trained = rows - kept_from_training
    distinct_trained = distinct - len(held) if not validation else len(_digests(sources, without=held))
    held_rows = own if validation else kept_from_training
    return Survey(
        rows=rows,
        distinct=distinct,
        held_rows=held_rows,
        held_distinct=own_distinct if validation else len(held),
        trained_rows=trained,
        traits=_traits(sources),
        dialogues=tuple(row for table, _ in sources for row in table.dialogues)[:MOST_DIALOGUES],
        answers=_answers(sources, asked),
        alike={question: text for table, _ in sources for question, text in table.alike.items() if not _told(sources, question)},
        usual_answer=_usual_answer(sources, rows),
        duplicates=1 - distinct_trained / trained if trained else None,
        overlap=_overlap(sources, held, validation) / held_rows if held_rows else None,
    )


def _numbers(sources: Sequence[Counted], only: Collection[int] | None = None) -> tuple[int, int]:
    """Rows and distinct rows, of all or of some digests."""
    if only is None:
        return sum(sum(counts) for _, counts in sources), len(_digests(sources))
    return sum(count for digest, count in _counted(sources) if digest in only), len(only)


def _digests(sources: Sequence[Counted], without: Collection[int] = ()) -> set[int]:
    return {digest for digest, count in _counted(sources) if count and digest not in without}


def _counted(sources: Sequence[Counted]) -> Iterator[tuple[int, int]]:
    for table, counts in sources:
        yield from zip(table.digests, counts, strict=True)


def tested(sources: Sequence[Counted], held: Collection[int], asked: Sequence[Counted]) -> Tested:
    """Holds the rows that are asked against those that are trained on, which are the sources' without those held out."""
    if not asked:
        return NOT_TESTED
    rows: set[int] = set()
    prompts: set[int] = set()
    for table, counts in sources:
        for digest, prompt, count in zip(table.digests, table.prompts, counts, strict=True):
            if count and digest not in held:
                rows.add(digest)
                prompts.add(prompt)
    lines = [line for table, counts in asked for line in zip(table.digests, table.prompts, counts, strict=True)]
    return Tested(
        rows=sum(count for _, _, count in lines),
        trained=sum(count for digest, _, count in lines if digest in rows),
        prompts=sum(count for _, prompt, count in lines if prompt in prompts),
    )


def _traits(sources: Sequence[Counted]) -> dict[str, Trait]:
    found: dict[str, Trait] = {}
    for table, counts in sources:
        for kind, example in table.examples.items():
            rows = sum(counts[index] for index in table.with_trait(kind))
            before = found.get(kind)
            if rows or before:
                found[kind] = Trait(rows=rows + (before.rows if before else 0), example=before.example if before else beginning(example))
    return found


def _overlap(sources: Sequence[Counted], held: Collection[int], validation: Sequence[Counted]) -> int:
    """Held rows whose prompt is trained on, too."""
    trained: set[int] = set()
    for table, counts in sources:
        lines = zip(table.digests, table.prompts, counts, strict=True)
        trained.update(prompt for digest, prompt, count in lines if count and digest not in held)
    shared = 0
    for table, counts in validation or sources:
        lines = zip(table.digests, table.prompts, counts, strict=True)
        shared += sum(count for digest, prompt, count in lines if prompt in trained and (validation or digest in held))
    return shared


def _usual_answer(sources: Sequence[Counted], rows: int) -> tuple[float, int]:
    """The answer of more than half of the rows: by the vote of Boyer and Moore (1981), which keeps one candidate only."""
    candidate, votes = 0, 0
    for table, counts in sources:
        for answer, count in zip(table.answers, counts, strict=True):
            if answer == candidate:
                votes += count
            elif count > votes:
                candidate, votes = answer, count - votes
            else:
                votes -= count
    prompts: set[int] = set()
    with_it = 0
    for table, counts in sources:
        for answer, prompt, count in zip(table.answers, table.prompts, counts, strict=True):
            if answer == candidate and count:
                with_it += count
                prompts.add(prompt)
    return (with_it / rows, len(prompts)) if 2 * with_it > rows else (0.0, 0)


def _answers(sources: Sequence[Counted], asked: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {question: tuple(dict.fromkeys(_told(sources, question))) for question in asked}


def _told(sources: Sequence[Counted], question: str) -> list[str]:
    return [answer for table, _ in sources for answer in table.told.get(question, ())]


def beginning(row: Row) -> str:
    """How a row begins, on one line."""
    text = printable(" / ".join(f"{message['role']}: {message['content']}" for message in messages_of(row)))
    return text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"
