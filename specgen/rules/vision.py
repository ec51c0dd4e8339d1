"""Rules about a model that sees: what its images need, and what does not go together with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from conversations.row import IMAGE
from specgen.diagnostics import Diagnostic, Place, printable
from specgen.facts.gather import Facts
from specgen.facts.model import PROJECTOR
from specgen.facts.rows import is_file
from specgen.facts.template import NAMES, render_chat
from specgen.modules import is_named, matched
from specgen.rules.matrix import trains_projector_alone
from specgen.rules.template import ANSWER, learns_text, template_place
from specgen.source import Node
from specgen.validate import place_of

ASKED = [{"role": "user", "content": f"{IMAGE}\n\ue000"}, {"role": "assistant", "content": ANSWER}]
# what config.json says of logits that are more than an output layer's; the runtime's models/shaping.py has the same names
FACTORS = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")
CAP = "final_logit_softcapping"


def the_layer_is_there(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """select_layer counts the tower's layers from 1, or from the last one back; 0 is what goes into the first."""
    tower, layer = facts.vision.tower if facts.vision else None, tree.at("model", "vision", "select_layer")
    if tower is None or layer is None or not isinstance(layer.value, int):
        return
    if not -tower.layers <= layer.value <= tower.layers:
        yield _fault(
            "SG627",
            f"model.vision.select_layer is {layer.value}, and the tower has {tower.layers} layers: -{tower.layers} to {tower.layers}",
            place_of(tree, "model", "vision", "select_layer"),
            "write select_layer: -2",
        )


def the_projector_is_trained(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The projector begins at random: with nothing that trains it, what the tower sees is noise to the language model."""
    model = tree.children["model"].children
    if facts.vision is None or model["from_run"].value is not None:
        return
    lora = tree.at("adapter", "lora")
    if lora is not None:
        names = [str(node.value) for node in lora.children["modules_to_save"].items]
        is_trained = any(matched(name, [PROJECTOR]) for name in names)
        hint = "write modules_to_save: [multi_modal_projector], or name with model.from_run the run that trained it"
        place = place_of(tree, "adapter", "lora", "modules_to_save")
    else:
        names = [str(node.value) for node in tree.children["train"].children["trainable_modules"].items]
        is_trained = not names or any(is_named(name, f"{PROJECTOR}.linear_1.weight") for name in names)
        hint = "add multi_modal_projector, or name with model.from_run the run that trained it"
        place = place_of(tree, "train", "trainable_modules")
    if not is_trained:
        message = "the projector of model.vision begins at random, and nothing trains it"
        yield _fault("SG628", message, place, hint, related=model["vision"].key, what="model.vision is set here")


def images_leave_room(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An image is many tokens; a row has to have more than those."""
    tower, length = facts.vision.tower if facts.vision else None, tree.number("data", "max_length")
    if tower is None:
        return
    place, tokens = place_of(tree, "data", "max_length"), tower.image_tokens
    made_of = f"({tower.image_size} / {tower.patch_size})² patches"
    if tokens >= length:
        message = f"an image takes {tokens:,} tokens, {made_of}, and data.max_length is {length:,}: it leaves no room for words"
        yield _fault("SG629", message, place, f"write max_length: {_rounded(2 * tokens)}")
        return
    counts = [count for source in facts.sources if source.table for count in source.table.images if count * tokens >= length]
    if counts:
        most, has = max(counts), "row has" if len(counts) == 1 else "rows have"
        message = f"{len(counts):,} {has} more images than data.max_length, {length:,}, holds: {most} take {most * tokens:,} tokens"
        found = _fault("SG629", message, place, f"write max_length: {_rounded((most + 1) * tokens)}, or data.overlong: drop")
        yield found if tree.text("data", "overlong") == "error" else replace(found, severity="warning")


def _rounded(tokens: int) -> int:
    """Up to the next multiple of 256."""
    return -(-tokens // 256) * 256


def it_is_exported_in_a_form_that_sees(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What is written is LLaVA's folder; other forms are the language model's alone."""
    if facts.vision is None:
        return
    export = tree.children["export"].children
    if export["gguf"].value is not None:
        message = "export.gguf writes language models, and this one sees: llama.cpp keeps tower and projector in a file of its own"
        hint = "leave out export.gguf; llama.cpp's convert_hf_to_gguf.py makes both files of the merged folder, the second with --mmproj"
        yield _fault("SG641", message, place_of(tree, "export", "gguf"), hint)
    if tree.text("export", "merged", "layout") == "original":
        message = "the original layout is that of InternLM2's language models, and this model sees"
        yield _fault("SG641", message, place_of(tree, "export", "merged", "layout"), "leave out layout: the folder is LLaVA's")


def a_frozen_language_model_stays_whole(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The projector alone is trained, with the language model in 4 or 8 bits to save memory: there is no reason to export it so."""
    quantized = next(iter(tree.children["model"].children["quantization"].children), None)
    if quantized and trains_projector_alone(tree) and tree.text("export", "merged", "base") == "dequantized":
        yield Diagnostic(
            code="SG618",
            severity="note",
            message=f"only the projector is trained, and the language model is exported as {quantized} has rounded it",
            place=place_of(tree, "model", "quantization"),
            hint="write export.merged.base: full, which exports it as it was: a second stage then begins with it",
        )


def something_is_seen(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A model that is to see, and gets no image to learn from."""
    sources = tuple(itertools.chain(*facts.source_lists))
    if facts.vision is None or any(source.table and any(source.table.images) for source in sources) or not facts.survey.rows:
        return
    asked = [item for item in tree.children["smoke"].items if item.children["image"].value is not None]
    what = "no row has an image: nothing teaches the model to see" if asked else "no row and no question of the smoke test has an image"
    yield Diagnostic(
        code="SG645",
        severity="warning",
        message=f"model.vision is set, and {what}",
        place=place_of(tree, "model", "vision"),
        hint="give a source of files whose rows have images (specgen explain data.sources.file.images), or write vision: null",
    )


def questions_have_their_images(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An image of the smoke test is there, and stands once in its question."""
    for item in tree.children["smoke"].items:
        user, image = item.children["user"], item.children["image"]
        marks = str(user.value).count(IMAGE)
        if image.value is None:
            continue
        if facts.vision is None:
            message = "the question is about an image, and model.vision is null: the model sees none"
            yield _fault("SG646", message, image.place, "leave image out, or write model.vision: {tower: …}")
            continue
        if marks > 1:
            message = f"the question says {IMAGE} {marks} times, and has one image"
            yield _fault("SG646", message, user.place, f"say {IMAGE} once, or leave it out: the image then comes first")
        if not is_file(str(image.value)):
            message = printable(f"there is no picture {image.value}")
            yield _fault("SG646", message, image.place, "the path starts at the working folder")


def marks_stand_where_images_are(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """With model.vision <image> is a token of its own, and stands for an image that is there."""
    if facts.vision is None:
        return
    for what, node in _texts_without_images(tree):
        if IMAGE in str(node.value):
            message = f"{what} says {IMAGE}, and has no image"
            yield _fault("SG647", message, node.place or node.key, f"with model.vision {IMAGE} stands for an image: write another word")


def _texts_without_images(tree: Node) -> Iterator[tuple[str, Node]]:
    yield "data.system", tree.children["data"].children["system"]
    yield "chat.system", tree.children["chat"].children["system"]
    prompts = tree.at("train", "preview", "prompts")
    yield from (("the prompt of a preview", node) for node in (prompts.items if prompts else ()))
    for item in tree.children["smoke"].items:
        if item.children["image"].value is None:
            yield "the question", item.children["user"]
        yield from (("the question", turn.children["user"]) for turn in item.children["then"].items)
    validation, evaluation = tree.at("data", "validation", "sources"), tree.at("eval", "sources")
    for source in [s for part in (tree.at("data", "sources"), validation, evaluation) if part for s in part.items]:
        kind, settings = next(iter(source.children.items()))
        key = {"synthetic": "messages", "llm": "row"}.get(kind)
        turns = settings.children[key].items if key else ()
        for text in (text for turn in turns for text in turn.children.values()):
            yield from ((f"a text of the {kind} source", node) for node in (text.items or [text]))


def the_template_keeps_images(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """One <image> goes in, one comes out: a template that writes its own, or drops it, moves every image behind."""
    text = facts.template_text
    if facts.vision is None or text is None or learns_text(tree):
        return
    tokenizer = facts.model.tokenizer if facts.model else None
    names = {**dict.fromkeys(NAMES, ""), **tokenizer.names} if tokenizer else NAMES
    try:
        marks = render_chat(text, ASKED, add_generation_prompt=False, names=names).count(IMAGE)
    except Exception:  # told by template.template_renders
        return
    if marks != 1:
        does = "leaves it out" if not marks else f"writes it {marks} times"
        message = f"a question says {IMAGE} once, and the chat template {does}"
        yield _fault("SG647", message, template_place(tree), "the template has to write message['content'] as it is")


def settings_of_images_count(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Settings that only a model that sees has."""
    if facts.vision is not None:
        return
    own = tree.at("adapter", "lora", "vision_tower")
    found = [("adapter.lora.vision_tower", own)] if own is not None and own.value is not None else []
    for part in (tree.at("data", "sources"), tree.at("data", "validation", "sources"), tree.at("eval", "sources")):
        nodes = [source.at("file", "images") for source in (part.items if part else ())]
        found += [("images", node) for node in nodes if node is not None and node.value is not None]
    for name, node in found:
        fault = _fault(
            "SG649",
            f"{name} is about a model that sees, and model.vision is null",
            node.key or node.place,
            "leave it out, or write model.vision: {tower: …}",
        )
        yield fault if name != "images" else replace(fault, severity="warning")


def conversations_are_learned(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Plain text has no place for an image."""
    if facts.vision is not None and learns_text(tree):
        message = "train.objective: text learns plain text, in which no image can stand, and model.vision is set"
        yield _fault("SG650", message, place_of(tree, "train", "objective"), "write objective: chat, or vision: null")


def llava_holds_the_language_model(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """transformers' LLaVA takes logits from the output layer as they are, and loads no code of a model's own."""
    if facts.vision is None:
        return
    config = facts.model.config if facts.model else {}
    shaped = [name for name in FACTORS if config.get(name) not in (None, 1)] + [CAP] * (config.get(CAP) is not None)
    if facts.model and (shaped or (facts.model.model_type == "gemma2" and CAP not in config)):
        name = shaped[0] if shaped else CAP
        message = f"the base model shapes its logits ({name}), which transformers' LLaVA leaves out: it would answer otherwise"
        yield _fault(
            "SG676", message, place_of(tree, "model", "base"), "take a base without it: Llama, Qwen, Mistral, Phi, InternLM2, Gemma 3"
        )
    if tree.children["model"].children["trust_remote_code"].value:
        message = "transformers' LLaVA holds models of transformers' own classes, and trust_remote_code asks for a model's own code"
        yield _fault("SG676", message, place_of(tree, "model", "trust_remote_code"), "write trust_remote_code: false, or vision: null")


def _fault(code: str, message: str, place: Place | None, hint: str | None, *, related: Place | None = None, what: str = "") -> Diagnostic:
    return Diagnostic(code=code, message=message, place=place, hint=hint, related=((related, what),) if related else ())
