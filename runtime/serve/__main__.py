"""python -m runtime.serve BUILD | MODEL_DIR: serves a model to OpenAI clients."""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runtime.faults import WRONG, RunFault, exit_code_of
from runtime.starting import in_utf8, leave, quiet

if TYPE_CHECKING:
    from runtime.talking.talker import Talker

ENGINES = ("auto", "transformers", "vllm")


def main() -> int:
    """The program: loads the model and serves it until it is told to end. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runtime.serve", description="Serves a model to OpenAI clients.")
    parser.add_argument("what", type=Path, metavar="BUILD | MODEL_DIR", help="a folder that specgen compile wrote, or a model's")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where run folders are; default: runs")
    parser.add_argument("--adapter", type=Path, default=None, help="serve the base model with this adapter")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="the port; 0 takes a free one; default: 8000")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="vllm where it is installed (auto), or one by name")
    parser.add_argument("--spec", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    quiet()
    return exit_code_of(lambda: serve(arguments))


def serve(arguments: argparse.Namespace) -> int:
    """Serves until it is told to end. Raises RunFault for what stands in the way, the cheapest to find out first."""
    from runtime.serve.key import KEY, require_key

    key = os.environ.pop(KEY, None) or None  # no process of ours hands it on
    require_key(arguments.host, key)
    if arguments.engine != "transformers" and (command := vllm_command(arguments)):
        become(command, key)
    require_packages()
    listening = listen(arguments.host, arguments.port)
    with listening:
        return _answer(load(arguments), listening, arguments.host, key)


def _answer(talker: Talker, listening: socket.socket, host: str, key: str | None) -> int:
    from runtime.serve.server import ModelServer

    def tell() -> None:
        print(greeting(talker.name, host, listening.getsockname()[1], with_key=key is not None), flush=True)

    ModelServer(talker, key=key, started=tell).run(sockets=[listening])
    return 0


def greeting(name: str, host: str, port: int, *, with_key: bool) -> str:
    """What is said at the start: where, which model, how to call it."""
    everywhere = ("0.0.0.0", "::")  # noqa: S104  (compared, not listened on)
    shown = socket.gethostname() if host in everywhere else f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}/v1"
    key = "the key" if with_key else "none"
    return f"{name}  {url} · OpenAI(base_url='{url}', api_key='{key}'), model='{name}' · Ctrl-C ends"


def load(arguments: argparse.Namespace) -> Talker:
    """The model, as the terminal chat loads it. Raises RunFault."""
    from runtime.talking.talker import Loading, of_folder, of_run

    loading = Loading(adapter=arguments.adapter)
    if is_build(arguments.what):
        return of_run(arguments.what, arguments.runs_dir, arguments.spec or str(arguments.what), loading)
    return of_folder(arguments.what, loading)


def is_build(folder: Path) -> bool:
    """Whether a folder is one that specgen compile wrote."""
    return (folder / "config.yaml").is_file()


def require_packages() -> None:
    """Raises RunFault where the extra is not installed."""
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        message = f"serving needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        raise RunFault("SG678", message, "pip install 'specgen[serve]'", exit_code=WRONG)


def listen(host: str, port: int) -> socket.socket:
    """A socket that has the address, before a model is loaded for it. Raises RunFault."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except (OSError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        hint = "end what listens there, or take another --port (0: any that is free)"
        raise RunFault("SG677", f"{host}:{port} cannot be listened on: {reason}", hint, exit_code=WRONG) from None
    return listening


def vllm_command(arguments: argparse.Namespace) -> list[str] | None:
    """What starts vLLM; None where it is to be had only by name, and is not installed or cannot serve this. Raises RunFault."""
    from runtime import config as configs
    from runtime.internlm2.folders import readable
    from runtime.serve import vllm

    named = arguments.engine == "vllm"
    found = vllm.require_program() if named else vllm.program()
    if found is None:
        return None
    listen(arguments.host, arguments.port).close()
    config = configs.load(arguments.what) if is_build(arguments.what) else None
    stops = (*config.chat.stop, *config.template.stop) if config else ()
    system = config.chat.system if config and config.train.objective != "text" else None
    obstacle = vllm.obstacle(stops, arguments.adapter, system)
    if named:
        vllm.require_no_obstacle(obstacle)
    elif obstacle:
        print(f"note: transformers serves it, not vLLM: {obstacle}", file=sys.stderr, flush=True)
        return None
    place = {"host": arguments.host, "port": arguments.port}
    if config is None:
        return vllm.command(found, readable(arguments.what), name=arguments.what.resolve().name, chat=None, **place)
    from runtime.talking.talker import merged_of

    merged = merged_of(config, arguments.runs_dir, arguments.spec or str(arguments.what))
    return vllm.command(found, merged, name=config.name, chat=config.chat, **place)


def become(command: list[str], key: str | None) -> NoReturn:
    """Turns this process into vLLM. The key goes by the environment, never by the command line, which others can read."""
    print(" ".join(command), flush=True)
    if key:
        os.environ["VLLM_API_KEY"] = key
    os.execv(command[0], command)


if __name__ == "__main__":
    in_utf8("runtime.serve")
    leave(main())
