"""Commands for models that are there: talk to them, serve them, convert and merge them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from specgen.cli.options import OfSchema, profile_option, runs_option, set_option
from specgen.commands.chat import ANSWERS, LOADING, TERMINAL
from specgen.commands.chat import options as chat_options
from specgen.commands.web import WEB

SHARDS = "export.merged.max_shard_size"


@click.command()
@click.argument("target", type=click.Path(path_type=Path), metavar="SPEC | MODEL_DIR")
@profile_option
@set_option
@runs_option
@chat_options(LOADING, ANSWERS, TERMINAL, WEB)
def chat(target: Path, profile: str | None, settings: tuple[str, ...], runs_dir: Path, web: bool, **flags: Any) -> int:
    """Talk to the model that a spec made, or to any model in Hugging Face's form, in the terminal or in the browser."""
    from specgen.commands.aside import start_with_model
    from specgen.commands.chat import require_fit, words
    from specgen.commands.web import program

    require_fit(target, profile, settings, flags)
    module = program(web=web, flags=flags)
    return start_with_model(module, target, profile, settings, ["--runs-dir", str(runs_dir), *words(flags)])


@click.command()
@click.argument("what", type=click.Path(path_type=Path), metavar="SPEC | MODEL_DIR")
@profile_option
@set_option
@runs_option
@click.option("--adapter", type=click.Path(path_type=Path), metavar="DIR", help="Serve the base model with this adapter.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; others than the loopback need a key.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0 takes any that is free.")
@click.option(
    "--engine", type=click.Choice(["auto", "transformers", "vllm"]), default="auto", show_default=True, help="auto: vLLM if it is there."
)
def serve(
    what: Path, profile: str | None, settings: tuple[str, ...], runs_dir: Path, adapter: Path | None, host: str, port: int, engine: str
) -> int:
    """Serve a model to OpenAI clients: that of a spec, or of a folder."""
    from specgen.commands.aside import start_with_model
    from specgen.folder import is_model

    if is_model(what) and (profile or settings):
        raise click.UsageError("--profile and --set belong to a spec")
    words = ["--runs-dir", str(runs_dir), "--host", host, "--port", str(port), "--engine", engine]
    return start_with_model("runtime.serve", what, profile, settings, words + (["--adapter", str(adapter)] if adapter else []))


def _size(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """As the schema has sizes of weight files."""
    from specgen.schema import lookup

    schema = lookup(SHARDS)
    assert schema is not None, SHARDS
    if re.search(schema["pattern"], value) is None:
        raise click.BadParameter(f"{value} is no size: write a whole number and KB, MB or GB, such as 2GB")
    return value


def _positive(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value:g} is no number above 0")
    return value


shard_option = click.option("--max-shard-size", cls=OfSchema, key=SHARDS, metavar="SIZE", callback=_size, help="No weight file is larger.")
weights_option = click.option(
    "--format", "form", type=click.Choice(["safetensors", "bin"]), default="safetensors", show_default=True, help="Of the weights."
)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--fp32", is_flag=True, help="Write float32; else float16.")
@shard_option
@weights_option
@click.option("--lora-alpha", type=float, callback=_positive, metavar="ALPHA", help="Of an XTuner adapter whose file does not say it.")
@click.option("--base", metavar="DIR", help="The base model's folder: for XTuner's whole models, and its adapters of InternLM2.")
def convert(checkpoint: Path, out: Path, fp32: bool, **options: str | float | None) -> int:
    """Make a Hugging Face adapter or model of a checkpoint: checkpoint-N of a run, or XTuner's iter_N.pth."""
    from specgen.launch import start

    return start("runtime.conversion.converting", [str(checkpoint), str(out), *words_of(options), *(["--fp32"] if fp32 else [])])


@click.command()
@click.argument("base")
@click.argument("adapters", nargs=-1, required=True, metavar="ADAPTER[=WEIGHT]...")
@click.argument("out", type=click.Path(path_type=Path))
@shard_option
@weights_option
@click.option(
    "--device", cls=OfSchema, key="export.merged.device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where it is computed."
)
@click.option("--dtype", type=click.Choice(["auto", "float32", "float16", "bfloat16"]), default="auto", help="auto: as the base has it.")
@click.option(
    "--into",
    cls=OfSchema,
    key="export.merged.base",
    type=click.Choice(["dequantized", "full"]),
    help="What a QLoRA adapter is added to.",
)
@click.option(
    "--layout",
    cls=OfSchema,
    key="export.merged.layout",
    type=click.Choice(["llama", "original"]),
    help="original: an InternLM2 as InternLM2 again.",
)
@click.option("--is-clip", is_flag=True, help="BASE is a CLIP model, and the adapter is for its vision tower.")
def merge(base: str, adapters: tuple[str, ...], out: Path, is_clip: bool, **options: str) -> int:
    """Merge adapters into a base model, tensor by tensor: in memory for the largest tensor, not for the model."""
    from specgen.launch import start

    return start("runtime.conversion.merging", [base, *adapters, str(out), *words_of(options), *(["--is-clip"] if is_clip else [])])


def words_of(options: Mapping[str, str | float | None]) -> list[str]:
    """Options as the runtime has them, those that were given."""
    given = {name.replace("form", "format").replace("_", "-"): value for name, value in options.items() if value is not None}
    return [f"--{name}={value}" for name, value in given.items()]
