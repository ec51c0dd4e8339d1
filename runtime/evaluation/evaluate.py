"""The stage `eval`: the merged model beside its base, on rows that are held out and on tasks, against the spec's thresholds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from conversations.row import Message
from conversations.similarity import rouge_l
from runtime import console, progress
from runtime.arithmetic import for_answers
from runtime.config import Config, EvalConfig, PerplexityConfig, ScoreConfig, TaskConfig
from runtime.data.held_rows import Asked, asked_rows
from runtime.evaluation.batches import answers
from runtime.evaluation.perplexity import Scored, perplexity, scored_rows
from runtime.evaluation.smoke import load_merged
from runtime.freed import give_back
from runtime.generation.generate import generator_of
from runtime.models.model import base_device, load_model, load_tokenizer
from runtime.vision.looking import eyes_of

ANSWERS = "answers.jsonl"
Figures = dict[str, float]


def evaluate(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    """Measures, writes the answers as JSON lines, and returns `passed` with every figure beside what it has to come to."""
    plan = config.eval
    assert plan is not None, "the stage is not asked for then"
    asked = asked_rows(config) if plan.sources else Asked()
    scored = scored_rows(config, asked.rows) if plan.sources and plan.metrics.perplexity else Scored()
    for line in (*asked.told(), *scored.told()):
        console.say("eval", line)
    work = _Work(config, asked, scored, folder)
    with console.counting_bar("eval    ", work.total) as work.show:
        before = work.measured(*_base(config)) if plan.base else None
        give_back()  # one model at a time
        after = work.measured(*load_merged(config, folder / "merge"))
    _write(out / ANSWERS, asked, before, after)
    results = [judged(name, wanted, before, after) for name, wanted in _wanted(plan, after)]
    for result in results:
        console.say("eval", line_of(result))
        for problem in result["problems"]:
            console.say("", f"  {problem}")
    return {
        "passed": not any(result["problems"] for result in results),
        "rows": len(asked.rows),
        "asked": len(asked.questions),
        "scored": scored.examples,
        "trained_on": asked.trained,
        "results": results,
    }


def _base(config: Config) -> tuple[Any, Any]:
    device = base_device(config.model, config.export.merged.device)
    return load_tokenizer(config.model, config.template), for_answers(load_model(config.model, device=device))


class Measured:
    """What one model came to: its figures by name, and its answers in the order of the questions."""

    def __init__(self) -> None:
        self.figures: Figures = {}
        self.texts: list[str] = []


class _Work:
    """Takes one model after another through all that is asked, and tells how far it is."""

    def __init__(self, config: Config, asked: Asked, scored: Scored, folder: Path) -> None:
        assert config.eval is not None
        self.config, self.plan, self.asked, self.scored = config, config.eval, asked, scored
        metrics = self.plan.metrics
        self.answers = bool(asked.questions) and (metrics.exact_match is not None or metrics.rouge_l is not None)
        models = 1 + self.plan.base
        self.total = models * ((len(asked.questions) if self.answers else 0) + scored.examples + len(self.plan.tasks))
        self.done = 0
        self.progress = progress.StageProgress(folder, "eval")
        self.show: Callable[[int], None] = lambda _done: None

    def measured(self, tokenizer: Any, model: Any) -> Measured:
        """The figures of a model, and its answers."""
        found = Measured()
        if self.answers:
            found.texts = self._answered(tokenizer, model)
            for name, score in (("exact_match", exact_match), ("rouge_l", rouge_l)):
                if getattr(self.plan.metrics, name) is not None:
                    scores = [score(text, asked.expected) for text, asked in zip(found.texts, self.asked.questions, strict=True)]
                    found.figures[name] = sum(scores) / len(scores)
        if self.scored.examples:
            found.figures["perplexity"] = perplexity(
                model,
                self.scored,
                batch_size=self.plan.batch_size,
                pad_id=tokenizer.pad_token_id or 0,
                passed=self._passed,
                eyes=eyes_of(self.config),
            )
        if self.plan.tasks:
            from runtime.evaluation.harness import score_of

            for task in self.plan.tasks:
                found.figures[name_of(task)] = score_of(task, model, tokenizer, batch_size=self.plan.batch_size)
                self._passed(1)
        return found

    @torch.inference_mode()
    def _answered(self, tokenizer: Any, model: Any) -> list[str]:
        generator = generator_of(self.config, tokenizer, self.config.chat)
        conversations = [question.conversation for question in self.asked.questions]
        texts = []
        found = answers(generator, model, conversations, batch_size=self.plan.batch_size, max_new_tokens=self.plan.max_new_tokens)
        for answer in found:
            texts.append(answer.text)
            self._passed(1)
        return texts

    def _passed(self, number: int) -> None:
        self.done += number
        self.show(self.done)
        self.progress.tell(step=self.done, total=self.total)


def exact_match(answer: str, expected: str) -> float:
    """1 where the answer is what is expected, but for spaces at both ends; else 0."""
    return float(answer.strip() == expected.strip())


def name_of(task: TaskConfig) -> str:
    """What a task's figure is called."""
    return f"{task.name} {task.metric}"


def _wanted(plan: EvalConfig, after: Measured) -> list[tuple[str, ScoreConfig | PerplexityConfig | TaskConfig]]:
    """Every figure that was measured, with what it has to come to."""
    metrics = plan.metrics
    named = {"exact_match": metrics.exact_match, "rouge_l": metrics.rouge_l, "perplexity": metrics.perplexity}
    found: list[tuple[str, ScoreConfig | PerplexityConfig | TaskConfig]] = [
        (name, wanted) for name, wanted in named.items() if wanted is not None and name in after.figures
    ]
    return found + [(name_of(task), task) for task in plan.tasks]


def judged(name: str, wanted: ScoreConfig | PerplexityConfig | TaskConfig, before: Measured | None, after: Measured) -> dict[str, Any]:
    """A figure of both models, what it has to come to, and what of that it fails."""
    figure, base = after.figures[name], before.figures[name] if before else None
    least, most = getattr(wanted, "min", None), getattr(wanted, "max", None)
    lower_is_better = isinstance(wanted, PerplexityConfig) or (least is None and most is not None)
    asked, problems = [], []
    if least is not None:
        asked.append(f"at least {least:g}")
        problems += [f"{name} is {figure:.4g}, less than {least:g}"] if not figure >= least else []
    if most is not None:
        asked.append(f"at most {most:g}")
        problems += [f"{name} is {figure:.4g}, more than {most:g}"] if not figure <= most else []
    if wanted.better_than_base:
        assert base is not None, name
        asked.append("better than the base")
        better = figure < base if lower_is_better else figure > base
        problems += [f"{name} is {figure:.4g}, and the base has {base:.4g}: no better"] if not better else []
    return {"name": name, "base": base, "tuned": figure, "wanted": ", ".join(asked), "problems": problems}


def line_of(result: dict[str, Any]) -> str:
    """A figure in a line."""
    base = "" if result["base"] is None else f"base {result['base']:.4g} → "
    mark = "✗ " if result["problems"] else "✓ " if result["wanted"] else ""
    wanted = f"      ({result['wanted']})" if result["wanted"] else ""
    return f"{mark}{result['name']} {base}{result['tuned']:.4g}{wanted}"


def _write(file: Path, asked: Asked, before: Measured | None, after: Measured) -> None:
    """One line for each question that was asked."""
    with file.open("w", encoding="utf-8") as stream:
        if not after.texts:
            return
        bases = before.texts if before else [None] * len(after.texts)
        for question, base, tuned in zip(asked.questions, bases, after.texts, strict=True):
            prompt: list[Message] = question.conversation["messages"]
            line: dict[str, Any] = {"prompt": prompt, "expected": question.expected, "base": base, "tuned": tuned}
            for name, score in (("exact_match", exact_match), ("rouge_l", rouge_l)):
                own = round(score(tuned, question.expected), 4)
                line[name] = {"base": None if base is None else round(score(base, question.expected), 4), "tuned": own}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
