"""The rows that are shown, encoded as the data stage does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from conversations.row import Conversation, conversation_of
from runtime.config import Config
from runtime.data.lengths import fit, learns, policy_of
from runtime.faults import WRONG, RunFault
from runtime.models.model import load_tokenizer
from runtime.preview.lengths import Lengths, lengths_of
from runtime.preview.pieces import Piece, Token, pieces_of, with_whole_images
from runtime.preview.read import Found, Named, rows_of
from runtime.tokens.chat_template import Encoded
from runtime.tokens.text_format import RowFormat, row_format
from runtime.vision.form import SeeingFormat

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An encoded row with where it comes from. A row that is unrolled or split has several `parts`; `note` says what max_length
    did to it."""

    source: Named
    number: int
    place: str | None
    part: int
    parts: int
    note: str | None
    pieces: tuple[Piece, ...]

    @property
    def tokens(self) -> list[Token]:
        """All tokens of the row, in order."""
        return [token for piece in self.pieces for token in piece.tokens]

    @property
    def trained(self) -> int:
        """Trained tokens."""
        return sum(token.trained for token in self.tokens)

    @property
    def text(self) -> str:
        """The row as the model sees it."""
        return "".join(piece.text for piece in self.pieces)


class Encoder:
    """Rows as pieces, by the config's tokenizer, template and masks. `left_out` says what is wrong with the rows that a run drops, by what
    they are called."""

    def __init__(self, config: Config) -> None:
        self.config, self.tokenizer = config, load_tokenizer(config.model, config.template)
        tokenizer = self.tokenizer
        self.form: RowFormat = row_format(tokenizer, config, system=config.data.system)
        self.policy = policy_of(config)
        added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.controls = frozenset(added | set(tokenizer.all_special_ids))
        self.drops = config.data.on_bad_row == "drop"
        self.left_out: dict[str, str] = {}

    @property
    def end_of_turn(self) -> tuple[int | None, str]:
        """Id and text of the token that ends an answer; None where a text of several tokens does."""
        return self.form.end_of_turn, self.form.end_text

    @property
    def note(self) -> str | None:
        """How many of the rows that were asked for are none of a run's, and why the first is not; None where all are."""
        if not self.left_out:
            return None
        return f"{_counted(len(self.left_out), 'row')} left out, as data.on_bad_row says; the first: {next(iter(self.left_out.values()))}"

    def shown(self, found: Found, source: Named) -> list[Shown]:
        """What is made of a row, mostly itself; nothing of one that a run drops. Raises RunFault that names the row where it cannot be
        encoded and ends a run."""
        made = self._made(found, self._fitted)
        return [
            Shown(
                source=source,
                number=found.number,
                place=found.place,
                part=part,
                parts=len(made),
                pieces=tuple(self.pieces(_tokens(encoded))),
                note=note,
            )
            for part, (encoded, note) in enumerate(made, start=1)
        ]

    def pieces(self, tokens: Sequence[Token]) -> list[Piece]:
        """Tokens with their text; all tokens of an image are one piece."""
        pieces = pieces_of(tokens, self.decode, self.controls)
        if isinstance(self.form, SeeingFormat):
            return with_whole_images(pieces, token=self.form.image_token, number=self.form.image_tokens)
        return pieces

    def lengths(self, source: Named, most: int) -> list[int]:
        """Tokens of what the first `most` rows of a source are before any is cut, without those that a run drops."""
        made = (self._made(found, lambda found, part: [len(self._encode(found, part).input_ids)]) for found in rows_of(source))
        return [length for lengths in itertools.islice(filter(None, made), most) for length in lengths]

    def _made(self, found: Found, make: Callable[[Found, Conversation], list[Made]]) -> list[Made]:
        """What is made of a row, or of each of the conversations that it is unrolled to."""
        try:
            return [made for conversation in self.form.rows(conversation_of(found.row)) for made in make(found, conversation)]
        except RunFault as fault:
            if not self.drops:
                raise
            self.left_out[found.called] = fault.message
            return []

    def _encode(self, found: Found, conversation: Conversation) -> Encoded:
        try:
            return self.form.encode_row(conversation)
        except RunFault as fault:
            raise RunFault(fault.code, f"{found.called}: {fault.message}", fault.hint, exit_code=WRONG) from None

    def _fitted(self, found: Found, conversation: Conversation) -> list[tuple[Encoded, str | None]]:
        """What data.overlong makes of a row; one that is left out, or ends a run, as it is."""
        encoded = self._encode(found, conversation)
        if not learns(encoded):
            return [(encoded, f"nothing of it is trained: {'the row is left out' if self.drops else 'a run stops here'}")]
        fitted = fit(conversation, encoded, self.policy, lambda part: self._encode(found, part))
        long = f"{len(encoded.input_ids):,} tokens are more than max_length"
        if fitted.is_too_long or fitted.is_dropped:
            return [(encoded, f"{long}: {'a run stops here' if fitted.is_too_long else 'the row is left out'}")]
        note = f"{long}: {'parted' if fitted.is_split else 'shortened'}" if fitted.is_split or fitted.is_truncated else None
        return [(row, note) for row in fitted.rows]

    def decode(self, ids: list[int]) -> str:
        """Ids as text, control tokens too, with nothing tidied up."""
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


def _tokens(encoded: Encoded) -> list[Token]:
    weights = encoded.weights or [float(trained) for trained in encoded.trained]
    return [Token(id=index, weight=weight) for index, weight in zip(encoded.input_ids, weights, strict=True)]


def chosen(sources: Sequence[Named], wanted: str | None) -> list[Named]:
    """The sources with this name or number; all of them for None. Raises RunFault for one that is not there."""
    found = [source for source in sources if wanted in (None, source.name, str(source.number))]
    if found:
        return found
    names = [source.name for source in sources]
    close = get_close_matches(str(wanted), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "; ".join(f"{source.number}: {source.name}" for source in sources)
    raise RunFault("SG491", f"there is no source {wanted!r}; the spec has {_counted(len(sources), 'source')}", hint, exit_code=WRONG)


def picked(sources: Sequence[Named], *, first: int, count: int, strict: bool) -> Iterator[tuple[Named, Found]]:
    """`count` rows of each source from row `first` on. Reads no further than that.

    Raises RunFault where no source has that many rows; with `strict`, where one has not.
    """
    missing = []
    for source in sources:
        ahead, read = rows_of(source), 0
        for found in itertools.islice(ahead, first - 1 + count):
            read = found.number
            if read >= first:
                yield source, found
        if read < first:
            missing.append((source, read))
    if missing and (strict or len(missing) == len(sources)):
        source, there = max(missing, key=lambda entry: entry[1])
        if there == 0:
            raise RunFault("SG491", f"{source.name} has no rows", exit_code=WRONG)
        hint = f"rows are counted from 1: --row 1 to --row {there}"
        raise RunFault("SG491", f"{source.name} has {_counted(there, 'row')}; there is no row {first}", hint, exit_code=WRONG)


def measured(encoder: Encoder, sources: Sequence[Named], most: int) -> Lengths:
    """Lengths of the first `most` rows of each source. Raises RunFault where there is none."""
    found = lengths_of([encoder.lengths(source, most) for source in sources], most=most, max_length=encoder.config.data.max_length)
    if found is None:
        raise RunFault("SG491", "there are no rows", exit_code=WRONG)
    return found


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
