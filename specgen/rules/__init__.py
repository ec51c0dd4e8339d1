"""Semantic checks: what the schema cannot say. One small function each, grouped by subject, listed in RULES.

A rule gets the complete tree and the facts, and yields diagnostics. Adding one is one function, its place in the list
and a folder under tests/specs_bad/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.rules import adapter, chat, data, export, figures, generation, hardware, matrix, secrets, template, train, zero
from specgen.source import Node

Rule = Callable[[Node, Facts], Iterator[Diagnostic]]

RULES: tuple[Rule, ...] = (
    template.tokenizer_has_a_template,
    template.template_renders,
    template.template_renders_the_data,
    template.system_text_of_the_template_is_shown,
    data.rows_are_left_for_training,
    data.text_rows_have_no_turns,
    figures.limits_hold,
    adapter.targets_match,
    adapter.targets_match_every_layer,
    adapter.saved_modules_match,
    adapter.tied_weights_are_not_parted,
    adapter.skipped_modules_match,
    adapter.rank_is_lower_than_the_layers,
    adapter.scaling_is_usual,
    adapter.dropout_is_usual,
    adapter.the_base_is_not_quantized_already,
    adapter.a_gguf_base_is_not_quantized_twice,
    matrix.settings_work_together,
    hardware.every_process_has_a_device,
    train.epochs_or_max_steps,
    train.warmup_ratio_or_steps,
    train.batch_divides,
    train.warmup_ends_before_training,
    train.intervals_fit_into_the_run,
    train.a_batch_has_rows_enough,
    train.checkpoints_fall_into_the_run,
    train.learning_rate_is_usual,
    train.betas_belong_to_adam,
    train.warmup_is_no_large_part,
    train.previews_leave_time_to_train,
    zero.sharing_needs_processes,
    zero.deepspeed_settings_need_a_stage,
    zero.deepspeed_settings_are_typed,
    zero.deepspeed_settings_agree,
    zero.deepspeed_leaves_the_optimizer,
    zero.deepspeed_keys_are_known,
    secrets.nothing_is_secret,
    export.merged_dtype_holds_the_weights,
    export.shards_are_few,
    export.limits_go_with_the_policy,
    generation.sampling_settings_count,
    generation.sampling_stays_readable,
    generation.chat_has_the_system_text_of_training,
    generation.answers_fit_into_the_model,
    generation.expected_texts_can_occur,
    generation.expressions_ask_something,
    generation.questions_are_asked_once,
    generation.questions_of_the_smoke_test_are_trained,
    generation.text_models_do_not_stop,
    chat.expressions_compile,
    chat.expectations_ask_something,
)


def check(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """All rules over one complete tree."""
    for rule in RULES:
        yield from rule(tree, facts)
