"""What is no longer as it was locked, part by part, in words: old → new. Asks nobody: a commit on the hub does not change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

from specgen.facts.gather import Facts, source_lists
from specgen.lock.contents import Lock, LockedDataFiles, LockedFile, LockedHubData, LockedRows, LockedSource, Part
from specgen.lock.take import asked_hub_data, take_libraries, take_model, take_source, take_tower
from specgen.plan import DataFile, HubBase
from specgen.source import Node

SOURCES = ("source", "validation source", "eval source")
SHORT = 12  # characters of a hash that people compare


def drifts(lock: Lock, tree: Node, facts: Facts, *, weights: bool) -> dict[Part, list[str]]:
    """The changes of each part that has any. Without `weights` no file of the base model is read. Raises SpecError."""
    found: dict[Part, list[str]] = {**_model(lock, tree, facts, weights=weights)}
    found["base"] = [*found.get("base", []), *_tower(lock, tree, facts, weights=weights)]
    others: dict[Part, Callable[[], Iterator[str]]] = {
        "template": lambda: _template(lock, facts),
        "data": lambda: _data(lock, tree, facts),
        "libraries": lambda: _libraries(lock),
    }
    found.update({part: list(changes()) for part, changes in others.items()})
    return {part: changes for part, changes in found.items() if changes}


def _model(lock: Lock, tree: Node, facts: Facts, *, weights: bool) -> dict[Part, list[str]]:
    source = tree.text("model", "base")
    if source != lock.base.source:
        return {"base": [f"model.base {lock.base.source} → {source}"]}
    if isinstance(facts.base, HubBase) or not weights:
        return {}
    now = take_model(tree, facts)
    base = list(_files(lock.base.files, now.base.files))
    if lock.base.revision != now.base.revision:
        base.insert(0, f"version {lock.base.revision} → {now.base.revision}")
    tokenizer = list(_files(lock.tokenizer.files, now.tokenizer.files))
    if not tokenizer and lock.tokenizer.sha256 != now.tokenizer.sha256:
        tokenizer = [f"{_short(lock.tokenizer.sha256)} → {_short(now.tokenizer.sha256)}"]
    return {"base": base, "tokenizer": tokenizer}


def _tower(lock: Lock, tree: Node, facts: Facts, *, weights: bool) -> Iterator[str]:
    node, old = tree.at("model", "vision", "tower"), lock.tower
    source = None if node is None else str(node.value)
    before = None if old is None else old.source
    if source != before:
        yield f"model.vision.tower {before or 'none'} → {source or 'none'}"
    elif old is not None and facts.vision is not None and not isinstance(facts.vision.base, HubBase) and weights:
        now = take_tower(tree, facts)
        assert now is not None
        if old.revision != now.revision:
            yield f"version {old.revision} → {now.revision}"
        yield from _files(old.files, now.files)


def _files(old: tuple[LockedFile, ...] | tuple[DataFile, ...], new: tuple[LockedFile, ...] | tuple[DataFile, ...]) -> Iterator[str]:
    before: Mapping[str, LockedFile | DataFile] = {file.path: file for file in old}
    now: Mapping[str, LockedFile | DataFile] = {file.path: file for file in new}
    for path in sorted(before.keys() | now.keys()):
        if path not in now:
            yield f"{path} is gone"
        elif path not in before:
            yield f"{path} is new"
        elif before[path].sha256 != now[path].sha256:
            yield f"{path} {_short(before[path].sha256)} → {_short(now[path].sha256)}{_rows(before[path], now[path])}"


def _rows(old: LockedFile | DataFile, new: LockedFile | DataFile) -> str:
    if isinstance(old, DataFile) and isinstance(new, DataFile) and old.rows != new.rows:
        return f" ({old.rows:,} → {new.rows:,} rows)"
    return ""


def _template(lock: Lock, facts: Facts) -> Iterator[str]:
    if facts.template.name != lock.template.name:
        yield f"template {lock.template.name} → {facts.template.name}"
    elif not (facts.template.name == "tokenizer" and isinstance(facts.base, HubBase)):
        text = facts.template_written
        now = None if text is None else hashlib.sha256(text.encode()).hexdigest()
        if now != lock.template.sha256:
            yield f"{lock.template.name} {_short(lock.template.sha256)} → {_short(now)}"


def _data(lock: Lock, tree: Node, facts: Facts) -> Iterator[str]:
    for name, locked, nodes, known in zip(SOURCES, lock.source_lists, source_lists(tree), facts.source_lists, strict=True):
        if len(nodes) != len(locked):
            yield f"{len(locked)} {name}s → {len(nodes)}"
            continue
        for index, (old, node, found) in enumerate(zip(locked, nodes, known, strict=True)):
            new = asked_hub_data(node) if "hub" in node.children else take_source(node, found)
            yield from _source(f"{name} {index + 1}", old, new)


def _source(name: str, old: LockedSource, new: LockedSource) -> Iterator[str]:
    if isinstance(old, LockedDataFiles) and isinstance(new, LockedDataFiles):
        yield from _files(old.files, new.files)
    elif isinstance(old, LockedRows) and isinstance(new, LockedRows):
        if old != new:
            rows = "" if old.rows == new.rows else f" ({old.rows:,} → {new.rows:,} rows)"
            yield f"{name} {_short(old.sha256)} → {_short(new.sha256)}{rows}"
    elif isinstance(old, LockedHubData) and isinstance(new, LockedHubData):
        if _asked(old) != _asked(new):
            yield f"{name} {_asked(old)} → {_asked(new)}"
    else:
        yield f"{name} {old.TAG} → {new.TAG}"


def _asked(data: LockedHubData) -> str:
    return f"{data.repo}@{data.asked or 'main'} {data.subset or ''}{':' if data.subset else ''}{data.split}"


def _libraries(lock: Lock) -> Iterator[str]:
    """Only those that are in both: what is not installed here does not train here."""
    now = take_libraries()
    for name, old in lock.libraries.items():
        if now.get(name, old) != old:
            yield f"{name} {old} → {now[name]}"


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:SHORT]
