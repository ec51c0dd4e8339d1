"""What llama.cpp can run: model types, and how a tokenizer.json splits a text, by llama.cpp's names.

A GGUF file names the way in which its tokenizer splits a text before merging. With another name the same text becomes other
tokens and nothing says so: a tokenizer that is not known here is refused. The expressions are those of the published
tokenizers whose name llama.cpp took (src/llama-vocab.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# transformers' model_type → the architecture in a GGUF file
ARCHITECTURES = {
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
PIECES = "llama"  # merges by score, as SentencePiece has them, without splitting first

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# what splits, in its order, and whether whole words are looked up before merging → llama.cpp's name
_SPLITS: dict[tuple[tuple[str, ...], bool], str] = {
    (("bytes with words",), False): "gpt-2",
    (("digits", "bytes with words"), False): "smollm",
    ((_WORDS + r"\p{N}" + _REST, "bytes"), False): "qwen2",
    ((_WORDS + r"\p{N}{1,3}" + _REST, "bytes"), True): "llama-bpe",
}
SPLITS = tuple(sorted(_SPLITS.values()))


def split_of(tokenizer: Mapping[str, Any]) -> str | None:
    """How the tokenizer of a tokenizer.json splits a text: one of SPLITS, or PIECES; None where llama.cpp has no name for it.

    Of `model` only its type and flags are looked at.
    """
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        return None
    if model.get("byte_fallback"):
        return PIECES if _replaces_blanks(tokenizer) else None
    found = _steps(tokenizer.get("pre_tokenizer"))
    return None if found is None else _SPLITS.get((found, bool(model.get("ignore_merges"))))


def prepends_blank(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a tokenizer of PIECES puts a blank in front of a text."""
    return any(
        step.get("type") == "Prepend" or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in (*_sequence(tokenizer.get("normalizer")), *_sequence(tokenizer.get("pre_tokenizer")))
    )


def _replaces_blanks(tokenizer: Mapping[str, Any]) -> bool:
    normalizers, splits = _sequence(tokenizer.get("normalizer")), _sequence(tokenizer.get("pre_tokenizer"))
    replaces = any(step.get("type") == "Replace" and step.get("content") == "\u2581" for step in normalizers)
    return replaces or any(step.get("type") == "Metaspace" for step in splits)


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """What a pre_tokenizer does, step by step; None where one of the steps is of a kind that is not known here."""
    names: list[str] = []
    for step in _sequence(pre_tokenizer):
        match step:
            case {"type": "ByteLevel", "add_prefix_space": False, **rest}:
                names.append("bytes with words" if rest.get("use_regex", True) else "bytes")
            case {"type": "Digits", "individual_digits": True}:
                names.append("digits")
            case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
                names.append(pattern)
            case _:
                return None
    return tuple(names)


def _sequence(step: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The steps of a normalizer or pre_tokenizer, which may be one of several, one, or none."""
    if step is None:
        return []
    inner = step.get("pretokenizers") or step.get("normalizers")
    return [step] if inner is None else [part for each in inner for part in _sequence(each)]
