"""Rules about what is exported."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.plan import HubBase
from specgen.sizes import BYTES, size_in_bytes
from specgen.source import Node
from specgen.validate import place_of

MOST_SHARDS = 500
PRECISION = {"bfloat16": 8, "float16": 11, "float32": 24}  # bits of a significand


def merged_dtype_holds_the_weights(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """float16 has more digits than bfloat16, and a far smaller range: large weights overflow."""
    merged, trained = tree.text("export", "merged", "dtype"), tree.text("model", "dtype")
    if merged == "float16" and trained == "bfloat16":
        node = tree.children["model"].children["dtype"]
        yield Diagnostic(
            code="SG510",
            severity="warning",
            message="the merged model is written in float16, and trained in bfloat16: values beyond 65,504 overflow",
            place=place_of(tree, "export", "merged", "dtype"),
            related=((node.place, "model.dtype is set here"),) if node.place else (),
            hint="write export.merged.dtype: bfloat16",
        )


def shards_are_few(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A shard size in the wrong unit makes thousands of files."""
    if facts.model is None or not facts.model.parameters:
        return
    total = facts.model.parameters * BYTES[tree.text("export", "merged", "dtype")]
    shards = total // size_in_bytes(tree.text("export", "merged", "max_shard_size"))
    if shards > MOST_SHARDS:
        yield Diagnostic(
            code="SG511",
            severity="warning",
            message=f"the exported model would be about {shards:,} files of {tree.text('export', 'merged', 'max_shard_size')}",
            place=place_of(tree, "export", "merged", "max_shard_size"),
            hint="2GB and 5GB are usual",
        )


def the_adapter_keeps_the_merge_exact(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The merged model is made from the exported adapter, so that both are the same model."""
    adapter, merged = tree.text("export", "adapter", "dtype"), tree.text("export", "merged", "dtype")
    node = tree.children["export"].children["adapter"].children["dtype"]
    if tree.children["adapter"].value is not None and merged == "float32" and PRECISION[adapter] < PRECISION[merged]:
        yield Diagnostic(
            code="SG532",
            severity="note",
            message=f"the merged model is float32, and made from the exported adapter, which is rounded to {adapter}",
            place=place_of(tree, "export", "merged", "dtype"),
            hint="write export.adapter.dtype: float32",
            related=((node.place, f"rounded to {adapter}"),) if node.place else (),
        )


def the_name_is_not_the_base(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A model that is named as its base is taken for it."""
    base, node = facts.base, tree.children["name"]
    own = base.repo if isinstance(base, HubBase) else base.path
    if str(node.value).lower() == own.rpartition("/")[2].removesuffix(".gguf").lower():
        yield Diagnostic(
            code="SG534",
            severity="note",
            message=f"the run is named as its base model, {own}",
            place=node.place,
            hint="a name of its own tells the two apart, for example by what it learns",
        )
