"""python -m runtime.conversion.merging BASE ADAPTER[=WEIGHT] … OUT: merges adapters into a base model, without a run.

Tensor by tensor (streaming.py). What is written stands aside until it is whole, and gets its name then.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import console
from runtime.conversion.new_folder import copy_small_files, written_aside
from runtime.faults import WRONG, RunFault, exit_code_of
from runtime.starting import in_utf8, quiet

if TYPE_CHECKING:
    from runtime.config import HubBase, LocalBase

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def main() -> int:
    """The program; specgen merge gives all options. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runtime.conversion.merging", description="Merges adapters into a base model.")
    parser.add_argument("base", metavar="BASE", help="a model folder, a .gguf file or a repository on the hub")
    parser.add_argument("adapters", nargs="+", metavar="ADAPTER[=WEIGHT]", help="an adapter folder, and how much of it")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write; not there yet")
    parser.add_argument("--max-shard-size", required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), required=True)
    parser.add_argument("--dtype", choices=("auto", "float32", "float16", "bfloat16"), required=True)
    parser.add_argument("--format", dest="form", choices=("safetensors", "bin"), required=True)
    parser.add_argument("--into", choices=("dequantized", "full"), required=True)
    parser.add_argument("--layout", choices=("llama", "original"), required=True)
    parser.add_argument("--is-clip", action="store_true")
    arguments = parser.parse_args()
    quiet()
    return exit_code_of(lambda: merge(arguments))


def merge(arguments: argparse.Namespace) -> int:
    """Writes the merged folder. Raises RunFault for what cannot be merged."""
    from runtime.conversion import merge_record
    from runtime.conversion.layout import require_layout, written_as
    from runtime.internlm2.adapters import fitted
    from runtime.training.trained_on import require_untaken
    from runtime.weights import adapters as adapter_folders

    named = base_of(arguments.base)
    require_layout(arguments.layout, named)
    base = base_folder(named)
    added = [fitted(adapter_folders.read(*parsed(word)), base) for word in arguments.adapters]
    for adapter in added:
        require_untaken(adapter.folder)
    require_unquantized(base)
    merge_record.require_new(base, added)
    options = {"max_shard_size": arguments.max_shard_size, "form": arguments.form}
    with written_aside(arguments.out) as partial, written_as(arguments.layout, named, partial, **options) as place:
        line = _write(arguments, base, added, place)
    console.say("merge", line)
    print(f"wrote {arguments.out}" + ("" if arguments.is_clip else f"; next: specgen chat {shlex.quote(str(arguments.out))}"))
    return 0


def _write(arguments: argparse.Namespace, base: Path, added: Sequence[Any], out: Path) -> str:
    from runtime.conversion import merge_record
    from runtime.devices import pick_device
    from runtime.models.model import torch_dtype
    from runtime.vision import tower
    from runtime.weights.shards import files_of
    from runtime.weights.streaming import merge_files, write_config

    device = pick_device(arguments.device, setting="--device")
    dtype = None if arguments.dtype == "auto" else torch_dtype(arguments.dtype)
    settings = None
    if arguments.is_clip:
        settings = tower.settings_of(base)
        added = [tower.fitted(adapter, files_of(base, "the base model's weights")) for adapter in added]
    into, prepare = rounding(arguments.into, base, added, device)
    written = merge_files(
        base,
        added,
        out,
        dtype=dtype,
        max_shard_size=arguments.max_shard_size,
        form=arguments.form,
        device=device,
        prepare=prepare,
        keep=tower.is_of_tower if settings is not None else None,
        hint="write --dtype float32",
    )
    if settings is None:
        write_config(base, out, dtype=dtype, tied=written.tied)
    else:
        (out / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    copy_small_files(base, out)
    merge_record.write(out, base, arguments.base, added, into=into)
    kind = arguments.dtype if dtype is not None else "the base's types"
    number = f"{len(added)} adapter" + ("s" if len(added) > 1 else "")
    return f"{number} into the {into} base · {kind} · {console.size(written.bytes)}"


def base_of(word: str) -> LocalBase | HubBase:
    """The base model that is named. Raises RunFault where the name is of no kind that is known."""
    from runtime.config import HubBase, LocalBase

    path = Path(word)
    if not path.exists() and REPOSITORY.fullmatch(word) is None:
        raise RunFault(
            "SG450", f"there is no folder {word}", "give a model folder, a .gguf file or a repository on the hub", exit_code=WRONG
        )
    return LocalBase(path=word) if path.exists() else HubBase(repo=word, revision=None)


def base_folder(base: LocalBase | HubBase) -> Path:
    """The base model as a Hugging Face folder. Raises RunFault where it is not to be had."""
    from runtime.models.base import folder_of

    folder = folder_of(base)
    if not (folder / "config.json").exists():
        raise RunFault("SG450", f"{folder} is no model: it has no config.json", "give a folder as transformers writes it", exit_code=WRONG)
    try:
        readable = isinstance(json.loads((folder / "config.json").read_text(encoding="utf-8")), dict)
    except ValueError:
        readable = False
    if not readable:
        raise RunFault("SG441", f"{folder / 'config.json'} cannot be read: it holds no JSON object", exit_code=WRONG)
    return folder


def parsed(word: str) -> tuple[Path, float]:
    """ADAPTER or ADAPTER=WEIGHT. Raises RunFault where the weight is no number."""
    folder, sign, weight = word.rpartition("=")
    if Path(word).exists() or not sign:
        return Path(word), 1.0
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number == 0:
        raise RunFault("SG468", f"{word}: {weight!r} is no weight", "write ADAPTER=0.5", exit_code=WRONG)
    return Path(folder), number


def require_unquantized(base: Path) -> None:
    """Raises RunFault for a folder of quantized weights: added to them an adapter is lost in their rounding."""
    settings = json.loads((base / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    if settings:
        message = f"{base} holds weights that are quantized ({settings.get('quant_method', 'unknown')}): an adapter added to them is lost"
        hint = "give the model that it was made from; --into dequantized rounds it as training did"
        raise RunFault("SG466", message, hint, exit_code=WRONG)


def rounding(into: str, base: Path, added: Sequence[Any], device: Any) -> tuple[str, Callable[[str, Any], Any] | None]:
    """Which base is merged into, and what makes a weight of it: what a quantized base stood for where an adapter was trained on that."""
    from runtime.training import trained_on

    records = {adapter.folder: record for adapter in added if (record := trained_on.read(adapter.folder)) is not None}
    if not records or into == "full":
        return "full", None
    first = next(iter(records.values()))
    if any(trained_on.read(adapter.folder) != first for adapter in added):
        message = "the adapters were trained on bases that were quantized in different ways, or not all"
        raise RunFault("SG467", message, "write --into full, or merge one of them", exit_code=WRONG)
    if first.taken:
        message = f"the adapter in {next(iter(records))} was trained on a base that LoftQ quantized anew: nobody else has that base"
        raise RunFault("SG467", message, "take the merged model of its run", exit_code=WRONG)
    from transformers import BitsAndBytesConfig

    from runtime.conversion.quantized_base import dequantized
    from runtime.models.model import require_bitsandbytes, torch_dtype

    require_bitsandbytes("--into dequantized")
    settings = BitsAndBytesConfig.from_dict(first.quantization)
    return "dequantized", dequantized(base, settings, dtype=torch_dtype(first.dtype), taken={}, device=device)


if __name__ == "__main__":
    in_utf8("runtime.conversion.merging")
    sys.exit(main())
