"""The tokenizer inside a GGUF file: tokens, merges or scores, how it splits, and the ids that mean something."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conversations.generation_tag import without_tags
from conversations.llama_cpp import PIECES, SPLITS, prepends_blank, split_of
from runtime.faults import WRONG, RunFault
from runtime.tokens.text_format import RowFormat

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

NO_SCORE = -1000.0  # of what no merge makes, as llama.cpp's converter has it


def add_tokenizer(writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, form: RowFormat, *, vocab_size: int) -> None:
    """Writes the tokenizer with its chat template. Raises RunFault where llama.cpp would split texts in another way."""
    content = described(tokenizer)
    split = split_of(content)
    if split is None:
        message = "llama.cpp has no tokenizer that splits texts as this model's does, so export.gguf cannot be written"
        raise RunFault("SG478", message, f"it knows {', '.join(SPLITS)} and SentencePiece; leave out export.gguf", exit_code=WRONG)
    model = content["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    texts, kinds = tokens_of(content, vocab_size, pieces=split == PIECES)
    if split == PIECES:
        writer.add_tokenizer_model(PIECES)
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(scores_of(texts, merges))
        writer.add_add_space_prefix(prepends_blank(content))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split)
        writer.add_token_merges(merges)
    writer.add_token_list([text.encode() for text in texts])
    writer.add_token_types(kinds)
    _add_special(writer, tokenizer, form, vocab_size)


def described(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """tokenizer.json as it stands in memory. Raises RunFault for a tokenizer that has none."""
    if not tokenizer.is_fast:
        message = "the tokenizer has no tokenizer.json, which export.gguf is made from"
        raise RunFault("SG478", message, "leave out export.gguf", exit_code=WRONG)
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return content


def tokens_of(content: Mapping[str, Any], vocab_size: int, *, pieces: bool) -> tuple[list[str], list[int]]:
    """Texts and types of all tokens, by id. Rows of the embedding that no token has are unused. Raises RunFault for a word without one."""
    from gguf import TokenType

    texts = [f"[PAD{index}]" for index in range(vocab_size)]
    kinds = [int(TokenType.UNUSED)] * vocab_size
    for text, index in content["model"]["vocab"].items():
        if index >= vocab_size:
            message = f"the tokenizer has the token {index}, and the embedding of the model ends before {vocab_size}"
            raise RunFault("SG478", message, "leave out export.gguf", exit_code=WRONG)
        texts[index] = text
        is_byte = pieces and len(text) == 6 and text.startswith("<0x") and text.endswith(">")
        kinds[index] = int(TokenType.BYTE if is_byte else TokenType.NORMAL)
    unknown = content["model"].get("unk_token")
    for token in content["added_tokens"]:
        index, text = token["id"], token["content"]
        if index >= vocab_size:
            continue  # of a model that sees, such as Gemma 3's image token: this one has no row of the embedding for it
        texts[index] = text.replace("\u2581", " ") if pieces and not token["special"] else text
        kinds[index] = int(TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED)
        if pieces and text == unknown:
            kinds[index] = int(TokenType.UNKNOWN)
    return texts, kinds


def scores_of(texts: list[str], merges: list[str]) -> list[float]:
    """What is merged first has the highest score: the order of merges is that of SentencePiece's scores."""
    ranks: dict[str, float] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), -float(rank))
    return [ranks.get(text, NO_SCORE) for text in texts]


def _add_special(writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, form: RowFormat, vocab_size: int) -> None:
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id, "unk": tokenizer.unk_token_id}
    for name, index in ids.items():
        if index is not None and index < vocab_size:
            getattr(writer, f"add_{name}_token_id")(index)
    if form.end_of_turn is not None:
        writer.add_eot_token_id(form.end_of_turn)
    writer.add_add_bos_token(bool(form.vocabulary.begin))
    writer.add_add_eos_token(False)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(without_tags(tokenizer.chat_template))
    elif tokenizer.chat_template:
        named = tokenizer.chat_template.items()
        writer.add_chat_template([{"name": name, "template": without_tags(text)} for name, text in named])
