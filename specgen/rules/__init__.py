"""Semantic checks: what the schema cannot say. One small function each, grouped by subject, listed in RULES.

A rule gets the complete tree and the facts, and yields diagnostics. Adding one is one function, its place in the list
and a folder under tests/specs_bad/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.rules import (
    adapter,
    chat,
    data,
    export,
    figures,
    generation,
    hardware,
    lengths,
    matrix,
    questions,
    rows,
    secrets,
    sources,
    template,
    tokens,
    train,
    zero,
)
from specgen.source import Node

Rule = Callable[[Node, Facts], Iterator[Diagnostic]]

RULES: tuple[Rule, ...] = (
    template.tokenizer_has_a_template,
    template.template_renders,
    template.template_renders_the_data,
    template.system_text_of_the_template_is_shown,
    template.system_text_is_shown,
    template.earlier_turns_stay,
    template.the_generation_prompt_is_whole,
    template.contents_stay_as_they_are,
    template.the_template_knows_no_date,
    tokens.answers_end_where_generation_stops,
    tokens.control_strings_are_tokens,
    tokens.the_template_is_the_models_own,
    tokens.a_base_model_knows_the_control_tokens,
    tokens.control_tokens_have_been_trained,
    tokens.a_text_begins_once,
    tokens.a_text_begins,
    data.rows_are_left_for_training,
    data.text_rows_have_no_turns,
    sources.paths_stay_inside,
    sources.files_are_read_once,
    sources.sources_carry_weight,
    sources.variables_are_used,
    sources.the_hub_is_pinned,
    rows.shares_keep_to_their_limits,
    rows.validation_fills_a_batch,
    rows.validation_asks_something_new,
    rows.answers_differ,
    rows.rows_are_not_one,
    rows.files_do_not_repeat_rows,
    rows.control_tokens_are_text,
    rows.texts_are_clean,
    rows.conversations_end_with_an_answer,
    rows.turns_alternate,
    rows.system_texts_are_one,
    rows.rows_hold_no_secrets,
    rows.chat_rows_lose_their_roles,
    rows.packing_leaves_steps,
    lengths.rows_fit_into_the_model,
    lengths.so_much_can_be_trained,
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
    data.limits_go_with_the_policy,
    export.the_adapter_keeps_the_merge_exact,
    export.the_name_is_not_the_base,
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
    chat.the_base_generates_consistently,
    chat.stop_texts_can_be_said,
    chat.system_texts_say_something,
    questions.questions_are_spelled_as_in_the_rows,
    questions.expectations_follow_the_rows,
)


def check(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """All rules over one complete tree."""
    for rule in RULES:
        yield from rule(tree, facts)
