"""InternLM2's tokenizer as a fast one, made of tokenizer.model without the checkpoint's own code. Nothing here needs PyTorch.

The pieces that the control tokens of chat stand in for are renamed where they lie, so that their ids are those of the
embedding's rows: 92538 to 92543 in place of [UNUSED_TOKEN_141] to [UNUSED_TOKEN_146]. The text of a piece that stays unused
is plain text, as in the original's fast tokenizer; its slow one made a token of it, which any user could have written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    from transformers import LlamaTokenizer

FILE = "tokenizer.model"
CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
CONTROLS = {
    92538: "<|plugin|>",
    92539: "<|interpreter|>",
    92540: "<|action_end|>",
    92541: "<|action_start|>",
    92542: "<|im_end|>",
    92543: "<|im_start|>",
}
UNUSED = "[UNUSED_TOKEN_"
NAMED = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
BPE, CONTROL, USER_DEFINED = 2, 3, 4  # types of models and pieces in sentencepiece_model.proto
READY = ("tokenizer.json", "special_tokens_map.json", "added_tokens.json", TEMPLATE)


def write_tokenizer(folder: Path, out: Path) -> None:
    """Writes the tokenizer of an InternLM2 folder in transformers' form, with the folder's chat template; nothing where it has none.

    Raises RunFault where its files cannot be read.
    """
    settings = read_config(folder)
    if (folder / FILE).is_file():
        tokenizer = fast(folder, settings)
        tokenizer.chat_template = template_of(folder, settings)
        tokenizer.save_pretrained(str(out))
        return
    for name in READY:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    if settings:
        settings.pop("auto_map", None)
        if str(settings.get("tokenizer_class")).startswith("InternLM2"):
            settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        (out / CONFIG).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def fast(folder: Path, settings: Mapping[str, Any]) -> LlamaTokenizer:
    """The tokenizer of a folder with a tokenizer.model. Raises RunFault."""
    from google.protobuf.message import DecodeError
    from transformers import AddedToken, LlamaTokenizer
    from transformers.convert_slow_tokenizer import SentencePieceExtractor

    try:
        extractor = SentencePieceExtractor(str(folder / FILE))
    except DecodeError:
        raise _unreadable(folder, f"{FILE} is no SentencePiece model") from None
    pieces = extractor.proto.pieces
    if extractor.proto.trainer_spec.model_type != BPE:
        raise _unreadable(folder, f"{FILE} is no SentencePiece model of the kind BPE")
    controls = _controls(settings, [piece.piece for piece in pieces], folder)
    for number, text in controls.items():
        pieces[number].piece, pieces[number].type = text, CONTROL
    found = extractor.extract(LlamaTokenizer.model)
    tokenizer = LlamaTokenizer(
        vocab=found["vocab"],
        merges=found["merges"],
        add_prefix_space=False,
        add_bos_token=bool(settings.get("add_bos_token", True)),
        padding_side="right",
        extra_special_tokens=list(controls.values()),
        **{name: _text(settings.get(name)) or default for name, default in NAMED.items()},
    )
    words = [piece.piece for piece in pieces if piece.type == USER_DEFINED and not piece.piece.startswith(UNUSED)]
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in words])
    return tokenizer


def template_of(folder: Path, settings: Mapping[str, Any]) -> Any:
    """The chat template that a folder brings along: a text, several by their names, or None."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    found = settings.get("chat_template")
    return {entry["name"]: entry["template"] for entry in found} if isinstance(found, list) else found


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's tokenizer_config.json; empty where there is none. Raises RunFault where it is broken."""
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8")) if (folder / CONFIG).is_file() else {}
    except ValueError as error:
        raise _unreadable(folder, f"{CONFIG} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise _unreadable(folder, f"{CONFIG} holds no object")
    return found


def _controls(settings: Mapping[str, Any], pieces: list[str], folder: Path) -> dict[int, str]:
    """Id → text of the pieces that control tokens stand in for: those of the chat models, and those that tokenizer_config.json names."""
    found = {number: text for number, text in CONTROLS.items() if number < len(pieces) and pieces[number].startswith(UNUSED)}
    for key, token in (settings.get("added_tokens_decoder") or {}).items():
        text = _text(token)
        if not str(key).isdecimal() or text is None or int(key) >= len(pieces):
            raise _unreadable(folder, f"{CONFIG} adds the token {key}, and {FILE} has {len(pieces):,} pieces")
        if pieces[int(key)].startswith(UNUSED):
            found[int(key)] = text
    return dict(sorted(found.items()))


def _text(token: Any) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _unreadable(folder: Path, reason: str) -> RunFault:
    hint = "take the files of the published model"
    return RunFault("SG498", f"the tokenizer in {folder} cannot be read: {reason}", hint, exit_code=WRONG)
