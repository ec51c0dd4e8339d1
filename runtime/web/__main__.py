"""python -m runtime.web BUILD | MODEL_DIR [flags]: a conversation with a model, in the browser."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from functools import partial

from runtime.faults import WRONG, RunFault, exit_code_of
from runtime.starting import in_utf8, leave, quiet


def main(words: list[str] | None = None) -> int:
    """The program: serves the page. Returns the exit code."""
    quiet()
    flags = _flags(words)
    return exit_code_of(lambda: serve_page(flags))


def serve_page(flags: argparse.Namespace) -> int:
    """Loads the model, then serves the page until it is interrupted. Raises RunFault, where it can before the model is loaded."""
    from runtime.talking.chat_flags import is_run, talker_of
    from runtime.web import address, server
    from runtime.web.models import Models, base_of_run
    from runtime.web.served import Served, serve

    require_streamlit()
    place = address.find(flags.host, flags.port)
    with place.listener:
        talker = talker_of(flags)
        if talker.chat.plugins:
            print(
                f"note: plugins ({', '.join(talker.chat.plugins)}) are for the chat in the terminal; this page goes without",
                file=sys.stderr,
            )
        here = Served(models=Models(talker, partial(base_of_run, flags.target) if is_run(flags.target) else None))
        serve(here)
        print(f"{talker.name} · {place.url} · Ctrl-C ends", flush=True)
        try:
            server.run(place)
        finally:
            here.answering.end()
    return 0


def require_streamlit() -> None:
    """Raises RunFault where the page's library is not installed."""
    if importlib.util.find_spec("streamlit") is None:
        message = "a chat in the browser needs Streamlit, which is not installed"
        raise RunFault("SG672", message, "pip install 'specgen[web]'", exit_code=WRONG)


def _flags(words: list[str] | None) -> argparse.Namespace:
    from runtime.talking.chat_flags import parser

    made = parser("python -m runtime.web", "Talks to a model in the browser.")
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=8501)
    return made.parse_args(words)


if __name__ == "__main__":
    in_utf8("runtime.web")
    leave(main())
