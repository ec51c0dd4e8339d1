"""Rules about the adapter's initial weights, its patterns, and what is trained without an adapter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from specgen.diagnostics import Diagnostic, Place
from specgen.facts.gather import Facts
from specgen.facts.model import TOWER, ModelFacts
from specgen.modules import NOT_REGULAR, is_part, layer_of, matched, near
from specgen.resolve import adapter_plan
from specgen.source import Node
from specgen.trainable import adapted_modules, rank_of, trained_tensors
from specgen.validate import place_of


def initial_weights_fit_the_base(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """PiSSA and OLoRA take a part of whole weights; LoftQ is about 4-bit ones."""
    lora = tree.at("adapter", "lora")
    if lora is None:
        return
    method, place = lora.text("init_lora_weights"), lora.children["init_lora_weights"].place
    kind = next(iter(tree.children["model"].children["quantization"].children), None)
    quantized = tree.children["model"].children["quantization"].place
    if _takes(method) and kind:
        message = f"init_lora_weights: {method} takes a part of the base's weights, and model.quantization has rounded them to {kind}"
        hint = "write init_lora_weights: loftq" if kind == "nf4" else "write init_lora_weights: default"
        yield _fault("SG601", message, place, hint, related=quantized)
    if method == "loftq" and kind != "nf4":
        what = f"model.quantization is {kind}" if kind else "model.quantization is null"
        hint = "write model.quantization: {nf4: {}}, or init_lora_weights: pissa" if not kind else "write model.quantization: {nf4: {}}"
        yield _fault("SG601", f"init_lora_weights: loftq makes up for what nf4 loses, and {what}", place, hint, related=quantized)
    if _takes(method) and tree.number("distributed", "zero_stage") == 3:
        message = f"init_lora_weights: {method} takes a part of the base's weights, and ZeRO-3 has shared them out"
        yield _fault("SG601", message, place, "write zero_stage: 2", related=place_of(tree, "distributed", "zero_stage"))
    rounds = lora.children["loftq_iter"]
    if rounds.place and method != "loftq":
        message = f"loftq_iter is given, and init_lora_weights is {method}"
        yield _fault("SG603", message, rounds.key, "write init_lora_weights: loftq, or leave loftq_iter out", related=place)


def ranks_fit_the_initial_weights(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Orthogonal weights come in pairs; a decomposition has no more parts than the matrix has rows and columns."""
    lora = tree.at("adapter", "lora")
    if lora is None:
        return
    method = lora.text("init_lora_weights")
    ranks = [lora.children["r"], *lora.children["rank_pattern"].children.values()]
    for node in ranks:
        if method == "orthogonal" and isinstance(node.value, int) and node.value % 2:
            message = f"init_lora_weights: orthogonal needs even ranks, and one is {node.value}"
            yield _fault("SG602", message, node.place or lora.children["init_lora_weights"].place, f"write {node.value + 1}")
    if facts.model is None or not (_takes(method) or method == "loftq"):
        return
    for module, rank in sorted(_ranks(lora, facts.model).items()):
        if rank > (most := min(facts.model.linear[module])):
            message = f"init_lora_weights: {method} has at most {most} parts of {module}, and its rank is {rank}"
            yield _fault("SG602", message, place_of(tree, "adapter", "lora", "r"), f"write r: {most} or less")
            return


def patterns_match(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A pattern that matches nothing changes nothing, and peft does not say so."""
    lora = tree.at("adapter", "lora")
    if lora is None:
        return
    for key in ("rank_pattern", "alpha_pattern"):
        for name, node in lora.children[key].children.items():
            yield from _pattern(key, name, node, lora, facts)
    if facts.model is None or not facts.model.linear:
        return
    for node in lora.children["exclude_modules"].items:
        if not matched(str(node.value), facts.model.modules):
            message = f"exclude_modules names {node.value}, which matches 0 modules of the base model"
            yield _fault("SG604", message, node.place, near(str(node.value), facts.model.modules))
    narrowed = lora.children["exclude_modules"].key or lora.children["layers_to_transform"].key
    if narrowed and not _ranks(lora, facts.model):
        yield _fault("SG604", "exclude_modules and layers_to_transform leave no module to be adapted", narrowed, None)


def _pattern(key: str, name: str, node: Node, lora: Node, facts: Facts) -> Iterator[Diagnostic]:
    try:
        expression = _expression(name)
    except NOT_REGULAR as error:
        message = f"{key} has {name}, which peft reads as a regular expression, and it is none: {getattr(error, 'msg', error)}"
        yield _fault("SG604", message, node.key or node.place, None)
        return
    adapted = _ranks(lora, facts.model) if facts.model and facts.model.linear else {}
    if adapted and not any(expression.match(module) for module in adapted):
        message = f"{key} names {name}, which matches 0 adapted modules"
        yield _fault("SG604", message, node.key or node.place, near(name, adapted))


def _expression(name: str) -> re.Pattern[str]:
    """A name of rank_pattern or alpha_pattern as peft reads it. Raises what NOT_REGULAR lists."""
    return re.compile(rf"(.*\.)?({name})$")


def _is_regular(name: str) -> bool:
    try:
        _expression(name)
    except NOT_REGULAR:
        return False
    return True


def layers_are_there(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Layers count from 0; peft passes over a number that no layer has."""
    layers = tree.at("adapter", "lora", "layers_to_transform")
    if layers is None or facts.model is None:
        return
    known = {number for module in facts.model.linear if (number := layer_of(module)) is not None}
    for node in layers.items:
        if known and node.value not in known:
            message = f"layers_to_transform has {node.value}, and the base model's layers are 0 to {max(known)}"
            yield _fault("SG605", message, node.place, None)


def trainable_modules_match(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Each name chooses something; an adapter leaves the whole base frozen."""
    names = tree.children["train"].children["trainable_modules"]
    if names.items and tree.at("adapter", "lora") is not None:
        message = "train.trainable_modules is of full fine-tuning, and adapter.lora trains beside a frozen base"
        hint = "write adapter: null, or name whole modules in adapter.lora.modules_to_save"
        yield _fault("SG607", message, names.key, hint, related=place_of(tree, "adapter", "lora"))
        return
    for node in names.items:
        if facts.model is not None and not facts.model.sizes_known and is_part(str(node.value), TOWER):
            continue
        if facts.model is not None and facts.model.tensors and not trained_tensors((str(node.value),), facts.model):
            message = f"trainable_modules names {node.value}, which matches 0 modules of the base model"
            yield _fault("SG607", message, node.place, near(str(node.value), facts.model.modules))


def _takes(method: str) -> bool:
    return method == "olora" or method.startswith("pissa")


def _fault(code: str, message: str, place: Place | None, hint: str | None, *, related: Place | None = None) -> Diagnostic:
    return Diagnostic(code=code, message=message, place=place, hint=hint, related=((related, "set here"),) if related else ())


def _ranks(lora: Node, model: ModelFacts) -> dict[str, int]:
    """The adapted modules and their ranks. A pattern that is broken, which is told elsewhere, gives none."""
    patterns = lora.children["rank_pattern"]
    sound = replace(patterns, value={name: rank for name, rank in patterns.children.items() if _is_regular(name)})
    adapter = adapter_plan({"lora": replace(lora, value={**lora.children, "rank_pattern": sound}).plain()})
    return {module: rank_of(adapter, module) for module in adapted_modules(adapter, model)} if adapter else {}
