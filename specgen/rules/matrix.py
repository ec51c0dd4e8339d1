"""Settings that do not work together, from schemas/support.yaml; and the nearest combination that does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from specgen.diagnostics import Diagnostic, Severity
from specgen.facts.gather import Facts
from specgen.places import data_folder
from specgen.source import Node
from specgen.trainable import names_projector_alone
from specgen.validate import place_of

Value = str | int | bool
Combination = dict[str, Value]

MOST_CHANGES = 2
# NVIDIA's compute capabilities
GPUS = ((10.0, "blackwell"), (9.0, "hopper"), (8.0, "ampere"), (7.5, "turing"), (7.0, "volta"), (0.0, "pascal"))
FIXED = {"device", "gpu", "remote_code"}  # what a machine or a model is, a hint cannot change


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One setting: its values, those that are better first, and the key of the spec that chooses."""

    name: str
    values: tuple[Value, ...]
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Values that do not work together: axis → those of its values that are concerned."""

    code: str
    severity: Severity
    when: dict[str, tuple[Value, ...]]
    message: str
    why: str

    def holds(self, combination: Combination) -> bool:
        """Whether the combination has the conflict."""
        return all(combination[axis] in values for axis, values in self.when.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All axes, cheapest change first, all conflicts, and attentions with the model types that lack them."""

    axes: dict[str, Axis]
    conflicts: tuple[Conflict, ...]
    lacking: dict[str, frozenset[str]]


@cache
def matrix() -> Matrix:
    """schemas/support.yaml."""
    import yaml

    content = yaml.load((data_folder("schemas") / "support.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    axes = {name: Axis(name=name, values=tuple(axis["values"]), key=axis["key"]) for name, axis in content["axes"].items()}
    lacking = {attention: frozenset(kinds) for attention, kinds in content["lacking"].items()}
    return Matrix(axes=axes, conflicts=tuple(_conflict(entry) for entry in content["conflicts"]), lacking=lacking)


def _conflict(entry: dict[str, Any]) -> Conflict:
    when = {axis: tuple(values) for axis, values in entry["when"].items()}
    return Conflict(code=entry["code"], severity=entry.get("severity", "error"), when=when, message=entry["message"], why=entry["why"])


def settings_work_together(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """No conflict of the support matrix holds."""
    combination = combination_of(tree)
    capability = tree.at("hardware", "compute_capability")
    for conflict in matrix().conflicts:
        if not conflict.holds(combination):
            continue
        written = [(axis, node) for axis in conflict.when if (node := _node(tree, axis))]
        first = _key(next(iter(conflict.when))).split(".")
        yield Diagnostic(
            code=conflict.code,
            severity=conflict.severity,
            message=conflict.message.format(**combination, compute_capability=capability.value if capability else None),
            place=written[0][1].place if written else place_of(tree, *first),
            related=tuple((node.place, f"{_key(axis)} is set here") for axis, node in written[1:] if node.place),
            hint=_hint(combination, conflict),
        )


def combination_of(tree: Node) -> Combination:
    """What a complete tree chooses on each axis."""
    adapter = tree.children["adapter"].children
    quantization = next(iter(tree.children["model"].children["quantization"].children), "none")
    compute_dtype = tree.at("model", "quantization", "nf4", "compute_dtype")
    capability = tree.at("hardware", "compute_capability")
    return {
        "packing": bool(tree.at("data", "packing") and tree.children["data"].children["packing"].value),
        "attention": tree.text("model", "attention"),
        "offload": tree.text("distributed", "offload"),
        "optimizer": tree.text("train", "optimizer"),
        "zero_stage": tree.number("distributed", "zero_stage"),
        "dtype": tree.text("model", "dtype"),
        "compute_dtype": compute_dtype.value if compute_dtype and isinstance(compute_dtype.value, str) else "none",
        "quantization": quantization,
        "adapter": _whole(tree) if "lora" not in adapter else "dora" if adapter["lora"].children["use_dora"].value else "lora",
        "remote_code": bool(tree.children["model"].children["trust_remote_code"].value),
        "merge_device": tree.text("export", "merged", "device"),
        "device": tree.text("hardware", "device"),
        "gpu": gpu_of(capability.value if capability and isinstance(capability.value, int | float) else None),
    }


def _whole(tree: Node) -> str:
    """Without an adapter all is trained; but where that is the projector alone, the base stays frozen, as beside LoRA."""
    return "lora" if trains_projector_alone(tree) else "full"


def trains_projector_alone(tree: Node) -> bool:
    """Whether no adapter is trained, and of a model that sees the projector only: LLaVA's first stage."""
    names = tree.children["train"].children["trainable_modules"].items
    sees = tree.children["model"].children["vision"].value is not None
    return sees and tree.children["adapter"].value is None and names_projector_alone([str(node.value) for node in names])


def gpu_of(compute_capability: float | None) -> str:
    """NVIDIA's architecture, as far as the matrix tells them apart; Ada counts as `ampere`, and what is later as `blackwell`."""
    if compute_capability is None:
        return "unknown"
    return next(name for least, name in GPUS if compute_capability >= least)


def nearest(combination: Combination, conflict: Conflict) -> list[Combination]:
    """The smallest changes that leave neither the conflict nor any error: axis → new value, cheapest first.

    Single changes of the settings that clash, one for each; where there is none, the cheapest change of any two settings.
    """
    others = tuple(other for other in matrix().conflicts if other.severity == "error" or other is conflict)
    single = [changes for axis in matrix().axes if axis in conflict.when for changes in _changes(combination, (axis,), others)[:1]]
    if single:
        return single
    pairs = itertools.combinations(matrix().axes, MOST_CHANGES)
    return next((found[:1] for pair in pairs if (found := _changes(combination, pair, others))), [])


def _changes(combination: Combination, axes: tuple[str, ...], conflicts: tuple[Conflict, ...]) -> list[Combination]:
    """All ways to change exactly these axes that leave no conflict."""
    found: list[Combination] = []
    for values in itertools.product(*(matrix().axes[name].values for name in axes)):
        changes = dict(zip(axes, values, strict=True))
        if any(name in FIXED or combination[name] == value for name, value in changes.items()):
            continue
        after = {**combination, **changes}
        if "quantization" in changes:
            after["compute_dtype"] = "bfloat16" if changes["quantization"] == "nf4" else "none"
        if (after["quantization"] == "nf4") == (after["compute_dtype"] != "none") and not any(c.holds(after) for c in conflicts):
            found.append(changes)
    return found


def _hint(combination: Combination, conflict: Conflict) -> str | None:
    ways = [" and ".join(_change(combination, axis, value) for axis, value in way.items()) for way in nearest(combination, conflict)]
    return f"write {', or '.join(ways)}" if ways else None


def _change(combination: Combination, axis: str, value: Value) -> str:
    """The line that changes one axis; between LoRA and DoRA all else of the adapter stays."""
    if axis == "adapter" and {combination[axis], value} == {"lora", "dora"}:
        return f"adapter.lora.use_dora: {str(value == 'dora').lower()}"
    return f"{_key(axis)}: {_said(axis, value)}"


def _key(axis: str) -> str:
    return matrix().axes[axis].key


def _said(axis: str, value: Value) -> str:
    """A value as a spec says it."""
    if axis == "quantization":
        return "null" if value == "none" else f"{{{value}: {{}}}}"
    if axis == "adapter":
        return {"full": "null", "lora": "{lora: {}}", "dora": "{lora: {use_dora: true}}"}[str(value)]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _node(tree: Node, axis: str) -> Node | None:
    """The value that the user wrote for an axis, or None for a default."""
    node = tree.at(*_key(axis).split("."))
    return node if node is not None and node.place else None
