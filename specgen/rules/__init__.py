"""Semantic checks: what the schema cannot say. One small function each, grouped by subject, listed in RULES.

A rule gets the complete tree and the facts, and yields diagnostics. Adding one is one function, its place in the list
and a folder under tests/specs_bad/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.rules import adapter, chat, data, template, train, zero
from specgen.source import Node

Rule = Callable[[Node, Facts], Iterator[Diagnostic]]

RULES: tuple[Rule, ...] = (
    template.tokenizer_has_a_template,
    template.template_renders,
    template.template_renders_the_data,
    template.system_text_of_the_template_is_shown,
    data.rows_are_left_for_training,
    data.text_rows_have_no_turns,
    adapter.targets_match,
    train.epochs_or_max_steps,
    train.warmup_ratio_or_steps,
    train.batch_divides,
    train.warmup_ends_before_training,
    train.intervals_fit_into_the_run,
    zero.offload_needs_a_stage,
    zero.quantized_weights_are_not_sharded,
    zero.sharing_needs_processes,
    chat.expressions_compile,
    chat.expectations_ask_something,
)


def check(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """All rules over one complete tree."""
    for rule in RULES:
        yield from rule(tree, facts)
