"""The smoke test: the merged folder, loaded as anyone would load it, has to pass the spec's conversations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from runtime import console
from runtime.config import Config, ExpectConfig
from runtime.generate import Answer, Generator
from runtime.model import load_model, load_tokenizer, pick_device, torch_dtype
from runtime.text_format import row_format


def smoke(config: Config, folder: Path, _out: Path) -> dict[str, Any]:
    """Asks the merged model, and the base for comparison. Returns `passed` and the transcript."""
    if not config.smoke:
        console.say("smoke", "the spec asks nothing")
        return {"passed": True, "transcript": []}
    prompts = [item.user for item in config.smoke]
    before = _base_answers(config, prompts)
    after = merged_answers(config, folder / "merge", prompts)
    transcript = []
    for item, base_answer, answer in zip(config.smoke, before, after, strict=True):
        problems = unmet(item.expect, answer)
        mark = "✓" if not problems else "✗"
        base_text = console.one_line(base_answer.text, 60)
        console.say("smoke", f"{mark} {console.one_line(item.user, 40)} → {console.one_line(answer.text)}      (base: {base_text})")
        for problem in problems:
            console.say("", f"  {problem}")
        transcript.append(
            {
                "user": item.user,
                "answer": answer.text,
                "base": base_answer.text,
                "stopped": answer.stopped,
                "tokens": answer.tokens,
                "problems": problems,
            }
        )
    return {"passed": not any(entry["problems"] for entry in transcript), "transcript": transcript}


def unmet(expect: ExpectConfig, answer: Answer) -> list[str]:
    """What an answer fails of an expectation; empty where it passes."""
    problems = [f"does not contain {text!r}" for text in expect.contains if text not in answer.text]
    problems += [f"contains {text!r}" for text in expect.not_contains if text in answer.text]
    problems += [f"does not match {pattern!r}" for pattern in expect.matches if not re.search(pattern, answer.text)]
    if expect.stops and not answer.stopped:
        problems.append(f"did not stop by itself within {answer.tokens} tokens")
    return problems


def merged_answers(config: Config, merged: Path, prompts: list[str]) -> list[Answer]:
    """Answers of the merged folder to single questions."""
    device = pick_device(config.export.merged.device)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch_dtype(config.export.merged.dtype)).to(device).eval()
    return _answers(config, tokenizer, model, prompts)


def _base_answers(config: Config, prompts: list[str]) -> list[Answer]:
    tokenizer = load_tokenizer(config.model, config.template)
    model = load_model(config.model, device=pick_device()).eval()
    return _answers(config, tokenizer, model, prompts)


def _answers(config: Config, tokenizer: Any, model: torch.nn.Module, prompts: list[str]) -> list[Answer]:
    form = row_format(tokenizer, config, system=config.chat.system)
    generator = Generator(tokenizer, form, config.chat)
    return [generator.answer(model, [{"role": "user", "content": prompt}]) for prompt in prompts]
