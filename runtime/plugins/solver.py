"""The tool solve: equations for sympy, which a process of its own solves within limits of time and memory.

sympy's own parser would evaluate the text as Python: here its expressions are built from a tree of allowed nodes.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from typing import Any

from runtime.plugins.expressions import Unfit, parse

SECONDS, BYTES = 10, 2 * 10**9
PATIENCE_S = 30  # by the clock, on a busy machine
MOST_POWER = 1000
FUNCTIONS = ("sqrt", "exp", "log", "ln", "sin", "cos", "tan", "asin", "acos", "atan", "Abs")
APART = re.compile(r"[;\n]|,(?![^(]*\))|\band\b")
FAILED = "cannot solve: "


def solve(equation: str) -> str:
    """The solutions of an equation, or of several with commas between them. Raises Unfit."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL") if name in os.environ}  # no secrets
    command = [sys.executable, "-X", "utf8", "-m", "runtime.plugins.solver"]
    try:
        done = subprocess.run(command, input=equation, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, env=kept)
    except subprocess.TimeoutExpired:
        raise Unfit("it took too long") from None
    if done.returncode != 0:
        raise Unfit("it took too much time or memory")
    said = done.stdout.strip()
    if said.startswith(FAILED):
        raise Unfit(said.removeprefix(FAILED))
    return said


def solved(text: str) -> str:
    """The same, without limits, in this process. Raises Unfit."""
    import sympy

    sides = [_sides(part) for part in APART.split(text) if part.strip()]
    if not sides:
        raise Unfit("there is no equation")
    unknowns = sorted(set().union(*(side.free_symbols for pair in sides for side in pair)), key=str)
    if not unknowns:
        raise Unfit("there is nothing unknown in it")
    equations = [difference for left, right in sides if (difference := left - right) != 0]
    if not equations:
        return "true for all values"
    try:
        found = sympy.solve(equations, unknowns, dict=True)
    except NotImplementedError:
        raise Unfit("sympy knows no way to solve it") from None
    if not found:
        return "no solution"
    return "; ".join(", ".join(f"{name} = {value}" for name, value in sorted(one.items(), key=str)) for one in found)


def _sides(text: str) -> tuple[Any, Any]:
    """The sides of an equation; a term alone is equal to nothing."""
    sides = [_expression(parse(side)) for side in re.split(r"==?", text)]
    if len(sides) > 2:
        raise Unfit(f"{text.strip()!r} has more than one sign of equality")
    return (sides[0], sides[1]) if len(sides) == 2 else (sides[0], sides[0] * 0)


def _expression(node: ast.expr) -> Any:
    import sympy

    match node:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            return sympy.Integer(number)
        case ast.Constant(value=float() as number):
            return sympy.Rational(str(number))
        case ast.Name(id="pi"):
            return sympy.pi
        case ast.Name(id=name):
            return sympy.Symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_expression(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _expression(inner)
        case ast.BinOp(left=left, op=operation, right=right):
            return _operated(_expression(left), operation, _expression(right))
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in FUNCTIONS or name == "abs":
            return getattr(sympy, "Abs" if name == "abs" else name)(_expression(inner))
    raise Unfit(f"{ast.unparse(node)!r} is nothing that the solver knows")


def _operated(left: Any, operation: ast.operator, right: Any) -> Any:
    match operation:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            if right == 0:
                raise Unfit("division by zero")
            return left / right
        case ast.Pow():
            if right.is_number and abs(right) > MOST_POWER:
                raise Unfit(f"powers go up to {MOST_POWER}")
            return left**right
    raise Unfit("the solver knows + - * / and ^")


def main() -> None:
    """Solves what stands on standard input, within the limits."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    try:
        print(solved(sys.stdin.read()))
    except Unfit as unfit:
        print(f"{FAILED}{unfit}")


if __name__ == "__main__":
    main()
