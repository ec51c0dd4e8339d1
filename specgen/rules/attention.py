"""Rules about the attention that a spec names: what transformers offers to the base model's class, and what its heads allow."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.rules.matrix import matrix
from specgen.source import Node

FLASH = ("flash_attention_3", "flash_attention_2")
WIDEST_HEAD = 256  # flash-attn 2 and 3: README of Dao-AILab/flash-attention


def the_model_has_the_attention(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """transformers writes attentions model by model; a class without one refuses to load with it."""
    choice = tree.text("model", "attention")
    own_code = bool(tree.children["model"].children["trust_remote_code"].value)
    if facts.model is None or own_code or choice in ("auto", "eager"):
        return
    kind = facts.model.model_type
    if kind in matrix().lacking["flash_attention" if choice in FLASH else choice]:
        others = ["flash_attention_2", "sdpa", "flex_attention"]
        has = [name for name in others if kind not in matrix().lacking["flash_attention" if name in FLASH else name]]
        yield Diagnostic(
            code="SG621",
            message=f"transformers has no {choice} for {kind} models",
            place=tree.children["model"].children["attention"].place,
            hint=f"it has {', '.join([*has, 'eager'])}; model.attention: auto takes the best of those that run",
        )


def heads_fit_into_flash_attention(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """flash-attn's kernels end at 256 features a head."""
    choice = tree.text("model", "attention")
    if facts.model is None or choice not in FLASH:
        return
    widths = [facts.model.config.get(key) for key in ("head_dim", "global_head_dim")]
    widest = max((width for width in widths if isinstance(width, int)), default=0)
    if widest > WIDEST_HEAD:
        yield Diagnostic(
            code="SG622",
            message=f"{choice} takes heads of at most {WIDEST_HEAD} features, and the base model's have {widest}",
            place=tree.children["model"].children["attention"].place,
            hint="write model.attention: auto",
        )
