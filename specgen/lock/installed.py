"""Versions of installed packages, from the names of their .dist-info folders.

The standard library's importlib.metadata says the same, and imports mail, sockets and CSV for it: a tenth of `validate`.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache

SUFFIX = ".dist-info"


class PackageNotFoundError(LookupError):
    """No package of that name is installed."""


def version(package: str) -> str:
    """The version of an installed package. Raises PackageNotFoundError."""
    found = _installed().get(_normal(package))
    if found is None:
        raise PackageNotFoundError(package)
    return found


@cache
def _installed() -> dict[str, str]:
    """Name → version; of two that are installed the first on the path, which is the one that imports."""
    found: dict[str, str] = {}
    for folder in sys.path:
        for name in sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else ():  # noqa: PTH112, PTH208  (no Path for each of hundreds)
            if name.endswith(SUFFIX):
                package, _, number = name.removesuffix(SUFFIX).partition("-")
                found.setdefault(_normal(package), number)
    return found


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
