"""InternLM2 folders as Llama folders: converted once, tensor by tensor, and kept in the cache folder; and written back."""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import console
from runtime.cache import SHARD, kept_as, made_once, name_of, state_of, whole
from runtime.faults import WRONG, RunFault
from runtime.files import write_json
from runtime.internlm2.settings import cannot_be_converted, is_internlm2, llama_settings, read_settings, sizes_of
from runtime.internlm2.tokenizer import CONFIG, TEMPLATE, read_config, template_of, write_tokenizer

if TYPE_CHECKING:
    import torch

    from runtime.internlm2.layout import Shapes
    from runtime.weights.written import Kind

FORM = 1  # counts how a conversion is written: another number converts anew
OF_TOKENIZER = ("tokenizer.model", "special_tokens_map.json", "added_tokens.json", "tokenizer.json")
KEPT = ("generation_config.json", "merged.json")  # settings, and which adapters are in it


def readable(folder: Path) -> Path:
    """A model's folder as transformers reads it: the folder itself, or the Llama that an InternLM2 folder is converted to."""
    return converted(folder) if is_internlm2(folder) else folder


def readable_tokenizer(folder: Path) -> Path:
    """The same for what only reads the tokenizer, which does not wait for weights."""
    if not is_internlm2(folder):
        return folder
    target = cached(folder)
    if target.exists():
        return target
    alone = target.with_name(f"{target.name}-tokenizer")
    if not alone.exists():
        whole(alone, lambda out: write_tokenizer(folder, out))
    return alone


def cached(folder: Path) -> Path:
    """The folder that a conversion has or will have."""
    return kept_as(name_of(folder), places=str(folder.resolve()), state=f"{state_of(folder)}:{FORM}")


def converted(folder: Path) -> Path:
    """The Llama folder of an InternLM2 folder. Raises RunFault where it cannot be converted; nothing is left behind then."""
    target = cached(folder)
    return made_once(
        target,
        lambda out: to_llama(folder, out),
        lock=folder / "config.json",
        tell=lambda: console.say("base", f"{name_of(folder)} becomes a folder that transformers reads, once: {target}"),
    )


def to_llama(folder: Path, out: Path) -> None:
    """Writes an InternLM2 folder as a Llama's: weights in their own types, config.json, tokenizer, generation_config.json.

    Raises RunFault where a tensor is missing, too many, or of another shape than config.json says.
    """
    from runtime.internlm2.layout import cut, llama_shapes, own_shapes, pieces
    from runtime.weights.shards import tensors
    from runtime.weights.written import write_weights

    settings = read_settings(folder)
    sizes = sizes_of(settings, folder)
    where, types = _weights(folder, own_shapes(sizes), of=folder)
    shapes, names = llama_shapes(sizes), pieces(sizes)
    planned: dict[str, Kind] = {other: (shapes[other], types[name]) for name, others in names.items() for other in others}
    sources = {other: (name, index) for name, others in names.items() for index, other in enumerate(others)}

    def value(name: str) -> torch.Tensor:
        source, index = sources[name]
        return cut(next(tensors(where, [source]))[1], sizes, len(names[source]))[index]

    write_weights(planned, value, out, max_shard_size=SHARD)
    write_json(out / "config.json", llama_settings(settings))
    _copy([folder / name for name in KEPT], out)
    write_tokenizer(folder, out)


def to_original(llama: Path, original: Path, out: Path, *, max_shard_size: str = SHARD, form: str = "safetensors") -> None:
    """Writes a Llama folder that came of an InternLM2 folder as InternLM2 again: with the config.json, the code and the tokenizer
    files of `original`; the type of the weights, the chat template and generation_config.json are those of the Llama folder.

    Raises RunFault where its weights are not of the shapes that `original` has.
    """
    from runtime.internlm2.layout import joined, llama_shapes, own_shapes, pieces
    from runtime.weights.shards import tensors
    from runtime.weights.written import write_weights

    require_internlm2(original)
    settings, ours = _read_json(original / "config.json"), _read_json(llama / "config.json")
    changed = {**settings, "tie_word_embeddings": ours.get("tie_word_embeddings", False)}
    sizes = sizes_of(changed, original)
    where, types = _weights(llama, llama_shapes(sizes), of=original)
    names = pieces(sizes)
    planned: dict[str, Kind] = {name: (shape, types[names[name][0]]) for name, shape in own_shapes(sizes).items()}

    def value(name: str) -> torch.Tensor:
        found = [next(tensors(where, [other]))[1] for other in names[name]]
        return found[0] if len(found) == 1 else joined(found, sizes)

    write_weights(planned, value, out, max_shard_size=max_shard_size, form=form)
    changed["torch_dtype"] = str(types["model.norm.weight"]).removeprefix("torch.")
    write_json(out / "config.json", changed)
    _copy([*original.glob("*.py"), *(original / name for name in OF_TOKENIZER), *(llama / name for name in KEPT)], out)
    _write_template(llama, original, out)


def require_internlm2(folder: Path) -> None:
    """Raises RunFault where a folder is no InternLM2 model, so that there is no original layout."""
    if not is_internlm2(folder):
        hint = "leave out layout: every other model is written in its own"
        raise RunFault("SG644", f"the original layout is InternLM2's, and the base model in {folder} is another", hint, exit_code=WRONG)


def _weights(folder: Path, wanted: Shapes, *, of: Path) -> tuple[dict[str, Path], dict[str, torch.dtype]]:
    """Where a folder's tensors are, and their types. Raises RunFault where they are not those of `wanted`, the model in `of`."""
    from runtime.weights.shards import COMPUTED, files_of, kinds

    every = files_of(folder, "the base model's weights")
    where = {name: file for name, file in every.items() if not name.endswith(COMPUTED)}
    if missing := sorted(wanted.keys() - where.keys()):
        raise cannot_be_converted(of, f"its weights have no {missing[0]}" + console.and_more(missing))
    if unknown := sorted(where.keys() - wanted.keys()):
        near = difflib.get_close_matches(unknown[0], wanted, n=1, cutoff=0)
        raise cannot_be_converted(of, f"there is no rule for {unknown[0]}{console.and_more(unknown)}; nearest is {near[0]}")
    found = kinds(where)
    for name, shape in wanted.items():
        if found[name][0] != shape:
            raise cannot_be_converted(of, f"{name} is {found[name][0]}, by its config.json {shape}")
    return where, {name: dtype for name, (_, dtype) in found.items()}


def _copy(files: Iterable[Path], out: Path) -> None:
    for file in files:
        if file.is_file():
            shutil.copyfile(file, out / file.name)


def _write_template(llama: Path, original: Path, out: Path) -> None:
    """The original's tokenizer_config.json with the Llama folder's chat template, which may be the one that it had."""
    settings, template = read_config(original), template_of(llama, read_config(llama))
    if (original / TEMPLATE).is_file() and isinstance(template, str):
        (out / TEMPLATE).write_text(template, encoding="utf-8")
    elif template is not None and template != template_of(original, settings):
        named = [{"name": name, "template": text} for name, text in template.items()] if isinstance(template, dict) else template
        settings = {**settings, "chat_template": named}
    if settings:
        write_json(out / CONFIG, settings)


def _read_json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
