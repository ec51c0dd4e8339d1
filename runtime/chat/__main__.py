"""python -m runtime.chat BUILD | MODEL_DIR [flags]: a conversation with a model, in the terminal."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from runtime.faults import INTERRUPTED, exit_code_of
from runtime.starting import in_utf8, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.chat.session import Session, View
    from runtime.talking.answering import Answering
    from runtime.talking.talker import Talker


def main(words: list[str] | None = None) -> int:
    """The program: loads the model and talks until the input ends. Returns the exit code."""
    quiet()
    from runtime.talking.chat_flags import parser

    made = parser("python -m runtime.chat", "Talks to a model in the terminal.")
    made.add_argument("--no-streamer", action="store_true")
    made.add_argument("--lagent", action="store_true")
    made.add_argument("--command-stop-word")
    made.add_argument("--answer-stop-word")
    made.add_argument("--image", action="append", default=[])
    flags = made.parse_args(words)
    code = exit_code_of(lambda: chat(flags))
    if code == INTERRUPTED:
        print()  # the shell's next line is its own
    return code


def chat(flags: argparse.Namespace) -> int:
    """Reads questions until the end of input or /exit. Raises RunFault where there is no model."""
    from runtime.chat.images import found
    from runtime.chat.input import lines, prompts, readable
    from runtime.chat.session import Session
    from runtime.generation.generate import sees_nothing
    from runtime.talking.chat_flags import is_run, talker_of

    if flags.lagent:
        from runtime.chat.agents import refuse_lagent

        refuse_lagent()
    images = [found(text) for text in flags.image]  # a wrong one is told before a model is loaded
    talker = talker_of(flags)
    if images and not talker.sees:
        raise sees_nothing()
    view = _view(flags)
    if is_run(flags.target) and flags.adapter is None:
        _say_stale(flags, view)
    if not talker.has_turns:
        view.note("the model has no chat template: it continues each text for itself (--prompt-template names one)")
    session = Session(talker=talker, view=view, chat=talker.chat, answering=_answering(flags, talker), images=images)
    interactive = sys.stdin.isatty()
    if interactive:
        view.note(f"{talker.name} · Enter sends, Alt-Enter begins a line, /help shows the commands")
    texts = readable(prompts() if interactive else lines(), view.note)
    _talk(session, texts, interactive=interactive)
    return 0


def _talk(session: Session, texts: Iterator[str], *, interactive: bool) -> None:
    for text in texts:
        session.take(text)
        if session.over:
            return
    if interactive:
        print()


def _view(flags: argparse.Namespace) -> View:
    from runtime.chat.view import PlainView, RichView
    from runtime.talking.chat_flags import bot_name

    if not sys.stdout.isatty():
        return PlainView(streams=not flags.no_streamer)
    from rich.console import Console

    return RichView(Console(), name=bot_name(flags), streams=not flags.no_streamer)


def _answering(flags: argparse.Namespace, talker: Talker) -> Answering:
    """How answers are made: plainly, or with tools. Raises RunFault where the model cannot be told of tools."""
    from runtime.plugins import answering
    from runtime.talking.answering import Plainly

    return answering(talker, command_stop=flags.command_stop_word, answer_stop=flags.answer_stop_word) or Plainly()


def _say_stale(flags: argparse.Namespace, view: View) -> None:
    from runtime import config as configs
    from runtime.run.graph import stages
    from runtime.run.pipeline import known
    from runtime.stages import is_done, keys

    config = configs.load(flags.target)
    folder = flags.runs_dir / config.name
    config = known(config, flags.target, folder)
    if not is_done(folder, "merge", keys(stages(flags.target), config)["merge"]):
        view.note("the spec has changed since this model was made; specgen run brings it up to date")


if __name__ == "__main__":
    in_utf8("runtime.chat")
    sys.exit(main())
