"""The models behind the page: loaded once for everybody who visits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime import config as configs
from runtime.arithmetic import for_answers
from runtime.models.model import base_device, load_model, load_tokenizer
from runtime.talking.talker import Talker
from runtime.tokens.text_format import row_format
from runtime.vision.looking import eyes_of
from runtime.web.conversation import Said, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A model that is asked, and where its answer goes; `base`: without its adapter."""

    said: Said
    talker: Callable[[], Talker]
    base: bool


class Models:
    """The model that is talked to, and the base model beside it: the same without its adapter, or another that is loaded when it is
    asked for the first time."""

    def __init__(self, talker: Talker, load_base: Callable[[], Talker] | None) -> None:
        self.talker = talker
        self._load_base = load_base
        self._base: Talker | None = None
        self._lock = threading.Lock()

    @property
    def comparable(self) -> bool:
        """Whether there is a base model to compare with."""
        return self.talker.has_adapter or self._load_base is not None

    def sides(self, turn: Turn, *, beside: bool) -> list[Side]:
        """Whom a turn asks: the model, and the base model if it is wanted `beside`, which gives the turn a second answer."""
        sides = [Side(said=turn.answer, talker=lambda: self.talker, base=False)]
        if beside and self.comparable:
            turn.base = Said()
            sides.append(Side(said=turn.base, talker=self.base, base=self.talker.has_adapter))
        return sides

    def base(self) -> Talker:
        """What answers for the base model."""
        if self.talker.has_adapter:
            return self.talker
        assert self._load_base is not None
        with self._lock:
            if self._base is None:
                self._base = self._load_base()
            return self._base


def base_of_run(build: Path) -> Talker:
    """The base model of a compiled folder as it was before training, quantized if it was trained so, with the same settings."""
    config = configs.load(build)
    tokenizer = load_tokenizer(config.model, config.template)
    model = for_answers(load_model(config.model, device=base_device(config.model, "auto")))
    form = row_format(tokenizer, config, system=None)
    name = f"base of {config.name}"
    return Talker(name=name, model=model, tokenizer=tokenizer, form=form, chat=config.chat, eyes=eyes_of(config))
