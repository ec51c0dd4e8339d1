"""specgen chat: the flags, and the call of the runtime that they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from conversations.system_texts import NAMES as SYSTEM_TEXTS
from specgen.commands.numbers import NumberOfSchema
from specgen.folder import is_model
from specgen.schema import lookup

DTYPES = ("auto", "fp16", "bf16", "fp32", "float16", "bfloat16", "float32")

Command = TypeVar("Command", bound=Callable[..., Any])


def _plugins(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Names with commas between them."""
    if value is None:
        return None
    schema = lookup("chat.plugins")
    assert schema is not None
    known = schema["items"]["enum"]
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name!r} is none of {', '.join(known)}")
    return names


def _stop_words(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    if "" in value:
        raise click.BadParameter("an empty text would end every answer before it begins")
    return value


def _number(name: str, **settings: Any) -> Callable[[Command], Command]:
    """An option for a number of the section chat."""
    return click.option(name, cls=NumberOfSchema, key=f"chat.{name.lstrip('-').replace('-', '_')}", **settings)


path = click.Path(path_type=Path)
# How a model is put into memory: for every command that loads one.
LOADING = (
    click.option("--adapter", type=path, metavar="DIR", help="This adapter on top: of the base model of a spec, or of MODEL_DIR."),
    click.option("--prompt-template", metavar="NAME", help="A chat template of the library instead of that of MODEL_DIR."),
    click.option("--torch-dtype", type=click.Choice(DTYPES), help="Dtype of the weights; default: as they are."),
    click.option("--bits", type=click.Choice(["4", "8"]), help="Load the weights in 4 bits (nf4) or 8, with bitsandbytes."),
    click.option("--offload-folder", type=path, metavar="DIR", help="Where weights go for which memory does not suffice."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
)
# What the model is told, and how its answers are made: over the spec's chat: section, or generation_config.json.
ANSWERS = (
    click.option("--system", metavar="TEXT", help="System text."),
    click.option("--system-template", type=click.Choice(SYSTEM_TEXTS), help="A system text by XTuner's name for it."),
    click.option("--bot-name", metavar="NAME", help="What the model is called; default BOT."),
    click.option(
        "--with-plugins",
        callback=_plugins,
        metavar="NAME,…",
        help="Tools that it may call: specgen explain chat.plugins.",
    ),
    click.option(
        "--stop-words", multiple=True, callback=_stop_words, metavar="TEXT", help="One more text that ends an answer; may be repeated."
    ),
    _number("--max-new-tokens", metavar="N", help="Longest answer."),
    _number("--temperature", metavar="T", help="0 always takes the likeliest token."),
    _number("--top-k", metavar="K", help="Sample among the K likeliest tokens."),
    _number("--top-p", metavar="P", help="Sample among this probability."),
    _number("--repetition-penalty", metavar="R", help="Above 1 avoids repeating."),
    _number("--seed", metavar="N", help="Seed of the sampling."),
)
# What only the terminal has.
TERMINAL = (
    click.option("--image", multiple=True, metavar="FILE", help="A picture that the first question is about; may be repeated."),
    click.option("--no-streamer", is_flag=True, help="Show each answer when it is whole."),
    click.option("--lagent", is_flag=True, help="XTuner's agents; refused, with the reason."),
    click.option("--command-stop-word", metavar="TEXT", help="What ends a call of a tool in MOSS's format; default <eoc>."),
    click.option("--answer-stop-word", metavar="TEXT", help="What ends an answer in MOSS's format; default <eom>."),
)


def options(*groups: tuple[Callable[[Command], Command], ...]) -> Callable[[Command], Command]:
    """Groups of options as one decorator."""

    def decorated(command: Command) -> Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorated


def require_fit(target: Path, profile: str | None, settings: tuple[str, ...], flags: dict[str, Any]) -> None:
    """Raises UsageError where flags do not go together."""
    if flags.get("system") is not None and flags.get("system_template") is not None:
        raise click.UsageError("--system and --system-template both give the system text: give one of them")
    if is_model(target) and (profile or settings):
        raise click.UsageError(f"{target} is a model's folder: --profile and --set belong to a spec")
    if not is_model(target) and flags.get("prompt_template") is not None:
        raise click.UsageError("--prompt-template belongs to a model's folder: a spec says itself what its model was trained with")


def words(flags: dict[str, Any]) -> list[str]:
    """Flags as the runtime's command line takes them."""
    found: list[str] = []
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif name == "with_plugins" and value:
            found.append(f"{flag}={','.join(value)}")
        elif isinstance(value, tuple):
            found += [f"{flag}={item}" for item in value]
        elif value is not None and value is not False:
            found.append(f"{flag}={value}")
    return found
