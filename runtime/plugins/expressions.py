"""Arithmetic that a model wrote, as a tree of allowed nodes. Nothing is ever evaluated as Python."""

from __future__ import annotations

import ast
import re

LONGEST, DEEPEST = 1000, 60  # letters of an expression; levels of its tree
SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "（": "(", "）": ")", "，": ",", "＝": "=", "π": "pi"})
JUXTAPOSED = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(?![eE][+-]?\d)(?=[A-Za-z(])|\)\s*(?=[\w(])")


class Unfit(ValueError):
    """What is no arithmetic, or too large. Its text is told to the model."""


def parse(text: str) -> ast.expr:
    """An expression as a tree. `^` is a power, and `2x` a product. Raises Unfit."""
    plain = text.strip().translate(SIGNS).replace("^", "**")
    if not plain:
        raise Unfit("there is no expression")
    if len(plain) > LONGEST:
        raise Unfit(f"an expression has at most {LONGEST} letters")
    plain = JUXTAPOSED.sub(lambda found: found[0].rstrip() + "*", plain)
    try:
        tree = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise Unfit(f"{text.strip()!r} is no arithmetic expression") from None
    if _depth(tree) > DEEPEST:
        raise Unfit(f"an expression is at most {DEEPEST} levels deep")
    return tree


def _depth(tree: ast.AST) -> int:
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest
