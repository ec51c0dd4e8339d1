"""specgen chat --web: the flags of the page, and the program that serves it."""

from __future__ import annotations

from typing import Any

import click

WEB = (
    click.option("--web", is_flag=True, help="In the browser: serve a page instead. Needs specgen[web]."),
    click.option("--host", metavar="HOST", help="Where the page listens; default 127.0.0.1, this machine alone. Elsewhere it has a token."),
    click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="The page's port; default 8501. 0: any that is free."),
)
ONLY_WEB = ("host", "port")
ONLY_TERMINAL = ("image", "no_streamer", "lagent", "command_stop_word", "answer_stop_word")


def program(*, web: bool, flags: dict[str, Any]) -> str:
    """The module that talks. Raises UsageError where flags belong to the other one."""
    for name in ONLY_TERMINAL if web else ONLY_WEB:
        value = flags.get(name)
        if not (value is None or value is False or value == ()):  # 0 is a value: it equals False
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} is of the chat in the terminal: leave out --web" if web else f"{flag} belongs to --web")
    return "runtime.web" if web else "runtime.chat"
