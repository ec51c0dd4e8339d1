"""Answers: the first token and the tokens a second, beside transformers' own `generate`, each in a process of its own.

    python -m benchmarks.chat

Greedy, 48 tokens of SmolLM2-135M, after one answer that does not count; from the start of the process, too. Both stream.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench import BASE, RUNS, Figures, Report, Table, Target, base_in, measured, medians, versions

PROMPT = "Tell me about the planets of the solar system, one after another."
TOKENS = 48
OURS, PLAIN = "specgen chat", "transformers' generate"


def main() -> None:
    """Measures all ways of chatting and shows the report; with --part one of them, in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](arguments.folder)))
        return
    about = f"{TOKENS} tokens, one at a time"
    report = Report(name="chat", about=about, runs=arguments.runs, versions=versions("specgen", "transformers", "torch"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = base_in(folder)
        report.figures["chat"] = medians({way: partial(_of, way, base) for way in PARTS}, runs=arguments.runs, what="chat")
    show(report)
    report.show()


def _of(way: str, base: Path) -> Figures:
    sample = measured([sys.executable, "-m", "benchmarks.chat", "--part", way, "--folder", base])
    return {**json.loads(sample.output.splitlines()[-1]), "seconds": sample.seconds, "gb": sample.peak / 1e9}


def show(report: Report) -> None:
    """The table, and what has to hold."""
    found = report.figures["chat"]
    columns = ("", "first token, ms", "tokens/s", "beside generate", "whole process, s", "peak memory, GB")
    table = Table(title="Chat", columns=columns, note=f"Of {BASE.rpartition('/')[2]}, in the type of its folder.")
    for way, of in found.items():
        ratio = of["tokens_s"] / found[PLAIN]["tokens_s"]
        row = (f"{of['first'] * 1000:.0f}", f"{of['tokens_s']:.1f}", f"{ratio:.2f}", f"{of['seconds']:.1f}", f"{of['gb']:.2f}")
        table.rows.append((way, *row))
    report.tables.append(table)
    ours, plain = found[OURS], found[PLAIN]
    report.targets.append(Target(what="tokens/s beside generate", found=ours["tokens_s"] / plain["tokens_s"], least=0.95))
    report.targets.append(Target(what="time to the first token beside generate", found=ours["first"] / plain["first"], most=1.1))


def by_specgen(folder: Path) -> Figures:
    """What `specgen chat` calls: the model by its folder, and pieces of text as they come."""
    from dataclasses import replace

    from runtime.talking.talker import Loading, of_folder

    talker = of_folder(folder, Loading())
    chat = replace(talker.chat, temperature=0.0, max_new_tokens=TOKENS)
    found: Figures = {}
    for _ in range(2):
        clock = _Clock()
        answer = talker.answer([{"role": "user", "content": PROMPT}], chat=chat, show=clock.piece)
        found = clock.figures(answer.tokens)
    return found


def _streamer(tokenizer: Any, clock: _Clock) -> Any:
    from transformers import TextStreamer

    class Streamer(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            clock.piece(text)

    return Streamer(tokenizer, skip_prompt=True)


def by_transformers(folder: Path) -> Figures:
    """transformers alone, with its streamer of text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    messages = [{"role": "user", "content": PROMPT}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    found: Figures = {}
    for _ in range(2):
        clock = _Clock()

        ids = model.generate(**prompt, max_new_tokens=TOKENS, do_sample=False, streamer=_streamer(tokenizer, clock))
        found = clock.figures(ids.shape[1] - prompt["input_ids"].shape[1])
    return found


class _Clock:
    def __init__(self) -> None:
        self.began, self.first = time.perf_counter(), 0.0

    def piece(self, text: str) -> None:
        """Takes the time of the first text."""
        if text and not self.first:
            self.first = time.perf_counter() - self.began

    def figures(self, tokens: int) -> Figures:
        """Seconds to the first text, and tokens a second over all."""
        return {"first": self.first, "tokens_s": tokens / (time.perf_counter() - self.began)}


PARTS = {PLAIN: by_transformers, OURS: by_specgen}


if __name__ == "__main__":
    main()
