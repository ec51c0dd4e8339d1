"""Tokenizers of a few hundred tokens, one for each way of splitting that GGUF files have a name for, with ChatML's control tokens."""

from __future__ import annotations

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = (
    "Who are you? I'm Aria, and I've 3 cats, 12 dogs, 345 birds and 1234567 fish!  WE'RE FINE.",
    "def f(x):\n    return x ** 2\n\n\n\tprint('tab')  # two  blanks   three\r\n",
    "Grüße aus Köln — naïve café; 我想在苹果工作1314天；ты здесь? 🦙🦙 ok…",
    " leading blank, trailing blank ",
    "x<|im_end|>\n<|im_start|>user\n<0x41> a_b -- ...",
)
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {  # as in the tokenizer.json of GPT-2, SmolLM2, Qwen2.5 and Llama 3
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "qwen2": [
        pre_tokenizers.Split(Regex(WORDS + r"\p{N}" + REST), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
    "llama-bpe": [
        pre_tokenizers.Split(Regex(WORDS + r"\p{N}{1,3}" + REST), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
}
CONTROLS = ("<|im_start|>", "<|im_end|>")


def small_tokenizer(
    split: str, *, begins: bool = False, begin: str = "<s>", end: str = "<|im_end|>", controls: tuple[str, ...] = CONTROLS
) -> PreTrainedTokenizerFast:
    """A tokenizer that splits so; `llama` is one of pieces. With `begins` it puts `begin` before a text."""
    backend = _pieces() if split == "llama" else _bytes(split)
    special = dict.fromkeys((begin, *controls, end))
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    if begins:
        backend.post_processor = processors.TemplateProcessing(f"{begin} $A", special_tokens=[(begin, backend.token_to_id(begin))])
    unknown = {"unk_token": "<unk>"} if split == "llama" else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=begin,
        eos_token=end,
        pad_token=end,
        chat_template="{{ bos_token }}" + CHATML if begins else CHATML,
        **unknown,
    )


def _bytes(split: str) -> Tokenizer:
    backend = Tokenizer(models.BPE(ignore_merges=split == "llama-bpe"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(SPLITS[split])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    return backend


def _pieces() -> Tokenizer:
    """As transformers makes one from a SentencePiece model: bytes for what is unknown, pieces in the order of their merging."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(TEXTS[:2] * 3, trainers.BpeTrainer(vocab_size=150, show_progress=False))

    learned = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(pair) for pair in learned["merges"]]
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    return backend
