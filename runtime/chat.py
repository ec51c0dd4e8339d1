"""python -m runtime.chat BUILD: talks to the merged model in the terminal, with the chat settings of the config."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.__main__ import in_utf8, quiet
from runtime.faults import INTERRUPTED, WRONG, RunFault

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from runtime.config import Config
    from runtime.generate import Generator

EXIT, RESET = "/exit", "/reset"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runtime.chat", description="Talks to the model of a run.")
    parser.add_argument("build", type=Path, metavar="BUILD", help="a folder that specgen compile wrote")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where run folders are; default: runs")
    parser.add_argument("--spec", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    quiet()
    try:
        return chat(arguments.build, arguments.runs_dir, arguments.spec or str(arguments.build))
    except RunFault as fault:
        print(fault, file=sys.stderr, flush=True)
        return fault.exit_code
    except KeyboardInterrupt:
        print()
        return INTERRUPTED


def chat(build: Path, runs_dir: Path, spec: str) -> int:
    """Reads questions until the end of input or /exit. Raises RunFault where there is no model yet."""
    from runtime import config as configs
    from runtime.pipeline import known, stages
    from runtime.stages import is_done, keys, read_stage

    config = configs.load(build)
    folder = runs_dir / config.name
    config = known(config, build, folder)
    if not read_stage(folder, "merge"):
        raise RunFault("SG461", f"there is no model in {folder} yet", f"make it: specgen run {spec}", exit_code=WRONG)
    if not is_done(folder, "merge", keys(stages(build), config)["merge"]):
        print("note: the spec has changed since this model was made; specgen run brings it up to date", file=sys.stderr)

    interactive = sys.stdin.isatty()
    if interactive:
        print(f"{config.name} · {RESET} begins anew, {EXIT} or Ctrl-D ends")
    generator, model = load(config, folder / "merge")
    messages: list[dict[str, str]] = []
    while (text := _read(interactive)) not in (None, EXIT):
        if text == RESET:
            messages = []
        elif text:
            if config.train.objective == "text":
                messages = []  # each text is continued for itself: there are no turns
            messages.append({"role": "user", "content": text})
            answer = generator.answer(model, messages, show=_show)
            print(flush=True)
            messages.append({"role": "assistant", "content": answer.text})
    return 0


def load(config: Config, merged: Path) -> tuple[Generator, PreTrainedModel]:
    """The merged model, as its folder has it, and what makes its answers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from runtime.generate import Generator
    from runtime.model import pick_device
    from runtime.text_format import row_format

    tokenizer = AutoTokenizer.from_pretrained(merged)
    model = AutoModelForCausalLM.from_pretrained(merged, dtype="auto").to(pick_device()).eval()
    form = row_format(tokenizer, config, system=config.chat.system)
    return Generator(tokenizer, form, config.chat), model


def _read(interactive: bool) -> str | None:
    try:
        if interactive:
            import readline  # noqa: F401  (history and editing in input)

            return input("› ").strip()
        line = sys.stdin.readline()
        return line.strip() if line else None
    except EOFError:
        print()
        return None


def _show(piece: str) -> None:
    print(piece, end="", flush=True)


if __name__ == "__main__":
    in_utf8("runtime.chat")
    sys.exit(main())
