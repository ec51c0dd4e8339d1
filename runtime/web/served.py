"""What the server process has once, and every page of it uses."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.web.answering import Answering
from runtime.web.conversation import Visitors
from runtime.web.models import Models


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The models, loaded before the first page; the answers that are being made; the conversations."""

    models: Models
    answering: Answering = field(default_factory=Answering)
    visitors: Visitors = field(default_factory=Visitors)


_served: list[Served] = []


def serve(what: Served) -> None:
    """Says what pages of this process show."""
    _served[:] = [what]


def served() -> Served:
    """What this process serves."""
    assert _served, "pages are shown by python -m runtime.web"
    return _served[0]
