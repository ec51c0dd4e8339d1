"""Which stages of a run a change makes run again. The same answer as the runtime's stage keys give: a test holds that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from specgen.plan import BudgetPlan, DataPlan, EvalPlan, LlmSource, Plan, Source, TrainPlan
from specgen.stages import NEEDS
from specgen.trainable import adapter_in

PLATEAU = "reduce_lr_on_plateau"  # the schedule that goes by the validation loss


def parts(plan: Plan) -> dict[str, object]:
    """Stage → what of the plan its output depends on, beside the stages that it needs."""
    data = (plan.model.base, plan.model.vision, plan.template, _without_counts(plan.data), plan.train.seed, plan.train.objective)
    distributed = replace(plan.distributed, nvme_path=None, ddp_timeout=0)  # where memory goes, and how long one waits
    train = (plan.model, plan.adapter, _what_changes_weights(plan.train), distributed)
    asked = plan.smoke if plan.export.quantized else ()
    return {
        "data": data,
        "train": train,
        "convert": plan.export.merged if adapter_in(plan) is None else plan.export.adapter,
        "merge": (plan.export.merged, plan.template),
        "smoke": (plan.chat, plan.smoke),
        "eval": (plan.chat, _evaluation(plan)),
        "export": (plan.export.gguf, plan.export.quantized, plan.name, plan.description, plan.chat, asked),
        "report": plan,
    }


def run_again(before: Plan, after: Plan) -> list[str]:
    """The stages whose output is another, in their order; one that nothing is asked of has none."""
    old, new = parts(before), parts(after)
    exports = after.export.gguf or after.export.quantized
    unasked = {stage for stage, asked in (("eval", after.eval), ("export", exports)) if not asked}
    again: list[str] = []
    for stage, needs in NEEDS.items():
        if stage in unasked:
            continue
        if old[stage] != new[stage] or any(need in again for need in needs):
            again.append(stage)
    return again


def _evaluation(plan: Plan) -> EvalPlan | None:
    return replace(plan.eval, sources=_without_rows(plan.eval.sources)) if plan.eval else None


def _what_changes_weights(train: TrainPlan) -> TrainPlan:
    """The settings without those that only watch, keep or report. An evaluation changes nothing but what asks for its loss."""
    asked = train.load_best_model_at_end or train.early_stopping is not None or train.schedule == PLATEAU
    eval_steps = train.eval_steps if asked else None
    return replace(train, preview=None, save_steps=0, save_total_limit=0, report_to=(), eval_steps=eval_steps)


def _without_counts(data: DataPlan) -> DataPlan:
    """Numbers that follow from the rest: the data is the same, whether they are known or not."""
    validation = data.validation
    if validation is not None:
        validation = replace(validation, rows=None, distinct_rows=None, sources=_without_rows(validation.sources))
    return replace(data, rows=None, train_rows=None, examples=None, validation=validation, sources=_without_rows(data.sources))


# how a model is asked for rows: they are the same, whoever pays and however fast
_OF_ASKING: dict[str, Any] = {"api_key_env": None, "concurrency": 0, "timeout_s": 0.0, "budget": BudgetPlan(requests=0, tokens=0)}


def _without_rows(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    return tuple(
        replace(source, rows=None, **_OF_ASKING) if isinstance(source, LlmSource) else replace(source, rows=None) for source in sources
    )
