"""Rules about eval: what is asked, what it is held against, and that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from conversations.task_files import BadTask, read_task
from specgen.diagnostics import Diagnostic, printable
from specgen.facts.gather import Facts
from specgen.reading import regular
from specgen.resolve import METRICS
from specgen.rules.template import learns_text, row_count
from specgen.source import Node
from specgen.validate import place_of


def something_is_asked(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An evaluation without rows and tasks measures nothing; a threshold without what it is of is missed by nobody."""
    plan = tree.children["eval"]
    if not plan.children:
        return
    sources, tasks = plan.children["sources"].items, plan.children["tasks"].items
    if not sources and not tasks:
        yield _fault("SG692", plan, "eval names neither sources nor tasks: nothing is measured", "give it sources: [{file: {path: …}}]")
        return
    if sources and not measured_on_rows(tree):
        message = "every metric of eval is null: the rows are not asked"
        if learns_text(tree):
            message = "train.objective: text is measured by perplexity alone, which is null: the rows are not asked"
        hint = "leave perplexity out" if learns_text(tree) else "leave one of them out"
        yield _fault("SG692", plan.children["sources"], message, hint)
    for name in METRICS:
        metric = plan.children["metrics"].children[name]
        if not metric.children or not _thresholds(metric):
            continue
        if not sources:
            yield _fault("SG692", metric, f"{name} is measured on rows, and eval has no sources", "give it sources")
        elif name != "perplexity" and learns_text(tree):
            hint = "perplexity is what a text model is measured by"
            yield _fault("SG692", metric, f"train.objective: text has no answers, so {name} is not measured", hint)


def measured_on_rows(tree: Node) -> set[str]:
    """The metrics of eval that the run measures on rows: those that are not null, and of a text model, which answers nothing, only
    perplexity."""
    metrics = tree.children["eval"].children["metrics"].children
    asked = {name for name in METRICS if metrics[name].children}
    return asked & {"perplexity"} if learns_text(tree) else asked


def thresholds_mean_something(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A range without a number, and a comparison with a base that is not asked."""
    plan = tree.children["eval"]
    if not plan.children:
        return
    metrics = [metric for metric in plan.children["metrics"].children.values() if metric.children]
    for judged in (*metrics, *plan.children["tasks"].items):
        better = judged.children["better_than_base"]
        if better.value and not plan.children["base"].value:
            yield _fault("SG693", better, "better_than_base needs the base's figure, and eval.base is false", "base: true")
        least, most = judged.children.get("min"), judged.children.get("max")
        if least and most and isinstance(least.value, int | float) and isinstance(most.value, int | float) and least.value > most.value:
            yield _fault("SG693", least, f"min {least.value:g} is more than max {most.value:g}: no figure passes", "exchange the two")
    seen: set[tuple[str, str]] = set()
    for task in plan.children["tasks"].items:
        named = task.text("name"), task.text("metric")
        if named in seen:
            yield _fault("SG693", task.children["name"], f"{named[0]} {named[1]} stands here twice", "leave one of them out")
        seen.add(named)


def task_files_are_tasks(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A file of lm-evaluation-harness, which holds data and no code."""
    tasks = tree.at("eval", "tasks")
    for task in tasks.items if tasks else ():
        path = task.children["path"]
        if path.value is None:
            continue
        name = printable(str(path.value))
        try:
            read_task(regular(Path(str(path.value))), task.text("name"))
        except BadTask as fault:
            yield _fault("SG694", path, printable(f"{name}: {fault}"), fault.hint)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            yield _fault(
                "SG694", path, f"the task file {name} cannot be read: {reason}", f"paths start at the working folder, {Path.cwd()}"
            )


def rows_are_held_out(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What was learned by heart shows nothing."""
    tested = facts.tested
    place = place_of(tree, "eval", "sources")
    if tested.trained:
        verb = "is" if tested.trained == 1 else "are"
        yield Diagnostic(
            code="SG690",
            message=f"{tested.trained:,} of {row_count(tested.rows)} of eval.sources {verb} trained on, too",
            place=place,
            hint="take them out of one of the two; smoke is for what has to be known by heart",
        )
    elif tested.prompts:
        has = "has" if tested.prompts == 1 else "have"
        yield Diagnostic(
            code="SG691",
            severity="note",
            message=f"{tested.prompts:,} of {row_count(tested.rows)} of eval.sources {has} a prompt that is trained on, too,"
            " with another answer",
            place=place,
        )


def expected_answers_can_be_said(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An answer of so few tokens is never what is expected."""
    plan = tree.children["eval"]
    if not plan.children or not measured_on_rows(tree) - {"perplexity"}:
        return
    own = plan.children["max_new_tokens"]
    most = own.value if isinstance(own.value, int) else tree.number("chat", "max_new_tokens")
    rows = [row for source in facts.eval_sources for row in source.texts]
    lengths = [len(answer.split()) for row in rows if (answer := last_answer(row))]
    too_long = [length for length in lengths if length > most]
    if too_long:
        whose = "eval.max_new_tokens" if isinstance(own.value, int) else "chat.max_new_tokens"
        have = "has" if len(too_long) == 1 else "have"
        yield Diagnostic(
            code="SG699",
            severity="warning",
            message=f"{len(too_long):,} of the expected answers {have} more words than {whose}, {most}: the longest {max(too_long)}",
            place=own.place or place_of(tree, "eval", "sources"),
            hint=f"max_new_tokens: {2 * max(too_long)}",
        )


def last_answer(row: str) -> str | None:
    """What a row ends with, if that is an answer."""
    from conversations.row import messages_of

    last = messages_of(row)[-1]
    return str(last["content"]) if last["role"] == "assistant" else None


def _thresholds(metric: Node) -> bool:
    return any(metric.children[key].value is not None for key in ("min", "max") if key in metric.children) or bool(
        metric.children["better_than_base"].value
    )


def _fault(code: str, node: Node, message: str, hint: str | None) -> Diagnostic:
    return Diagnostic(code=code, message=message, place=node.place or node.key, hint=hint)
