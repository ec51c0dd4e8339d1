"""The flags of a chat, for the terminal and for the page: how the model is loaded, and what of its settings is another way."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from conversations.system_texts import NAMES, system_texts
from runtime.config import ChatConfig
from runtime.talking.talker import DTYPES, Loading, Talker, of_folder, of_run

SETTINGS = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed")


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """The flags that every way to chat has. `specgen chat --help` describes them."""
    made = argparse.ArgumentParser(prog=program, description=description)
    made.add_argument("target", type=Path, metavar="BUILD | MODEL_DIR", help="a folder that specgen compile wrote, or one of a model")
    made.add_argument("--runs-dir", type=Path, default=Path("runs"))
    made.add_argument("--spec", default=None, help=argparse.SUPPRESS)
    made.add_argument("--adapter", type=Path)
    made.add_argument("--prompt-template")
    made.add_argument("--torch-dtype", choices=["auto", *DTYPES, *DTYPES.values()])
    made.add_argument("--bits", type=int, choices=[4, 8])
    made.add_argument("--offload-folder", type=Path)
    made.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    said = made.add_mutually_exclusive_group()
    said.add_argument("--system")
    said.add_argument("--system-template", choices=NAMES)
    made.add_argument("--bot-name", default=None)
    made.add_argument("--stop-words", action="append", default=[])
    made.add_argument("--max-new-tokens", type=int)
    made.add_argument("--temperature", type=float)
    made.add_argument("--top-k", type=int)
    made.add_argument("--top-p", type=float)
    made.add_argument("--repetition-penalty", type=float)
    made.add_argument("--seed", type=int)
    made.add_argument("--with-plugins", type=lambda names: names.split(","))
    return made


def talker_of(flags: argparse.Namespace) -> Talker:
    """The model that the flags name, with their settings. Raises RunFault."""
    loading = Loading(
        adapter=flags.adapter, dtype=flags.torch_dtype, bits=flags.bits, offload_folder=flags.offload_folder, device=flags.device
    )
    if is_run(flags.target):
        talker = of_run(flags.target, flags.runs_dir, flags.spec or str(flags.target), loading)
    else:
        talker = of_folder(flags.target, loading, flags.prompt_template)
    return replace(talker, chat=settings_of(flags, talker.chat))


def is_run(target: Path) -> bool:
    """Whether it is a compiled folder; else it is a model's."""
    return (target / "config.yaml").is_file() or not target.is_dir()


def settings_of(flags: argparse.Namespace, start: ChatConfig) -> ChatConfig:
    """The chat settings to start with, and what the flags say over them."""
    given = {name: value for name in SETTINGS if (value := getattr(flags, name)) is not None}
    chat = replace(start, **given, stop=(*start.stop, *flags.stop_words))
    if flags.with_plugins is not None:
        chat = replace(chat, plugins=tuple(flags.with_plugins))
    if flags.system_template is not None:
        return replace(chat, system=system_texts(bot_name=bot_name(flags), plugins=chat.plugins)[flags.system_template])
    return chat if flags.system is None else replace(chat, system=flags.system)


def bot_name(flags: argparse.Namespace) -> str:
    """How the model is called."""
    return flags.bot_name or "BOT"
