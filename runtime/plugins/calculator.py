"""The tool calculate: whole numbers of up to 4,096 bits, else floats; a few functions."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

from runtime.plugins.expressions import Unfit, parse

MOST_BITS = 4096
Number = int | float


def _rounded(number: Number, digits: Number = 0) -> Number:
    if not isinstance(digits, int) or not -300 <= digits <= 300:
        raise Unfit("round takes from -300 to 300 digits")
    return round(number, digits) if digits else round(number)


CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs, "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "ln": math.log, "log2": math.log2, "log10": math.log10,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos, "atan": math.atan,
    "floor": math.floor, "ceil": math.ceil, "round": _rounded, "min": min, "max": max,
}  # fmt: skip
OPERATIONS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
SIGNS: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def calculate(expression: str) -> str:
    """The value of an expression. Raises Unfit."""
    try:
        value = _value(parse(expression))
    except ZeroDivisionError:
        raise Unfit("division by zero") from None
    except (OverflowError, TypeError, ValueError) as error:
        raise error if isinstance(error, Unfit) else Unfit(f"it has no value: {error}") from None
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _small(number)
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.UnaryOp(op=sign, operand=inner) if type(sign) in SIGNS:
            return SIGNS[type(sign)](_value(inner))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _quotient(_value(left), _value(right))
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in OPERATIONS:
            return _small(OPERATIONS[type(operation)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id="factorial"), args=[inner], keywords=[]):
            return _factorial(_value(inner))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return _small(FUNCTIONS[name](*map(_value, arguments)))
    raise Unfit(f"{ast.unparse(node)!r} is no arithmetic that the calculator knows")


def _power(base: Number, exponent: Number) -> Number:
    whole = isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1
    if whole and abs(exponent) * abs(int(base)).bit_length() > MOST_BITS:
        raise Unfit(f"numbers have at most {MOST_BITS} bits")
    value = base**exponent
    if isinstance(value, complex):
        raise Unfit("the value is no real number")
    return _small(value)


def _quotient(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
        return left // right
    return _small(left / right)


def _factorial(number: Number) -> Number:
    if not isinstance(number, int) or not 0 <= number <= 500:
        raise Unfit("factorial takes a whole number from 0 to 500")
    return math.factorial(number)


def _small(number: Number) -> Number:
    if isinstance(number, int) and number.bit_length() > MOST_BITS:
        raise Unfit(f"numbers have at most {MOST_BITS} bits")
    if isinstance(number, float) and not math.isfinite(number):
        raise Unfit("the value is too large")
    return number
