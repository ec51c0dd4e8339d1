"""The specs that come along: what each is about, read from the spec itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from specgen.defaults import complete
from specgen.extend import load
from specgen.lock.paths import SUFFIX
from specgen.places import data_folder
from specgen.rules.matrix import trains_projector_alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One spec of the library. `method` is lora, qlora, full or projector; `objective` chat or text."""

    name: str
    path: Path
    base: str
    method: str
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
    lora = tree.at("adapter", "lora")
    quantized = bool(tree.children["model"].children["quantization"].children)
    return Entry(
        name=tree.text("name"),
        path=file,
        base=tree.text("model", "base"),
        method="projector" if trains_projector_alone(tree) else "full" if lora is None else "qlora" if quantized else "lora",
        objective=tree.text("train", "objective"),
        profiles=tuple(tree.children["profiles"].children),
        description=tree.text("description"),
    )
