"""LLaVA folders: a language model, a vision tower and a random projector, put together once, tensor by tensor, in the cache folder."""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import console
from runtime.cache import SHARD, kept_as, made_once, name_of, state_of
from runtime.config import VisionConfig
from runtime.faults import WRONG, RunFault
from runtime.files import write_json
from runtime.vision.sizes import image_tokens, sight_of, tower_in, tower_settings

if TYPE_CHECKING:
    import torch

    from runtime.weights.written import Kind

FORM = 1  # counts how a folder is put together: another number makes it anew


def is_llava(folder: Path) -> bool:
    """Whether a folder's config.json says so. One that cannot be read is somebody else's to tell."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.get("model_type") == "llava"


def tokens_in(folder: Path) -> int:
    """How many tokens an image takes in a LLaVA folder, ours or another's."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tower = tower_in(settings.get("vision_config") or {})
    return sight_of(tower).tokens if tower is not None else int(settings["image_seq_length"])


def assembled(llm: Path, tower: Path, vision: VisionConfig) -> Path:
    """The LLaVA folder of a language model's folder, as transformers reads it, and a tower's. Raises RunFault where the two cannot be put
    together; nothing is left behind then."""
    target = cached(llm, tower, vision)
    return made_once(
        target,
        lambda out: assemble(llm, tower, vision, out),
        lock=tower / "config.json",
        tell=lambda: console.say("base", f"language model and vision tower become one LLaVA folder, once: {target}"),
    )


def cached(llm: Path, tower: Path, vision: VisionConfig) -> Path:
    """The folder that is or will be put together of these."""
    asked = f"{vision.projector}:{vision.select_layer}:{vision.pad_to_square}"
    places = f"{llm.resolve()}:{tower.resolve()}:{asked}"
    states = f"{state_of(llm)}:{state_of(tower)}:{FORM}"
    return kept_as(f"llava-{name_of(llm)}-{name_of(tower)}", places=places, state=states)


def assemble(llm: Path, tower: Path, vision: VisionConfig, out: Path) -> None:
    """Writes the LLaVA folder: weights in their own types, config.json, tokenizer with `<image>`, processor.

    Raises RunFault where a tensor is missing, or finds no place, or the language model's logits are not its output layer's numbers.
    """
    from transformers import AutoTokenizer

    from runtime.vision.layout import llava_settings
    from runtime.vision.processor import image_settings, mark_tokenizer, write_image_processor
    from runtime.vision.tokens import add_image_token
    from runtime.weights.streaming import is_tied

    tokenizer = AutoTokenizer.from_pretrained(llm)
    token = add_image_token(tokenizer)
    text = json.loads((llm / "config.json").read_text(encoding="utf-8"))
    seeing = tower_settings(tower)
    sight = sight_of(seeing)
    if sight.tokens != image_tokens(vision):
        message = f"an image takes {sight.tokens} tokens by the tower's config.json, and {image_tokens(vision)} in the compiled folder"
        raise RunFault("SG408", message, "compile the spec again", exit_code=WRONG)
    _require_known(llm, text)
    settings = llava_settings(text, seeing, vision, image_token=token, tied=is_tied(llm))
    _write_weights(settings, llm, tower, out)
    write_json(out / "config.json", settings)
    if (llm / "generation_config.json").is_file():
        shutil.copyfile(llm / "generation_config.json", out / "generation_config.json")
    mark_tokenizer(tokenizer)
    tokenizer.save_pretrained(out)
    write_image_processor(image_settings(tower, sight, vision), sight, out)


def _require_known(llm: Path, text: dict[str, Any]) -> None:
    """Raises RunFault for a language model that transformers' LLaVA would compute otherwise, or does not know."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    from runtime.vision.layout import why_not

    try:
        config = AutoConfig.for_model(**{name: value for name, value in text.items() if name not in ("auto_map", "architectures")})
        known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and config.get_text_config() is config
    except (ValueError, KeyError):
        known = False
    if not known:
        raise _cannot(llm, f"transformers has no language model of type {text.get('model_type')}")
    if why := why_not(config):
        raise _cannot(llm, why)


def _write_weights(settings: dict[str, Any], llm: Path, tower: Path, out: Path) -> None:
    from runtime.vision.layout import LANGUAGE, OUTPUT, PROJECTOR, TOWER, grown, of_tower, projector_weight, shapes_of
    from runtime.weights.shards import files_of, kinds, tensors
    from runtime.weights.written import write_weights

    shapes = shapes_of(settings)
    where_llm, where_tower = files_of(llm, "the language model's weights"), files_of(tower, "the vision tower's weights")
    words = _of_language_model(llm, where_llm, settings, shapes)
    sights = {own: name for name in where_tower if (own := of_tower(name)) is not None}
    wanted = {name for name in shapes if name.startswith(TOWER)}
    _require_same(tower, wanted, set(sights), "the vision tower")
    types = {name: dtype for name, (_, dtype) in kinds({name: where_llm[name] for name in words.values()}).items()}
    seen = {name: dtype for name, (_, dtype) in kinds({name: where_tower[name] for name in sights.values()}).items()}
    usual = types[words[f"{LANGUAGE}embed_tokens.weight"]]
    vocabulary = int(settings["text_config"]["vocab_size"])

    def kind(name: str) -> Kind:
        dtype = types[words[name]] if name in words else seen[sights[name]] if name in sights else usual
        return shapes[name], dtype

    def value(name: str) -> torch.Tensor:
        if name.startswith(PROJECTOR):
            own = {other: shape for other, shape in shapes.items() if other.startswith(PROJECTOR)}
            return projector_weight(name, own)
        where, source = (where_llm, words[name]) if name in words else (where_tower, sights[name])
        found = next(tensors(where, [source]))[1]
        found = grown(found, vocabulary) if name in (OUTPUT, f"{LANGUAGE}embed_tokens.weight") else found
        if list(found.shape) != shapes[name]:
            raise _cannot(llm if name in words else tower, f"{source} is {list(found.shape)}, by its config.json {shapes[name]}")
        return found

    write_weights({name: kind(name) for name in shapes}, value, out, max_shard_size=SHARD)


def _of_language_model(llm: Path, names: Iterable[str], settings: dict[str, Any], shapes: dict[str, list[int]]) -> dict[str, str]:
    """LLaVA's name → the language model's own. Raises RunFault where they are not the tensors that LLaVA has."""
    from runtime.vision.layout import LANGUAGE, OUTPUT, of_language_model
    from runtime.weights.shards import COMPUTED

    every = {of_language_model(name): name for name in names if not name.endswith(COMPUTED)}
    if settings["tie_word_embeddings"]:
        every.pop(OUTPUT, None)
    wanted = {name for name in shapes if name == OUTPUT or name.startswith(LANGUAGE)}
    _require_same(llm, wanted, set(every), "the language model")
    return every


def _require_same(folder: Path, wanted: set[str], found: set[str], what: str) -> None:
    if missing := sorted(wanted - found):
        raise _cannot(folder, f"{what} has no {missing[0]}" + console.and_more(missing))
    if unknown := sorted(found - wanted):
        near = difflib.get_close_matches(unknown[0], wanted, n=1, cutoff=0)
        raise _cannot(folder, f"LLaVA has no place for {unknown[0]}{console.and_more(unknown)}; nearest is {near[0]}")


def _cannot(folder: Path, reason: str) -> RunFault:
    return RunFault("SG408", f"{folder} cannot become a part of a LLaVA model: {reason}", exit_code=WRONG)
