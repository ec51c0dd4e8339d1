"""XTuner's DeepSpeed settings by name. `distributed.preset` stands for values of other keys: a pass before defaults are filled in.

Stages and offload are those of its files (xtuner/configs/deepspeed, 0.1.17 to 0.1.23). All else that these say, specgen's
deepspeed.json says as it is: overlap_comm, pinned memory, 16-bit weights gathered when saving, an initial loss scale of 2^16, any
optimizer; "auto" there is the number that the spec gives here.
"""

from __future__ import annotations

from dataclasses import replace

from specgen.diagnostics import Place
from specgen.source import Node

Settings = dict[str, int | str]

PRESETS: dict[str, Settings] = {
    "deepspeed_zero1": {"zero_stage": 1, "offload": "none"},
    "deepspeed_zero2": {"zero_stage": 2, "offload": "none"},
    "deepspeed_zero2_offload": {"zero_stage": 2, "offload": "optimizer", "offload_device": "cpu"},
    "deepspeed_zero3": {"zero_stage": 3, "offload": "none"},
    "deepspeed_zero3_offload": {"zero_stage": 3, "offload": "all", "offload_device": "cpu"},
}


def with_preset(tree: Node) -> Node:
    """The tree with what its preset says, where it is not written beside it. These values stand where the preset stands."""
    distributed = tree.at("distributed")
    if distributed is None or not (settings := settings_of(tree)):
        return tree
    place = distributed.children["preset"].place
    written = distributed.children
    said = {key: Node(value=value, place=place, key=place) for key, value in settings.items() if key not in written}
    return replace(tree, value={**tree.children, "distributed": replace(distributed, value={**written, **said})})


def settings_of(tree: Node) -> Settings:
    """What the preset of a spec says, by keys of distributed; nothing where it has none."""
    preset = tree.at("distributed", "preset")
    return PRESETS.get(preset.value, {}) if preset is not None and isinstance(preset.value, str) else {}


def preset_behind(tree: Node, path: tuple[str | int, ...], place: Place | None) -> str | None:
    """The name of the preset that a value of a complete tree comes from, if it comes from one."""
    preset = tree.at("distributed", "preset")
    is_its = len(path) == 2 and path[0] == "distributed" and path[1] in settings_of(tree)
    return str(preset.value) if preset is not None and is_its and place is not None and place == preset.place else None
