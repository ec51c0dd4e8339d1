"""Calls to copy: what a message says to do next means the same spec, with the same profile and settings, in the same folders."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from specgen.secrets import masked


def call(*words: object, profile: str | None = None, settings: Iterable[str] = (), **options: object) -> str:
    """`specgen WORDS --profile … --set … --OPTION …`, quoted as a shell needs it. Options that are None are left out."""
    found = ["specgen", *map(str, words), *(["--profile", profile] if profile else [])]
    found += [word for setting in settings for word in ("--set", setting)]
    given = {f"--{name.replace('_', '-')}": str(value) for name, value in options.items() if value is not None}
    return masked(shlex.join([*found, *(word for option in given.items() for word in option)]))
