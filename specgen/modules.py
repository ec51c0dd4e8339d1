"""Names of modules: which of a model's a name in a spec means."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

# what re raises for an expression that it cannot compile: a syntax error, a number too large for it, brackets too deep
NOT_REGULAR = (re.error, OverflowError, RecursionError)


def matched(target: str, modules: Iterable[str]) -> list[str]:
    """The modules that peft adapts for one target: of that name, or ending in a dot and it."""
    return [module for module in modules if module == target or module.endswith(f".{target}")]


def is_named(pattern: str, parameter: str) -> bool:
    """Whether a parameter, or a module that it is in, has that name, or one that ends in a dot and it; '*', '?' and '[0-9]' as in
    a shell. The runtime's training/trainable.py chooses by the same words."""
    paths = itertools.accumulate(parameter.split("."), "{}.{}".format)
    return any(fnmatchcase(path, pattern) or fnmatchcase(path, f"*.{pattern}") for path in paths)


def is_part(name: str, part: str) -> bool:
    """Whether a name is that of a part of LLaVA, such as its projector, or of something in it."""
    return f".{part.rpartition('.')[2]}." in f".{name}."


def layer_of(module: str) -> int | None:
    """The number of a module's layer, where peft looks for it."""
    found = re.match(r".*?\.[^.]*\.(\d+)\.", f".{module}")
    return int(found[1]) if found else None


def near(name: str, modules: Iterable[str]) -> str:
    """A hint: the module that was meant, and all there are."""
    leaves = sorted({module.rpartition(".")[2] for module in modules})
    close = difflib.get_close_matches(name.rpartition(".")[2], leaves, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}its modules are {', '.join(leaves)}"


def is_projected(target: str, module: str) -> bool:
    """Whether transformers takes a module for one of optim_target_modules: by a part of its name, or a regular expression of all
    of it."""
    try:
        return target in module or re.fullmatch(target, module) is not None
    except NOT_REGULAR:
        return False
