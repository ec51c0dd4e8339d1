"""A command in a terminal, and what it leaves on the screen."""

from __future__ import annotations

import html
import os
import pty
import subprocess
import termios
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyte

COLUMNS, LINES = 148, 40
# how a dark terminal shows the colours that have names; pyte calls yellow brown
COLOURS = {
    "default": "#d5dae3",
    "black": "#4b5263",
    "red": "#f0717b",
    "green": "#8fd48b",
    "brown": "#e8c07d",
    "blue": "#6fb3f2",
    "magenta": "#c99bf0",
    "cyan": "#5fc7c9",
    "white": "#e6e9ef",
}


def screen_of(words: Sequence[str], *, shown_as: str, folder: Path) -> pyte.Screen:
    """Runs a command in a terminal, under the prompt that it is typed at. Returns the last screen.

    Raises CalledProcessError where the command fails.
    """
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    stream.feed(f"\x1b[1m$ {shown_as}\x1b[0m\r\n".encode())
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (LINES, COLUMNS))
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(words, cwd=folder, env=environment, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    for said in _output(leader):
        stream.feed(said)
    os.close(leader)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, words, output="\n".join(screen.display))
    return screen


def _output(leader: int) -> Iterator[bytes]:
    """What is written to a terminal until nobody has it open any more: Linux then tells an error."""
    while True:
        try:
            yield os.read(leader, 65536)
        except OSError:
            return


def text_of(screen: pyte.Screen) -> str:
    """What can be read on a screen."""
    return "\n".join(line.rstrip() for line in screen.display).rstrip() + "\n"


def html_of(screen: pyte.Screen) -> str:
    """The same in its colours."""
    return "\n".join(_line(screen.buffer[row], len(line.rstrip())) for row, line in enumerate(screen.display)).rstrip()


def _line(cells: Any, columns: int) -> str:
    parts = groupby((cells[column] for column in range(columns)), key=lambda cell: (cell.fg, cell.bold))
    return "".join(_span("".join(cell.data for cell in part), *style) for style, part in parts)


def _span(text: str, colour: str, is_bold: bool) -> str:
    if not text.strip():
        return text
    shown = COLOURS.get(colour.removeprefix("bright"), f"#{colour}")
    return f'<span style="color: {shown}{"; font-weight: bold" if is_bold else ""}">{html.escape(text)}</span>'
