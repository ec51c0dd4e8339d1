"""What the user writes: in a terminal with history and several lines, else line by line."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings

PROMPT = "› "
HALF = re.compile("[\ud800-\udfff]")  # half a surrogate pair: what Python makes of a byte that is not UTF-8


def lines() -> Iterator[str]:
    """The lines of standard input. A byte that is not UTF-8 is half a surrogate pair in them, whatever the environment says."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    for line in sys.stdin:
        yield line.rstrip("\r\n")


def readable(texts: Iterable[str], note: Callable[[str], None]) -> Iterator[str]:
    """Texts that a tokenizer reads: what is not UTF-8 becomes U+FFFD, which is told once."""
    told = False
    for text in texts:
        whole, number = HALF.subn("\N{REPLACEMENT CHARACTER}", text)
        if number and not told:
            note("the input is not all UTF-8: each byte that is not is taken as \N{REPLACEMENT CHARACTER}")
            told = True
        yield whole


def prompts() -> Iterator[str]:
    """What is typed, until Ctrl-D, or Ctrl-C twice: that is KeyboardInterrupt."""
    session = prompt_session(history_in(state_folder()))
    pressed = False
    while True:
        try:
            text = session.prompt(PROMPT)
        except EOFError:
            return
        except KeyboardInterrupt:
            if pressed:
                raise
            pressed = True
            print("Ctrl-C once more ends; so do /exit and Ctrl-D", flush=True)
            continue
        pressed = False
        yield text


def prompt_session(history: History, **ends: Any) -> PromptSession[str]:
    """A prompt where Enter sends, and Alt-Enter, or Esc and then Enter, begins a line. Pasted lines stay lines. `ends` are for tests."""
    from prompt_toolkit import PromptSession

    return PromptSession(history=history, multiline=True, key_bindings=_keys(), prompt_continuation="  ", **ends)


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def state_folder() -> Path:
    """Where programs keep what they remember, by the XDG rules."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "specgen"


def history_in(folder: Path) -> History:
    """What was typed before, in a file that only its owner may read; in memory where none can be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    file = folder / "chat_history"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
        file.chmod(0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))
