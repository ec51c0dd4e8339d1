"""Several documents become one: a profile over the spec, then `--set`. Each value keeps the place that it came from."""

from __future__ import annotations

import difflib
from dataclasses import replace

from specgen.diagnostics import Diagnostic, Place, SpecError
from specgen.schema import Schema, child, is_variant, spec_schema
from specgen.secrets import masked
from specgen.source import MAX_DEPTH, Node, parse_scalar

# two keys that say the same in two ways: a layer that has the one takes the place of a layer that has the other
OTHER_WAY = {"epochs": "max_steps", "max_steps": "epochs", "warmup_ratio": "warmup_steps", "warmup_steps": "warmup_ratio"}


def with_profile(tree: Node, profile: str | None) -> Node:
    """The spec with one of its profiles laid over it, named `NAME-PROFILE`; without a profile the spec itself."""
    if profile is None:
        return tree
    profiles = tree.at("profiles")
    overlay = tree.at("profiles", profile)
    if overlay is None:
        known = list(profiles.children) if profiles else []
        near = difflib.get_close_matches(profile, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"its profiles are {', '.join(known)}" if known else None
        place = (profiles and profiles.key) or tree.place
        raise SpecError(Diagnostic(code="SG109", message=f"the spec has no profile '{profile}'", place=place, hint=hint))
    merged = overlaid(tree, overlay, spec_schema())
    name = merged.at("name")
    if name and isinstance(name.value, str) and "name" not in overlay.children:
        renamed = replace(name, value=f"{name.value}-{profile}")
        merged = replace(merged, value={**merged.children, "name": renamed})
    return merged


def with_settings(tree: Node, settings: tuple[str, ...]) -> Node:
    """The spec with every `a.b.c=value` laid over it, in order."""
    for setting in settings:
        tree = overlaid(tree, _setting(setting), spec_schema())
    return tree


def without_effect(layer: Node, where: str) -> list[Diagnostic]:
    """Keys that are read before this layer is laid on, and would be passed over in it."""
    hint = "write it at the top of the spec"
    return [
        Diagnostic(code="SG117", message=f"{key} has no effect {where}: it is read before", place=layer.children[key].key, hint=hint)
        for key in ("extends", "profiles")
        if key in layer.children
    ]


def overlaid(base: Node, over: Node, schema: Schema | None) -> Node:
    """Mappings are merged key by key; everything else, and a variant of another name, is replaced."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    if schema is not None and is_variant(schema) and set(base.value) != set(over.value):
        return over
    merged = {key: value for key, value in base.value.items() if OTHER_WAY.get(key) not in over.value}
    for key, value in over.value.items():
        sub = child(schema, key) if schema is not None else None
        merged[key] = overlaid(base.value[key], value, sub) if key in base.value else value
    return replace(base, value=merged)


def _setting(setting: str) -> Node:
    path, equals, text = setting.partition("=")
    place = Place(file=f"--set {masked(setting)}", line=1, column=1, width=len(path))
    steps = path.split(".")
    if not equals or not all(steps):
        raise SpecError(Diagnostic(code="SG110", message="--set takes KEY=VALUE", place=place, hint="for example --set train.epochs=1"))
    if len(steps) > MAX_DEPTH or not _is_text(setting):
        what = "is not UTF-8 text" if not _is_text(setting) else f"has a key of {len(steps):,} parts; at most {MAX_DEPTH} are allowed"
        raise SpecError(Diagnostic(code="SG110", message=f"--set {what}", place=replace(place, file="--set", width=1)))
    node = replace(parse_scalar(text, place), key=place)
    for step in reversed(steps):
        node = Node(value={step: node}, place=place, key=place)
    if faults := without_effect(node, "with --set"):
        raise SpecError(*faults)
    return node


def _is_text(setting: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in setting)
