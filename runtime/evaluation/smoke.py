"""The smoke test: the merged folder, loaded as anyone would load it, has to pass the spec's conversations."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoTokenizer, GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from conversations.row import Message
from runtime import console
from runtime.arithmetic import for_answers
from runtime.config import Config, SmokeConfig, TurnConfig
from runtime.devices import roomy_device
from runtime.evaluation.expectations import unmet
from runtime.freed import give_back
from runtime.generation.generate import Answer, Generator, generation_config, generator_of
from runtime.internlm2.folders import readable
from runtime.models.model import auto_class, base_device, load_model, load_tokenizer, torch_dtype
from runtime.tokens.text_format import row_format
from runtime.vision.form import asking


class Said(NamedTuple):
    """An answer, and how long it took."""

    answer: Answer
    seconds: float


def smoke(config: Config, folder: Path, _out: Path) -> dict[str, Any]:
    """Asks the merged model, and the base for comparison. Returns `passed` and the transcript, one entry for each turn."""
    write_settings(config, folder / "merge")
    if not config.smoke:
        console.say("smoke", "the spec asks nothing")
        return {"passed": True, "transcript": []}
    before = _base_answers(config)
    give_back()
    after = merged_answers(config, folder / "merge")
    transcript = []
    for item, base, said in zip(config.smoke, before, after, strict=True):
        for number, (turn, base_said, own) in enumerate(zip(turns_of(item), base, said, strict=True), start=1):
            problems = unmet(turn.expect, own.answer, own.seconds)
            _say(turn.user, number, own, base_said, problems)
            transcript.append(
                {
                    "turn": number,
                    "user": turn.user,
                    "answer": own.answer.text,
                    "base": base_said.answer.text,
                    "stopped": own.answer.stopped,
                    "tokens": own.answer.tokens,
                    "seconds": round(own.seconds, 3),
                    "problems": problems,
                }
            )
    return {"passed": not any(entry["problems"] for entry in transcript), "transcript": transcript}


def turns_of(item: SmokeConfig) -> tuple[SmokeConfig | TurnConfig, ...]:
    """The questions of a conversation, the first one first."""
    return (item, *item.then)


def _say(question: str, number: int, said: Said, base: Said, problems: list[str]) -> None:
    mark = "✗" if problems else "✓"
    question = ("… " if number > 1 else "") + console.one_line(question, 40)
    base_text = console.one_line(base.answer.text, 60)
    console.say("smoke", f"{mark} {question} → {console.one_line(said.answer.text)}      (base: {base_text})")
    for problem in problems:
        console.say("", f"  {problem}")


def merged_answers(config: Config, merged: Path) -> list[list[Said]]:
    """The answers of the merged folder, conversation by conversation."""
    tokenizer, model = load_merged(config, merged)
    return _conversations(config, tokenizer, model)


def write_settings(config: Config, merged: Path) -> None:
    """Writes the section chat into generation_config.json once more: a change of it is not worth a merge."""
    tokenizer = AutoTokenizer.from_pretrained(readable(merged), trust_remote_code=config.model.trust_remote_code)
    form = row_format(tokenizer, config, system=config.chat.system)
    settings = generation_config(config.chat, tokenizer, form, GenerationConfig.from_pretrained(merged))
    with tempfile.TemporaryDirectory(prefix=".settings-", dir=merged.parent) as aside:
        settings.save_pretrained(aside)
        (Path(aside) / GENERATION_CONFIG_NAME).replace(merged / GENERATION_CONFIG_NAME)


def load_merged(config: Config, merged: Path) -> tuple[Any, Any]:
    """The merged folder, loaded as anyone would load it."""
    place, dtype = readable(merged), torch_dtype(config.export.merged.dtype)
    device = roomy_device(config.export.merged.device, place, dtype)
    trusted = config.model.trust_remote_code  # of a model with code of its own transformers would ask, and nobody is there to answer
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trusted)
    model = auto_class(place).from_pretrained(place, dtype=dtype, trust_remote_code=trusted).to(device)
    return tokenizer, for_answers(model)


def _base_answers(config: Config) -> list[list[Said]]:
    tokenizer = load_tokenizer(config.model, config.template)
    model = for_answers(load_model(config.model, device=base_device(config.model, config.export.merged.device)))
    return _conversations(config, tokenizer, model)


def _conversations(config: Config, tokenizer: Any, model: torch.nn.Module) -> list[list[Said]]:
    generator = generator_of(config, tokenizer, config.chat)
    is_timed = any(turn.expect.within_seconds is not None for item in config.smoke for turn in turns_of(item))
    if is_timed:  # what a process does once, at its first answer, is not what a user waits for
        generator.answer(model, [asked(config.smoke[0])], max_new_tokens=1)
    return [_conversation(generator, model, item, joins=config.train.objective == "chat") for item in config.smoke]


def asked(turn: SmokeConfig | TurnConfig) -> Message:
    """A question, with the image that it is of if it has one."""
    image = turn.image if isinstance(turn, SmokeConfig) else None
    return asking(turn.user, [image] if image is not None else [])


def _conversation(generator: Generator, model: torch.nn.Module, item: SmokeConfig, *, joins: bool) -> list[Said]:
    """Each question with what was said before it: a model that learned text alone has no turns, and continues each for itself."""
    messages: list[Message] = []
    found: list[Said] = []
    for turn in turns_of(item):
        messages = [*(messages if joins else ()), asked(turn)]
        began = time.perf_counter()
        answer = generator.answer(model, messages)
        found.append(Said(answer, time.perf_counter() - began))
        messages.append({"role": "assistant", "content": answer.text})
    return found
