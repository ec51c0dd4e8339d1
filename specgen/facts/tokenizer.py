"""The tokenizer, as far as its files tell without loading it: its control tokens, and where generation stops.

Padding is masked by position and never by its id, so a pad token that is the end of turn, too, needs no check.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specgen.facts.gguf import GgufHeader

HEAD_BYTES = 4_000_000  # a part of tokenizer.json in front of its vocabulary is not longer
EMBEDDINGS = ("model.embed_tokens.weight", "model.tok_embeddings.weight", "transformer.wte.weight")
NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFacts:
    """`controls` maps the texts of control tokens to their ids; `others` are added tokens that are none. `names` has the control
    tokens that templates know by a name (bos_token, …).

    `adds_bos` says whether the tokenizer puts bos_token before a text, `stops` on which control tokens the base model's own
    generation ends. `untrained` are control tokens, but for padding, whose embedding is all zeros. `generation` is generation_config.json.
    """

    controls: dict[str, int]
    others: tuple[str, ...]
    names: dict[str, str]
    adds_bos: bool
    stops: tuple[str, ...]
    untrained: tuple[str, ...]
    generation: dict[str, Any]


def tokenizer_in_gguf(header: GgufHeader) -> TokenizerFacts | None:
    """What a GGUF header says of its tokenizer; None where it has none."""
    if not header.added_tokens:
        return None
    values = header.values
    texts = {number: text for number, (text, control) in header.added_tokens.items() if control}
    ids = {name: values.get(f"tokenizer.ggml.{name.removesuffix('_token')}_token_id") for name in ("bos_token", "eos_token")}
    names = {name: texts[number] for name, number in ids.items() if isinstance(number, int) and number in texts}
    return TokenizerFacts(
        controls={text: number for number, text in texts.items()},
        others=tuple(text for text, control in header.added_tokens.values() if not control),
        names=names,
        adds_bos=values.get("tokenizer.ggml.add_bos_token") is True,
        stops=tuple(text for name, text in names.items() if name == "eos_token"),
        untrained=(),
        generation={},
    )


def tokenizer_in_folder(folder: Path) -> TokenizerFacts | None:
    """What the files of a model folder say of its tokenizer; None where they do not list its control tokens.

    Raises ValueError where one of them is broken.
    """
    config = _object(folder / "tokenizer_config.json")
    added = _part(folder / "tokenizer.json", "added_tokens") or _added_in(config)
    if not added:
        return None
    ids = {token["content"]: token["id"] for token in added}
    named = {**_object(folder / "special_tokens_map.json"), **config}
    names = {name: text for name in NAMED if (text := _text(named.get(name)))}
    special = {token["content"] for token in added if token.get("special")} | {text for text in names.values() if text in ids}
    controls = {text: ids[text] for text in ids if text in special}
    generation = _object(folder / "generation_config.json")
    return TokenizerFacts(
        controls=controls,
        others=tuple(text for text in ids if text not in controls),
        names=names,
        adds_bos=_adds_bos(folder, config, names),
        stops=_stops(generation or _object(folder / "config.json"), controls, names),
        untrained=tuple(text for text in _untrained(folder, controls) if controls[text] not in _padding(folder, controls, names)),
        generation=generation,
    )


def _object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except RecursionError:
        raise ValueError(f"{file.name} is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} holds no object")
    return value


def _part(file: Path, key: str) -> Any:
    """One value of tokenizer.json that stands before the vocabulary, whose megabytes are not parsed."""
    data = file.read_bytes() if file.is_file() else b""
    mark = f'"{key}":'.encode()
    at = data.find(mark)
    if at < 0:
        return None
    text = data[at + len(mark) : at + HEAD_BYTES].decode("utf-8", "ignore").lstrip()
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except RecursionError:
        raise ValueError(f"{file.name} is nested too deeply") from None


def _added_in(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = config.get("added_tokens_decoder")
    return [{**token, "id": int(number)} for number, token in listed.items()] if isinstance(listed, dict) else []


def _text(token: Any) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _adds_bos(folder: Path, config: Mapping[str, Any], names: Mapping[str, str]) -> bool:
    if "add_bos_token" in config:
        return config["add_bos_token"] is True
    if str(config.get("tokenizer_class")).startswith("InternLM2"):
        return True
    processor = _part(folder / "tokenizer.json", "post_processor") or {}
    for step in processor.get("processors", [processor]):
        first: Any = next(iter(step.get("single") or ()), {})
        if isinstance(first, dict) and first.get("SpecialToken", {}).get("id") == names.get("bos_token", ""):
            return True
    return False


def _stops(settings: Mapping[str, Any], controls: Mapping[str, int], names: Mapping[str, str]) -> tuple[str, ...]:
    """As runtime/generation/generate.py has it: the ends of the base model's generation, and the tokenizer's own."""
    ends = settings.get("eos_token_id")
    ids = set(ends if isinstance(ends, list) else [ends])
    found = [text for text, number in controls.items() if number in ids]
    return tuple(dict.fromkeys([*found, *(names[name] for name in ("eos_token",) if name in names)]))


def _padding(folder: Path, controls: Mapping[str, int], names: Mapping[str, str]) -> set[int | None]:
    """The ids of padding, whose embedding torch makes zero and keeps so, though the token may be an end as well."""
    return {controls.get(names.get("pad_token", "")), _object(folder / "config.json").get("pad_token_id")}


def _untrained(folder: Path, controls: Mapping[str, int]) -> tuple[str, ...]:
    """Control tokens whose row of the embedding matrix is all zeros, as rows are that were only reserved."""
    index = _object(folder / "model.safetensors.index.json").get("weight_map", {})
    name = next((name for name in EMBEDDINGS if name in index), EMBEDDINGS[0])
    file = folder / index.get(name, "model.safetensors")
    if not file.is_file():
        return ()
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
        header = json.loads(stream.read(length)) if length < 100_000_000 else {}
        entry = next((header[name] for name in EMBEDDINGS if name in header), None)
        if entry is None or len(entry["shape"]) != 2:
            return ()
        start, end = entry["data_offsets"]
        row_bytes = (end - start) // max(1, entry["shape"][0])
        zeros = []
        for text, number in controls.items():
            stream.seek(8 + length + start + number * row_bytes)
            if number < entry["shape"][0] and not any(stream.read(row_bytes)):
                zeros.append(text)
    return tuple(zeros)
