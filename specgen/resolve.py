"""Complete tree + facts → plan. Pure; called only when no check has found an error."""

from __future__ import annotations

from typing import Any

from specgen import plan as p
from specgen.facts.gather import Facts, SourceFacts, VisionFacts
from specgen.schedule import schedule, world_size
from specgen.schema import refusals
from specgen.sizes import size_in_bytes
from specgen.source import Node

WHAT_SEES = ("model.vision_tower", "model.multi_modal_projector")


def resolve(tree: Node, facts: Facts) -> p.Plan:
    """Every number concrete, every derived value computed."""
    spec: dict[str, Any] = _plain(tree)
    return p.Plan(
        specgen=spec["specgen"],
        name=spec["name"],
        description=spec["description"],
        model=_model(spec["model"], facts),
        template=facts.template,
        adapter=adapter_plan(spec["adapter"]),
        data=_data(spec, facts),
        train=_train(tree, spec["train"], facts),
        distributed=_distributed(tree, spec["distributed"]),
        hardware=_hardware(spec["hardware"]),
        export=_export(spec["export"]),
        chat=_chat(spec["chat"], spec["data"]["system"]),
        smoke=tuple(_smoke(item, spec["train"]["objective"]) for item in tree.children["smoke"].items),
        eval=_eval(spec, facts) if spec["eval"] else None,
    )


def _plain(tree: Node) -> dict[str, Any]:
    plain = tree.plain()
    assert isinstance(plain, dict)
    return plain


def _model(model: dict[str, Any], facts: Facts) -> p.ModelPlan:
    quantization: p.Nf4Quantization | p.Int8Quantization | None = None
    if model["quantization"]:
        kind, settings = next(iter(model["quantization"].items()))
        settings = {**settings, "skip_modules": _skipped(settings["skip_modules"], sees=model["vision"] is not None)}
        quantization = p.Nf4Quantization(**settings) if kind == "nf4" else p.Int8Quantization(**settings)
    return p.ModelPlan(
        base=facts.base,
        dtype=model["dtype"],
        attention=model["attention"],
        quantization=quantization,
        trust_remote_code=model["trust_remote_code"],
        from_run=model["from_run"],
        vision=_vision(model["vision"], facts.vision),
    )


def _vision(vision: dict[str, Any] | None, facts: VisionFacts | None) -> p.VisionPlan | None:
    if vision is None or facts is None:
        return None
    image_tokens = facts.tower.image_tokens if facts.tower else None
    return p.VisionPlan(**{**vision, "tower": facts.base}, image_tokens=image_tokens)


def _skipped(modules: list[str], *, sees: bool) -> tuple[str, ...]:
    """A list of one's own replaces the one that transformers makes, which keeps the output layer whole: it is named, too. What sees
    stays whole, by the dotted paths that it has in transformers' LLaVA: their beginnings are what transformers matches."""
    return tuple(dict.fromkeys([*modules, "lm_head", *(WHAT_SEES if sees else ())]))


def adapter_plan(adapter: dict[str, Any] | None) -> p.LoraAdapter | None:
    """The adapter of a complete spec, as it is there."""
    if adapter is None:
        return None
    lora = adapter["lora"]
    targets = lora["targets"]
    layers = lora["layers_to_transform"]
    lists = {
        "targets": "all-linear" if targets == "all-linear" else tuple(targets),
        "modules_to_save": tuple(lora["modules_to_save"]),
        "exclude_modules": tuple(lora["exclude_modules"]),
        "layers_to_transform": None if layers is None else tuple(layers),
        "vision_tower": p.TowerLora(**lora["vision_tower"]) if lora["vision_tower"] else None,
    }
    return p.LoraAdapter(**{**lora, **lists})


def _hardware(hardware: dict[str, Any]) -> p.HardwarePlan:
    memory = hardware["device_memory"]
    return p.HardwarePlan(**{**hardware, "device_memory": None if memory is None else size_in_bytes(memory)})


def _data(spec: dict[str, Any], facts: Facts) -> p.DataPlan:
    data = spec["data"]
    near = data["near_duplicates"]
    return p.DataPlan(
        system=data["system"],
        train_on=data["train_on"],
        train_end_of_turn=data["train_end_of_turn"],
        unroll=data["unroll"],
        max_length=data["max_length"],
        overlong=data["overlong"],
        truncate_from=data["truncate_from"],
        on_bad_row=data["on_bad_row"],
        packing=data["packing"],
        near_duplicates=p.NearDuplicatesPlan(**near) if near else None,
        limits=p.LimitsPlan(**data["limits"]),
        validation=_validation(data["validation"], facts) if data["validation"] else None,
        sources=_sources(data["sources"], facts.sources),
        rows=facts.rows,
        train_rows=facts.train_rows,
        examples=facts.examples,
    )


def _validation(validation: dict[str, Any], facts: Facts) -> p.ValidationPlan:
    return p.ValidationPlan(
        fraction=validation.get("fraction"),
        count=validation.get("rows"),
        sources=_sources(validation.get("sources", []), facts.validation_sources),
        distinct_rows=facts.survey.held_distinct if facts.held_out_known else None,
        rows=facts.survey.held_rows if facts.held_out_known else None,
    )


def _sources(sources: list[dict[str, Any]], facts: tuple[SourceFacts, ...]) -> tuple[p.Source, ...]:
    return tuple(_source(*next(iter(source.items())), found) for source, found in zip(sources, facts, strict=True))


def _source(kind: str, settings: dict[str, Any], facts: SourceFacts) -> p.Source:
    if kind == "hub":
        revision = facts.revision or settings["revision"]
        return p.HubSource(**{**settings, "revision": revision, "row": _row(settings["row"])}, rows=facts.rows)
    if kind == "file":
        own = {name: value for name, value in settings.items() if name != "path"}
        return p.FileSource(**{**own, "row": _row(settings["row"]), "images": facts.images}, files=facts.files, rows=facts.rows)
    variables = {name: _variable(name, value, facts) for name, value in settings["variables"].items()}
    if kind == "llm":
        judge = settings["judge"]
        parts = {
            "variables": variables,
            "prompt": _turns(settings["prompt"]),
            "row": _turns(settings["row"]),
            "judge": p.JudgePlan(prompt=_turns(judge["prompt"]), least=judge["least"]) if judge else None,
            "budget": p.BudgetPlan(**settings["budget"]),
        }
        return p.LlmSource(**{**settings, **parts}, requests=facts.requests, rows=facts.rows)
    messages = (next(iter(message.items())) for message in settings["messages"])
    rules = tuple(p.MessageRule(role=role, content=tuple(text) if isinstance(text, list) else text) for role, text in messages)
    return p.SyntheticSource(**{**settings, "variables": variables, "messages": rules}, rows=facts.rows)


def _variable(name: str, value: Any, facts: SourceFacts) -> p.Variable:
    if isinstance(value, list):
        return tuple(value)
    kind, settings = next(iter(value.items()))
    if kind == "range":
        return p.RangeVariable(**settings)
    return facts.variables[name] if kind == "file" else p.RuleVariable(name=settings)


def _row(row: list[dict[p.Role, str]] | str | None) -> tuple[p.TurnRule, ...] | str | None:
    return _turns(row) if isinstance(row, list) else row


def _turns(turns: list[dict[p.Role, str]]) -> tuple[p.TurnRule, ...]:
    return tuple(p.TurnRule(role=role, content=content) for turn in turns for role, content in turn.items())


def _train(tree: Node, train: dict[str, Any], facts: Facts) -> p.TrainPlan:
    steps = schedule(tree, facts.examples)
    preview, early_stopping, loss_spike = train["preview"], train["early_stopping"], train["loss_spike"]
    return p.TrainPlan(
        objective=train["objective"],
        epochs=steps.epochs,
        max_steps=train["max_steps"],
        batch_size=train["batch_size"],
        micro_batch_size=steps.micro_batch_size,
        gradient_accumulation_steps=steps.accumulation,
        steps_per_epoch=steps.steps_per_epoch,
        total_steps=steps.total_steps,
        learning_rate=train["learning_rate"],
        schedule=train["schedule"],
        warmup_steps=steps.warmup_steps,
        warmup_ratio=train["warmup_ratio"] if steps.warmup_steps is None else None,
        lr_scheduler_kwargs=train["lr_scheduler_kwargs"],
        optimizer=train["optimizer"],
        optim_args=train["optim_args"],
        optim_target_modules=tuple(train["optim_target_modules"]),
        adam_beta1=train["adam_beta1"],
        adam_beta2=train["adam_beta2"],
        adam_epsilon=train["adam_epsilon"],
        weight_decay=train["weight_decay"],
        max_grad_norm=train["max_grad_norm"],
        trainable_modules=tuple(train["trainable_modules"]),
        neftune_noise_alpha=train["neftune_noise_alpha"],
        label_smoothing_factor=train["label_smoothing_factor"],
        group_by_length=train["group_by_length"],
        gradient_checkpointing=train["gradient_checkpointing"],
        torch_compile=train["torch_compile"],
        use_liger_kernel=train["use_liger_kernel"],
        seed=train["seed"],
        save_steps=train["save_steps"],
        save_total_limit=train["save_total_limit"],
        eval_steps=train["eval_steps"],
        load_best_model_at_end=train["load_best_model_at_end"],
        early_stopping=p.EarlyStoppingPlan(**early_stopping) if early_stopping else None,
        loss_spike=p.LossSpikePlan(**loss_spike) if loss_spike else None,
        report_to=tuple(train["report_to"]),
        preview=p.PreviewPlan(**{**preview, "prompts": tuple(preview["prompts"])}) if preview else None,
    )


def _distributed(tree: Node, distributed: dict[str, Any]) -> p.DistributedPlan:
    own = {key: value for key, value in distributed.items() if key != "preset"}  # what it stands for is written out
    return p.DistributedPlan(**own, world_size=world_size(tree))


def _export(export: dict[str, Any]) -> p.ExportPlan:
    gguf, hub = export["gguf"], export["hub"]
    return p.ExportPlan(
        adapter=p.AdapterExport(**export["adapter"]),
        merged=p.MergedExport(**export["merged"]),
        gguf=p.GgufExport(types=tuple(gguf["types"])) if gguf else None,
        quantized=_quantized(*next(iter(export["quantized"].items()))) if export["quantized"] else None,
        hub=p.HubExport(**{**hub, "parts": tuple(hub["parts"])}) if hub else None,
    )


def _quantized(kind: str, settings: dict[str, Any]) -> p.Nf4Export | p.Int8Export | p.TorchaoExport:
    forms = (p.Nf4Export, p.Int8Export, p.TorchaoExport)
    return next(form for form in forms if kind == form.TAG)(**settings)


def _chat(chat: dict[str, Any], system: str | None) -> p.ChatPlan:
    own = chat["system"] if chat["system"] is not None else system
    return p.ChatPlan(**{**chat, "system": own, "stop": tuple(chat["stop"]), "plugins": tuple(chat["plugins"])})


def _smoke(item: Node, objective: str) -> p.SmokePlan:
    turns = tuple(
        p.TurnPlan(user=turn.text("user"), expect=_expect(turn.children["expect"], objective)) for turn in item.children["then"].items
    )
    image = item.children["image"].value
    assert image is None or isinstance(image, str), image
    return p.SmokePlan(user=item.text("user"), image=image, expect=_expect(item.children["expect"], objective), then=turns)


def _expect(node: Node, objective: str) -> p.ExpectPlan:
    """Text goes on until max_new_tokens: that it ends by itself is expected only where the spec says so."""
    expect: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in _plain(node).items()}
    if objective == "text" and node.children["stops"].place is None:
        expect["stops"] = False
    if similar := expect["similar"]:
        to = similar["to"]
        expect["similar"] = p.SimilarPlan(to=tuple(to) if isinstance(to, list) else (to,), at_least=similar["at_least"])
    expect["refusals"] = (*refusals(), *expect["refusals"]) if expect["refuses"] is not None else ()
    return p.ExpectPlan(**expect)


def _eval(spec: dict[str, Any], facts: Facts) -> p.EvalPlan:
    """Text has no answers to hold against what is expected: only its perplexity is measured."""
    asked = spec["eval"]
    metrics = {name: None if name != "perplexity" and spec["train"]["objective"] == "text" else asked["metrics"][name] for name in METRICS}
    own = {**asked, "max_new_tokens": asked["max_new_tokens"] or spec["chat"]["max_new_tokens"]}
    return p.EvalPlan(
        **{
            **own,
            "sources": _sources(asked["sources"], facts.eval_sources),
            "metrics": p.MetricsPlan(**{name: None if found is None else METRICS[name](**found) for name, found in metrics.items()}),
            "tasks": tuple(
                p.TaskPlan(**task, sha256=None if task["path"] is None else facts.task_files[task["path"]]) for task in asked["tasks"]
            ),
        }
    )


METRICS: dict[str, Any] = {"exact_match": p.ScorePlan, "rouge_l": p.ScorePlan, "perplexity": p.PerplexityPlan}
