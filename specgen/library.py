"""The specs that come along: what each is about, read from the spec itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from specgen.defaults import complete
from specgen.extend import load
from specgen.lock.paths import SUFFIX
from specgen.methods import Method, method_of
from specgen.places import data_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One spec of the library. `objective` is chat or text."""

    name: str
    path: Path
    base: str
    method: Method
    objective: str
    profiles: tuple[str, ...]
    description: str

    @property
    def words(self) -> str:
        """All that a filter looks at."""
        return " ".join((self.name, self.base, self.method, self.objective, *self.profiles, self.description)).lower()


@cache
def entries() -> tuple[Entry, ...]:
    """All specs of the library, by name."""
    files = (file for file in data_folder("specs").glob("*.yaml") if not file.name.endswith(SUFFIX))
    return tuple(sorted((_entry(file) for file in files), key=lambda entry: entry.name))


def find(name: str) -> Entry | None:
    """The spec of that name."""
    return next((entry for entry in entries() if entry.name == name), None)


def _entry(file: Path) -> Entry:
    tree = complete(load(file))
    return Entry(
        name=tree.text("name"),
        path=file,
        base=tree.text("model", "base"),
        method=method_of(tree),
        objective=tree.text("train", "objective"),
        profiles=tuple(tree.children["profiles"].children),
        description=tree.text("description"),
    )
