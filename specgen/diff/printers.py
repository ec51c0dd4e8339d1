"""A difference as text, Markdown and plain data."""

from __future__ import annotations

from dataclasses import asdict

from specgen.diff.compare import Consequence, Difference, Setting
from specgen.quoting import cell

MOST_VALUE = 60
ARROW = "→"


def is_empty(difference: Difference) -> bool:
    """Whether the two specs mean the same."""
    return not (difference.settings or difference.rest or difference.notes or difference.again)


def as_text(name: str, difference: Difference) -> str:
    """The name of the spec, then a line for each change."""
    if is_empty(difference):
        return f"{name}\n  no change"
    rows = [(setting.key, change(setting), "; ".join(map(consequence, setting.follows))) for setting in difference.settings]
    rows += [(found.name, f"{found.before} {ARROW} {found.after}", "") for found in difference.rest]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines = [f"  {key:<{widths[0]}}  {value:<{widths[1]}}  {follows}".rstrip() for key, value, follows in rows]
    lines += [f"  {note}" for note in difference.notes]
    lines.append(f"  runs again: {', '.join(difference.again) or 'nothing'}")
    return "\n".join([name, *lines])


def as_markdown(name: str, difference: Difference) -> str:
    """A section for a pull request."""
    heading = f"### {cell(name)}\n"
    if is_empty(difference):
        return f"{heading}\nNo change in effect.\n"
    lines = [heading, "| setting | change | what follows |", "|---|---|---|"]
    lines += [
        f"| {cell(setting.key)} | {cell(change(setting))} | {cell('; '.join(map(consequence, setting.follows)))} |"
        for setting in difference.settings
    ]
    lines += [f"| {cell(found.name)} | {cell(found.before)} {ARROW} {cell(found.after)} | |" for found in difference.rest]
    lines += ["", *(f"- {cell(note)}" for note in difference.notes)] if difference.notes else []
    lines += ["", f"Runs again: {', '.join(difference.again) or 'nothing'}.", ""]
    return "\n".join(lines)


def as_data(name: str, difference: Difference) -> dict[str, object]:
    """For JSON."""
    return {"spec": name, **asdict(difference)}


def change(setting: Setting) -> str:
    """`before → after`, or that the key came or went."""
    before, after = (_short(value) for value in (setting.before, setting.after))
    return f"{before} {ARROW} {after}"


def consequence(found: Consequence) -> str:
    """`300 → 450 steps`, or with the name where there is no unit."""
    values = f"{found.before} {ARROW} {found.after}"
    return f"{values} {found.unit}" if found.unit else f"{found.name} {values}"


def _short(value: str | None) -> str:
    if value is None:
        return "(none)"
    return value if len(value) <= MOST_VALUE else value[: MOST_VALUE - 1] + "…"
