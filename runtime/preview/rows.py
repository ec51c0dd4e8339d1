"""The rows that are shown: read from the sources one by one, and encoded as the data stage does."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from runtime.chat_template import Message
from runtime.config import Config, FileSource, HubSource, SyntheticSource
from runtime.data.formats import canonical, turns_of
from runtime.data.hub import name_of as hub_name
from runtime.data.hub import read_hub
from runtime.data.sources import _synthetic, messages_of
from runtime.faults import WRONG, RunFault
from runtime.model import load_tokenizer
from runtime.preview.lengths import Lengths, lengths_of
from runtime.preview.pieces import Piece, Token, pieces_of
from runtime.text_format import RowFormat, row_format

Source = SyntheticSource | FileSource | HubSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row of a source. `number` counts from 1; `place` is its file and line, where it has one."""

    number: int
    place: str | None
    messages: list[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A source, counted from 1, as messages call it."""

    number: int
    name: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An encoded row with where it comes from."""

    source: Named
    number: int
    place: str | None
    pieces: tuple[Piece, ...]

    @property
    def tokens(self) -> list[Token]:
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
    """Rows as pieces, by the config's tokenizer, template and masks."""

    def __init__(self, config: Config) -> None:
        self.config, self.tokenizer = config, load_tokenizer(config.model, config.template)
        tokenizer = self.tokenizer
        self.form: RowFormat = row_format(tokenizer, config.train.objective, system=config.data.system)
        added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.controls = frozenset(added | set(tokenizer.all_special_ids))

    @property
    def end_of_turn(self) -> tuple[int, str]:
        """Id and text of the token that ends an answer."""
        return self.form.end_of_turn, self.decode([self.form.end_of_turn])

    def tokens(self, found: Found, source: Named) -> list[Token]:
        """The tokens of a row. Raises RunFault that names the row where it cannot be encoded."""
        try:
            encoded = self.form.encode(self.form.with_system(found.messages))
        except RunFault as fault:
            raise RunFault(fault.code, f"{called(found, source)}: {fault.message}", fault.hint, exit_code=WRONG) from None
        return [Token(id=index, weight=float(trained)) for index, trained in zip(encoded.input_ids, encoded.trained, strict=True)]

    def shown(self, found: Found, source: Named) -> Shown:
        """A row with the text of its tokens."""
        pieces = pieces_of(self.tokens(found, source), self.decode, self.controls)
        return Shown(source=source, number=found.number, place=found.place, pieces=tuple(pieces))

    def decode(self, ids: list[int]) -> str:
        """Ids as text, control tokens too, with nothing tidied up."""
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


def named_sources(config: Config) -> list[Named]:
    """The sources in the order of the spec."""
    return [Named(number=number, name=_name(source), source=source) for number, source in enumerate(config.data.sources, start=1)]


def chosen(sources: Sequence[Named], wanted: str | None) -> list[Named]:
    """The sources with this name or number; all of them for None. Raises RunFault for one that is not there."""
    found = [source for source in sources if wanted in (None, source.name, str(source.number))]
    if found:
        return found
    names = [source.name for source in sources]
    close = get_close_matches(str(wanted), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "; ".join(f"{source.number}: {source.name}" for source in sources)
    raise RunFault("SG491", f"there is no source {wanted!r}; the spec has {_counted(len(sources), 'source')}", hint, exit_code=WRONG)


def picked(sources: Sequence[Named], *, first: int, count: int, seed: int, strict: bool) -> Iterator[tuple[Named, Found]]:
    """`count` rows of each source from row `first` on. Reads no further than that.

    Raises RunFault where no source has that many rows; with `strict`, where one has not.
    """
    missing = []
    for source in sources:
        ahead, read = rows_of(source, seed=seed), 0
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


def rows_of(named: Named, *, seed: int) -> Iterator[Found]:
    """The rows of a source in its own order, each once: before limit, weight and share. Raises RunFault for a row without its format."""
    source = named.source
    if isinstance(source, SyntheticSource):
        for number, row in enumerate(_synthetic(source), start=1):
            yield Found(number=number, place=None, messages=messages_of(row))
    elif isinstance(source, HubSource):
        for number, row in enumerate(read_hub(source), start=1):
            yield Found(number=number, place=None, messages=messages_of(row))
    else:
        yield from _rows_of_files(named, source)


def _rows_of_files(named: Named, source: FileSource) -> Iterator[Found]:
    number = 0
    for file in source.files:
        try:
            with Path(file.path).open(encoding="utf-8-sig") as stream:
                for line_number, line in enumerate(stream, start=1):
                    if line.strip():
                        number += 1
                        turns, problems = turns_of(json.loads(line), source.format)
                        place = f"{file.path}:{line_number}"
                        if problems:
                            raise RunFault("SG492", f"{place}: {'; '.join(problems)}", exit_code=WRONG)
                        yield Found(number=number, place=place, messages=messages_of(canonical(turns)))
        except OSError as error:
            hint = f"paths start at the working folder, {Path.cwd()}"
            raise RunFault("SG205", f"{file.path} cannot be read: {error.strerror}", hint, exit_code=WRONG) from None


def measured(encoder: Encoder, sources: Sequence[Named], most: int) -> Lengths:
    """Lengths of the first `most` rows of each source. Raises RunFault where there is none."""
    lengths: list[int] = []
    whole = True
    for source in sources:
        for found in rows_of(source, seed=encoder.config.train.seed):
            if found.number > most:
                whole = False
                break
            lengths.append(len(encoder.tokens(found, source)))
    if not lengths:
        raise RunFault("SG491", "there are no rows", exit_code=WRONG)
    return lengths_of(lengths, max_length=encoder.config.data.max_length, whole=whole)


def called(found: Found, source: Named) -> str:
    """How a message calls a row."""
    return found.place or f"row {found.number} of {source.name}"


def _name(source: Source) -> str:
    if isinstance(source, FileSource):
        return ", ".join(file.path for file in source.files)
    if isinstance(source, HubSource):
        return hub_name(source)
    variables = " x ".join(f"{name} ({len(values)})" for name, values in source.variables.items())
    return f"synthetic: {variables}" if variables else "synthetic"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
