"""What a lock file says, as frozen dataclasses; the order of the fields is the order in the file.

Where a field holds one of several classes, the mapping in the file has one key, the class's TAG.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from specgen.plan import DataFile

Part = Literal["base", "tokenizer", "template", "data", "libraries"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """A file of the base model, by its name below the model's folder."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedBase:
    """`source` is model.base as the spec has it; `revision` the commit on the hub, or the version of the package.

    `files` are all that a run reads but the tokenizer's; `config` holds what config.json says about weights.
    """

    source: str
    revision: str | None
    files: tuple[LockedFile, ...]
    config: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedTokenizer:
    """`sha256` is of the files together, or of the tokenizer inside a GGUF file; null where the base model has none."""

    sha256: str | None
    files: tuple[LockedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedTemplate:
    """The chat template that trains and serves: its name in the spec and its text."""

    name: str
    sha256: str | None
    jinja: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedDataFiles:
    """A source of data files."""

    TAG: ClassVar[str] = "file"
    files: tuple[DataFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedRows:
    """A source of generated rows, with repetitions."""

    TAG: ClassVar[str] = "synthetic"
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedHubData:
    """A data set on the hub: what the spec asks for, and the commit that this was. `rows` null: the hub does not say."""

    TAG: ClassVar[str] = "hub"
    repo: str
    asked: str | None
    revision: str
    subset: str | None
    split: str
    rows: int | None


LockedSource = LockedDataFiles | LockedRows | LockedHubData


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """`libraries` are those of a run that were installed. `figures` are the data stage's, where they have been measured. `tower` is
    model.vision.tower, `validation` and `eval` are sources of their own; none is in the file where the spec has none.
    """

    lock: Literal[1]
    name: str
    base: LockedBase
    tokenizer: LockedTokenizer
    template: LockedTemplate
    data: tuple[LockedSource, ...]
    libraries: dict[str, str]
    figures: dict[str, Any] | None
    tower: LockedBase | None = None
    validation: tuple[LockedSource, ...] = ()
    eval: tuple[LockedSource, ...] = ()

    @property
    def source_lists(self) -> tuple[tuple[LockedSource, ...], ...]:
        """The sources of training, those of validation, and those of the evaluation."""
        return self.data, self.validation, self.eval
