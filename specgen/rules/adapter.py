"""Rules about what is trained and quantized: names that have to be modules of the base model, and how they go together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.facts.model import INPUT_LAYERS, OUTPUT_LAYERS, PROJECTOR, TOWER
from specgen.modules import is_part, layer_of, matched, near
from specgen.source import Node
from specgen.validate import place_of

EMBEDDINGS = (*INPUT_LAYERS, *OUTPUT_LAYERS)
HIGH_DROPOUT = 0.3


def targets_match(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Each target names at least one module. peft complains only when none of them does."""
    targets = tree.at("adapter", "lora", "targets")
    if targets is None or facts.model is None or not facts.model.linear:
        return
    modules = facts.model.linear
    for node in targets.items:
        name = str(node.value)
        if not matched(name, modules):
            hint = near(name, modules)
            if whole := _trained_whole(name, facts.model.modules):
                hint = f"embeddings and the output layer are trained whole: modules_to_save: [{whole}]"
            elif facts.model.sees and is_part(name, PROJECTOR):
                hint = "the projector is trained whole: modules_to_save: [multi_modal_projector]"
            elif facts.model.sees and is_part(name, TOWER):
                hint = "the vision tower's adapter has a rank of its own: vision_tower: {r: 64, alpha: 16}"
            yield Diagnostic(code="SG241", message=f"the target {name} matches 0 modules of the base model", place=node.place, hint=hint)


def _trained_whole(name: str, modules: set[str]) -> str | None:
    """What the model calls its embeddings, or its output layer, where a name is one of theirs in any model."""
    leaf = name.rpartition(".")[2]
    kind = next((kind for kind in (OUTPUT_LAYERS, INPUT_LAYERS) if leaf in kind), ())
    return next((known for known in (name, *kind) if kind and matched(known, modules)), None)


def targets_match_every_layer(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A name that only some layers have adapts a part of the model: maybe meant, maybe a name of a layer too much."""
    targets = tree.at("adapter", "lora", "targets")
    if targets is None or facts.model is None:
        return
    layers = {layer for module in facts.model.linear if (layer := layer_of(module)) is not None}
    for node in targets.items:
        found = matched(str(node.value), facts.model.linear)
        if found and len(reached := {layer_of(module) for module in found}) < len(layers):
            yield Diagnostic(
                code="SG242",
                severity="warning",
                message=f"the target {node.value} is in {len(reached)} of {len(layers)} layers",
                place=node.place,
                hint="the name alone, without a layer's number, is in all that have it",
            )


def saved_modules_match(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """modules_to_save names modules; one that is an adapter's target, too, would be trained twice."""
    saved = tree.at("adapter", "lora", "modules_to_save")
    if saved is None or facts.model is None or not facts.model.tensors:
        return
    targets = tree.children["adapter"].children["lora"].children["targets"]
    adapted = {module for target in targets.items for module in matched(str(target.value), facts.model.linear)}
    for node in saved.items:
        found = matched(str(node.value), facts.model.modules)
        if is_part(str(node.value), TOWER) and facts.model.sees:
            yield from _tower_is_trained_once(tree, node)
        elif not found:
            yield Diagnostic(
                code="SG244",
                message=f"modules_to_save names {node.value}, which matches 0 modules of the base model",
                place=node.place,
                hint=near(str(node.value), facts.model.modules),
            )
        elif both := sorted(adapted.intersection(found)):
            yield Diagnostic(
                code="SG246",
                message=f"{node.value} is trained whole and gets an adapter, too ({both[0]})",
                place=node.place,
                related=((targets.place, "the adapter's targets"),) if targets.place else (),
                hint="name it in one of the two lists",
            )


def _tower_is_trained_once(tree: Node, node: Node) -> Iterator[Diagnostic]:
    own = tree.children["adapter"].children["lora"].children["vision_tower"]
    if own.value is not None:
        yield Diagnostic(
            code="SG246",
            message=f"{node.value} is trained whole and gets an adapter, too (vision_tower)",
            place=node.place,
            related=((own.place, "the vision tower's adapter"),) if own.place else (),
            hint="name it in one of the two",
        )


def tied_weights_are_not_parted(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Embedding and output layer of a tied model are one matrix; trained as two, the exported model has to hold both."""
    saved = tree.at("adapter", "lora", "modules_to_save")
    if saved is None or facts.model is None or not facts.model.tie_word_embeddings:
        return
    named = [node for node in saved.items if str(node.value).rpartition(".")[2] in EMBEDDINGS]
    if named:
        words, width = facts.model.embedding or (0, 0)
        larger = f"the exported model is {words * width:,} parameters larger" if words else "the exported model is larger"
        yield Diagnostic(
            code="SG245",
            severity="warning",
            message=f"embedding and output layer of the base model are one matrix (tie_word_embeddings); trained whole, "
            f"they become two: {larger}",
            place=named[0].place,
            hint="leave them out unless the data has words that the model does not know",
        )


def skipped_modules_match(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A module that is to keep its precision has to be there; bitsandbytes looks for parts of names and finds nothing."""
    if facts.model is None or not facts.model.tensors:
        return
    for variant in tree.children["model"].children["quantization"].children.values():
        for node in variant.children["skip_modules"].items:
            if not matched(str(node.value), facts.model.modules):
                yield Diagnostic(
                    code="SG247",
                    message=f"skip_modules names {node.value}, which matches 0 modules of the base model",
                    place=node.place,
                    hint=near(str(node.value), facts.model.modules),
                )


def rank_is_lower_than_the_layers(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An update of full rank has more parameters than the weight that it updates."""
    lora = tree.at("adapter", "lora")
    if lora is None or facts.model is None or not facts.model.linear:
        return
    targets = lora.children["targets"]
    names = [module for target in targets.items for module in matched(str(target.value), facts.model.linear)]
    module = min(names or facts.model.linear, key=lambda name: min(facts.model.linear[name]) if facts.model else 0)
    smallest = min(facts.model.linear[module])
    if (rank := lora.number("r")) >= smallest:
        yield Diagnostic(
            code="SG248",
            severity="warning",
            message=f"adapter.lora.r is {rank}, and {module} has only {smallest} features: the update is no longer low-rank",
            place=place_of(tree, "adapter", "lora", "r"),
            hint="recipes take 8 to 64; adapter: null trains all weights",
        )


def scaling_is_usual(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """alpha / r scales the update like the learning rate does; with rsLoRA it is alpha / sqrt(r)."""
    lora = tree.at("adapter", "lora")
    if lora is None:
        return
    rank, alpha = lora.number("r"), lora.real("alpha")
    stabilized = bool(lora.children["use_rslora"].value)
    scale = alpha / (rank**0.5 if stabilized else rank)
    if not 1 / 8 <= scale <= 16:
        formula = "alpha / sqrt(r)" if stabilized else "alpha / r"
        yield Diagnostic(
            code="SG249",
            severity="warning",
            message=f"the update is scaled by {formula} = {scale:.3g}; usual is 0.25 to 4",
            place=place_of(tree, "adapter", "lora", "alpha"),
            hint=f"write alpha: {2 * rank if not stabilized else rank}, or change learning_rate instead",
        )


def dropout_is_usual(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A percentage written as a share."""
    lora = tree.at("adapter", "lora")
    if lora is not None and (dropout := lora.real("dropout")) > HIGH_DROPOUT:
        yield Diagnostic(
            code="SG250",
            severity="warning",
            message=f"adapter.lora.dropout is {dropout:g}: that share of the adapter's input is dropped at every step",
            place=place_of(tree, "adapter", "lora", "dropout"),
            hint="recipes take 0 to 0.1",
        )


def the_base_is_not_quantized_already(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A checkpoint of packed integers cannot be quantized again, trained whole, or merged into."""
    if facts.model and (method := facts.model.quantized):
        yield Diagnostic(
            code="SG269",
            message=f"the base model's weights are quantized already ({method}): an adapter could not be merged into them",
            place=place_of(tree, "model", "base"),
            hint="name the model that it was made from, and quantize with model.quantization",
        )


def a_gguf_base_is_not_quantized_twice(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Weights that lost digits to one quantization lose others to the next."""
    quantization = tree.children["model"].children["quantization"]
    base = tree.text("model", "base")
    if quantization.children and base.endswith(".gguf") and not re.search(r"\b(f16|f32|bf16)\b", base.lower()):
        yield Diagnostic(
            code="SG270",
            severity="note",
            message="the base's weights come quantized in a .gguf file, and are quantized a second time",
            place=quantization.place or quantization.key,
            hint="a model folder in full precision loses less",
        )
