"""How a chat looks: Markdown that grows in a terminal, plain text elsewhere. Letters that would steer a terminal are left out."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from runtime.faults import RunFault
from runtime.generation.generate import Answer

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """The text without control characters, which a terminal would obey, and without those that turn the direction of writing."""
    return STEERING.sub("", text)


class PlainView:
    """Pieces as they come, or with `streams` false the whole answer at its end."""

    def __init__(self, *, streams: bool) -> None:
        self.streams = streams

    def note(self, text: str) -> None:
        """A line on standard error."""
        print(f"note: {harmless(text)}", file=sys.stderr, flush=True)

    def fault(self, fault: RunFault) -> None:
        """The fault on standard error."""
        print(harmless(str(fault)), file=sys.stderr, flush=True)

    def begin(self) -> None:
        """Nothing is shown before an answer."""
        sys.stdout.flush()

    def piece(self, text: str) -> None:
        """The piece at once, where answers are streamed."""
        if self.streams:
            print(harmless(text), end="", flush=True)

    def end(self, answer: Answer) -> None:
        """The end of the line, or the whole answer."""
        print("" if self.streams else harmless(answer.text), flush=True)


class RichView:
    """Markdown in a terminal. While an answer comes its last lines are shown; at its end it stands there as a whole."""

    def __init__(self, console: Console, *, name: str, streams: bool) -> None:
        self.console, self.name, self.streams = console, name, streams
        self.text = ""
        self.live: Live | None = None

    def note(self, text: str) -> None:
        """A dim line."""
        self.console.print(harmless(text), style="dim", markup=False, highlight=False)

    def fault(self, fault: RunFault) -> None:
        """The fault in red."""
        self.console.print(harmless(str(fault)), style="red", markup=False, highlight=False)

    def begin(self) -> None:
        """The model's name, and below it what is written so far."""
        from rich.live import Live

        self.text = ""
        self.console.print(f"{harmless(self.name)}:", style="bold", markup=False, highlight=False)
        if self.streams:
            self.live = Live(console=self.console, transient=True, auto_refresh=False, vertical_overflow="crop")
            self.live.start()

    def piece(self, text: str) -> None:
        """The piece, in the last lines that fit the terminal."""
        self.text += harmless(text)
        if self.live is not None:
            self.live.update(_Tail(self.text), refresh=True)

    def end(self, answer: Answer) -> None:
        """The whole answer as Markdown in the place of what was shown of it."""
        from rich.markdown import Markdown

        if self.live is not None:
            self.live.stop()
            self.live = None
        self.console.print(Markdown(self.text if self.streams else harmless(answer.text)))


class _Tail:
    """The last lines of a Markdown text that a terminal has room for."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.markdown import Markdown
        from rich.segment import Segment

        lines = console.render_lines(Markdown(self.text), options.update(height=None), pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from line
            yield Segment.line()
