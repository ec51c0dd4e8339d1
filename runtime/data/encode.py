"""A part of a source → ids and masks in flat arrays, in this process or in another one. Needs numpy and tokenizers, not PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conversations.row import Conversation, canonical, digest, parted
from runtime.console import one_line
from runtime.data.lengths import MOST_SHOWN, Fitted, Long, Policy, fit
from runtime.data.near_duplicates import FUNCTIONS, Sketch
from runtime.data.parts import Part
from runtime.faults import RunFault
from runtime.tokens.chat_template import Rendered, Tokens, as_encoded, as_tokens
from runtime.tokens.text_format import RowFormat
from runtime.vision.pictures import BadPicture, Picture, called, checked

Kind = tuple[str, str, str | None]  # code, message and hint of a fault


@dataclass(slots=True)
class Tokenized:
    """The rows of a part. `lengths` are those of the examples that they became, `examples` [R] how many each row became; the
    first three are flat. `digests` and `prompts` [R] tell rows, and what comes before their last answers, apart; the latter may be
    left out. `sketches` [R, F] tell how alike rows are, where that is asked for. `pictures` are those of all examples in order,
    `seen` [E] how many each has."""

    source: int
    input_ids: NDArray[np.int32]
    trained: NDArray[np.uint8]
    weights: NDArray[np.float32] | None
    lengths: NDArray[np.int32]
    examples: NDArray[np.int32]
    digests: NDArray[np.uint64]
    prompts: NDArray[np.uint64]
    sketches: Sketch | None
    told: Told
    pictures: list[Picture]
    seen: NDArray[np.int32]


@dataclass(slots=True)
class Told:
    """What is to be told of rows: bad ones, which are no rows; those that no example came of, by fault, with their places; too long
    ones by digest; and which rows, by number in their part, were left out by the policy of lengths, shortened, or parted."""

    bad: int = 0
    faults: dict[Kind, Faulty] = field(default_factory=dict)
    long: dict[int, Long] = field(default_factory=dict)
    unfit: set[int] = field(default_factory=set)
    truncated: set[int] = field(default_factory=set)
    split: set[int] = field(default_factory=set)
    exchanges: int = 0


@dataclass(slots=True)
class Faulty:
    """How many rows have a fault, and the first of them."""

    rows: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, rows: int, first: list[str]) -> None:
        """More rows with the fault; only so many of the first are kept."""
        self.rows += rows
        self.first += first[: MOST_SHOWN - len(self.first)]


class Encoder:
    """Turns parts into arrays; `prompts` are of use only beside validation."""

    def __init__(self, form: RowFormat, policy: Policy, sketch: Callable[[Conversation], Sketch] | None, *, prompts: bool) -> None:
        self.form, self.policy, self.sketch, self.prompts = form, policy, sketch, prompts

    def __call__(self, part: Part) -> Tokenized:
        """All rows of a part. A row with a fault becomes no example, and is told."""
        told = Told()
        digests: list[int] = []
        prompts: list[int] = []
        examples: list[int] = []
        sketches: list[Sketch] = []
        rendered: list[tuple[int, str, Conversation, Rendered]] = []
        known: dict[str, Picture] = {}
        for number, conversation in part:
            if isinstance(conversation, list):
                told.bad += 1
                continue
            row = canonical(conversation)
            index, place = len(digests), f"{part.name}:{number}"
            digests.append(digest(row))
            if self.prompts:
                prompts.append(digest(parted(row)[0] + "".join(conversation.get("images", ()))))
            examples.append(0)
            if self.sketch is not None:
                sketches.append(self.sketch(conversation))
            try:
                known |= {image: checked(image) for image in conversation.get("images", ()) if image not in known}
                rendered += [(index, place, example, self.form.rendered_row(example)) for example in self.form.rows(conversation)]
            except RunFault as fault:
                _tell(told, fault, place, conversation)
        rows: list[Tokens] = []
        for index, place, conversation, encoding, text in self._encodings(rendered):
            try:
                tokens = self.form.tokens_of(text, encoding)
                _require_trained(tokens)
            except RunFault as fault:
                _tell(told, fault, place, conversation)
                continue
            found = [tokens]
            if len(tokens.ids) > self.policy.max_length:
                found = self._fitted(tokens, conversation, index, digests[index], told)
            examples[index] += len(found)
            rows += found
        in_part = {index for index in told.unfit if examples[index]}  # unrolled, one of its answers was too far back
        told.unfit -= in_part
        told.truncated |= in_part
        pictures = [known[image.source] for row in rows for image in row.images]
        return Tokenized(
            part.source,
            *_flat(rows),
            np.array(examples, dtype=np.int32),
            np.array(digests, dtype=np.uint64),
            np.array(prompts, dtype=np.uint64),
            None if self.sketch is None else np.array(sketches, dtype=np.uint32).reshape(-1, FUNCTIONS),
            told,
            pictures,
            np.array([len(row.images) for row in rows], dtype=np.int32),
        )

    def _encodings(self, rendered: list[tuple[int, str, Conversation, Rendered]]) -> Iterator[Any]:
        """The rows with their encodings, all made at once; None for those that need care."""
        texts = [row.text for _, _, _, row in rendered if row.plain]
        encodings = iter(self.form.encode_batch(texts) if texts else ())
        for index, place, conversation, row in rendered:
            yield index, place, conversation, next(encodings) if row.plain else None, row

    def _fitted(self, tokens: Tokens, conversation: Conversation, index: int, row: int, told: Told) -> list[Tokens]:
        fitted: Fitted = fit(conversation, as_encoded(tokens), self.policy, self.form.encode_row)
        if fitted.is_too_long:
            told.long[row] = Long(tokens=len(tokens.ids), beginning=beginning(conversation))
            return []
        for is_so, told_of in ((fitted.is_dropped, told.unfit), (fitted.is_truncated, told.truncated), (fitted.is_split, told.split)):
            if is_so:
                told_of.add(index)
        told.exchanges += fitted.exchanges
        return [as_tokens(row) for row in fitted.rows]


def _require_trained(tokens: Tokens) -> None:
    """Raises RunFault for a row without a trained token that another one precedes: nothing predicts the first."""
    if not any(weight and end > max(start, 1) for start, end, weight in tokens.answers):
        raise RunFault("SG426", "a row has no trained token", "its answer is empty once rendered, or no answer is to be trained")


def _tell(told: Told, fault: RunFault, place: str, conversation: Conversation) -> None:
    kind = (fault.code, fault.message, fault.hint)
    what = called(fault.name) if isinstance(fault, BadPicture) else beginning(conversation)
    told.faults.setdefault(kind, Faulty()).add(1, [f"{place}: {what}"])


def beginning(conversation: Conversation) -> str:
    """How a row begins, on one line."""
    if "messages" not in conversation:
        return one_line(f"text: {conversation['text']}", 80)
    return one_line(" / ".join(f"{message['role']}: {message['content']}" for message in conversation["messages"]), 80)


def _flat(rows: list[Tokens]) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.float32] | None, NDArray[np.int32]]:
    """Ids, trained flags, weights if any is another than 1, and lengths."""
    lengths = np.array([len(row.ids) for row in rows], dtype=np.int32)
    total = int(lengths.sum())
    input_ids = np.fromiter(chain.from_iterable([row.ids for row in rows]), dtype=np.int32, count=total)
    trained = np.zeros(total, dtype=np.uint8)
    weights: NDArray[np.float32] | None = None
    begin = 0
    for row in rows:
        for start, end, weight in row.answers:
            if weight:
                trained[begin + start : begin + end] = 1
                if weight != 1 and weights is None:
                    weights = np.zeros(0, dtype=np.float32)
        begin += len(row.ids)
    if weights is not None:
        weights, begin = trained.astype(np.float32), 0
        for row in rows:
            for start, end, weight in row.answers:
                weights[begin + start : begin + end] = weight
            begin += len(row.ids)
    return input_ids, trained, weights, lengths
