"""Rules about what is exported beside the adapter and the merged model: GGUF files, quantized folders, the hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from conversations.llama_cpp import ARCHITECTURES, SPLITS
from specgen.diagnostics import Diagnostic
from specgen.facts.architectures import INTERNLM2
from specgen.facts.gather import Facts
from specgen.facts.llama_cpp import can_split
from specgen.source import Node
from specgen.validate import place_of

FENCE = '"""'
QUANTIZE = "llama-quantize"
ASKED = {"gguf": "gguf: {types: [q8_0]}", "quantized": "quantized: {nf4: {}}"}


def _writes_gguf(tree: Node) -> bool:
    return tree.children["export"].children["gguf"].value is not None


def the_model_type_has_a_gguf_form(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A GGUF file of a model that llama.cpp computes in another way would answer, and answer wrongly."""
    kind = facts.model.model_type if facts.model else None
    if _writes_gguf(tree) and kind is not None and kind not in {*ARCHITECTURES, *ARCHITECTURES.values()}:
        yield Diagnostic(
            code="SG638",
            message=f"export.gguf is not written for the model type {kind}",
            place=place_of(tree, "export", "gguf"),
            hint=f"it is written for {', '.join(ARCHITECTURES)}; for others use llama.cpp's convert_hf_to_gguf.py on the merged folder",
        )
    scaling = facts.model.config.get("rope_scaling") if facts.model else None
    if _writes_gguf(tree) and isinstance(scaling, dict) and scaling.get("rope_type", scaling.get("type")) == "dynamic":
        yield Diagnostic(
            code="SG638",
            message="llama.cpp has no dynamic rotary scaling, which the base model's config.json asks for, so export.gguf is not written",
            place=place_of(tree, "export", "gguf"),
            hint="leave out export.gguf",
        )


def the_tokenizer_has_a_gguf_form(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """llama.cpp splits texts in the ways that it has a name for. Another one gives other tokens, and nothing says so."""
    if _writes_gguf(tree) and can_split(facts.base) is False:
        yield Diagnostic(
            code="SG639",
            message="llama.cpp has no tokenizer that splits texts as this model's does, so export.gguf cannot be written",
            place=place_of(tree, "export", "gguf"),
            hint=f"it knows {', '.join(SPLITS)} and SentencePiece; leave out export.gguf",
        )


def the_quantizing_tool_is_there(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """q4_k_m is made by llama.cpp itself."""
    if not _writes_gguf(tree) or shutil.which(QUANTIZE) is not None:
        return
    for node in tree.children["export"].children["gguf"].children["types"].items:
        if node.value == "q4_k_m":
            yield Diagnostic(
                code="SG640",
                severity="error",
                message=f"q4_k_m is made by llama.cpp's {QUANTIZE}, which is not on PATH",
                place=node.place,
                hint="install llama.cpp (Homebrew, conda-forge or its releases have it), or write types: [q8_0]",
            )


def pushed_parts_are_made(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What is pushed has to be exported."""
    export = tree.children["export"].children
    if export["hub"].value is None:
        return
    for node in export["hub"].children["parts"].items:
        part = str(node.value)
        if part == "adapter" and tree.children["adapter"].value is None:
            hint = "adapter: null trains all weights, and there is no adapter: write merged"
        elif part in ASKED and export[part].value is None:
            hint = f"write export: {{{ASKED[part]}}}, or leave it out of parts"
        else:
            continue
        yield Diagnostic(
            code="SG642",
            message=f"export.hub.parts names {part}, which is not exported",
            place=node.place or place_of(tree, "export", "hub", "parts"),
            hint=hint,
        )


def the_base_has_the_layout(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Only InternLM2 is loaded in another layout than it is published in."""
    kind = facts.model.config.get("model_type") if facts.model else INTERNLM2
    if tree.text("export", "merged", "layout") == "original" and kind != INTERNLM2:
        base = tree.children["model"].children["base"]
        yield Diagnostic(
            code="SG644",
            message=f"the original layout is InternLM2's, and the base is a model of the type {kind}",
            place=place_of(tree, "export", "merged", "layout"),
            related=((base.place, "model.base is set here"),) if base.place else (),
            hint="leave out layout: every other model is written in its own",
        )


def texts_fit_into_a_modelfile(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A Modelfile puts texts between three quotation marks, and has no way to write them inside."""
    if not _writes_gguf(tree):
        return
    chat, trained = tree.children["chat"].children, tree.children["data"].children["system"]
    # the chat has the system text of training where it has none of its own
    system = ("data.system", trained) if chat["system"].value is None else ("chat.system", chat["system"])
    for name, node in [system, *(("chat.stop", item) for item in chat["stop"].items)]:
        text = node.value
        if isinstance(text, str) and (FENCE in text or text.endswith('"')):
            what = f"holds {FENCE}" if FENCE in text else "ends with a quotation mark"
            yield Diagnostic(
                code="SG643",
                message=f"{name} {what}, which Ollama's Modelfile cannot",
                place=node.place,
                hint="change the text, or leave out export.gguf",
            )
