"""docs/architecture.svg: the three packages, drawn from the code and from the layers that import-linter holds (pyproject.toml).

python -m docsite.architecture > docs/architecture.svg
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).parents[1]
WIDTH, EDGE, GAP, ROW, BOX = 1000, 24, 8, 48, 40  # pixels
COLUMN = 396
HEAD = 96
PER_ROW = 3
LETTER = 6.1  # pixels of a letter in small words, as wide as fonts have it
COLOURS = {"specgen": "#2457a6", "runtime": "#b3541e", "conversations": "#3d7a4d"}
STYLE = (
    ".room {text-anchor: middle; font-size: 14px} .room rect {fill-opacity: 0.1; stroke-opacity: 0.55} "
    ".room .small {font-size: 11px; fill: #556} .words {text-anchor: middle; font-size: 12px; fill: #445} "
    ".arrow {fill: none; stroke: #445; stroke-width: 1.6; marker-end: url(#head)} "
    "@media (prefers-color-scheme: dark) {text {fill: #e6eaf0} .room .small, .words, .said {fill: #a9b4c2} .paper {fill: #191e26} "
    ".card {fill: #222934} .folder {fill: #2e2a1c} .room rect {fill-opacity: 0.3} .arrow {stroke: #a9b4c2} .head {fill: #a9b4c2} "
    ".specgen {fill: #86b4ff} .runtime {fill: #f2a873} .conversations {fill: #83cf9b}}"
)
SAID = {
    "specgen": "the compiler: a spec becomes plain files",
    "runtime": "carries the compiled folder out",
    "conversations": "what both have to say of rows",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A module or package of a layer: its name without the package, how many modules it is, and what it says of itself."""

    name: str
    modules: int
    purpose: str


def rooms(module: str) -> Room:
    """What the code has of a module: a file, or a folder with all in it."""
    place = ROOT / Path(*module.split("."))
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    first = place / "__init__.py" if place.is_dir() else files[0]
    said = ast.get_docstring(ast.parse(first.read_text(encoding="utf-8"))) or ""
    return Room(name=module.partition(".")[2], modules=len(files), purpose=said.partition("\n\n")[0].replace("\n", " "))


def held() -> list[dict[str, Any]]:
    """What import-linter holds of layers."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    return [contract for contract in settings if contract["type"] == "layers"]


def upward() -> int:
    """How many imports lead up, and are let through."""
    return sum(len(contract.get("ignore_imports", [])) for contract in held())


def modules(package: str) -> tuple[int, int]:
    """How many modules a package has, and how many of them stand in a layer."""
    return len(list((ROOT / package).rglob("*.py"))), sum(room.modules for layer in layers(package) for room in layer)


def layers(package: str) -> list[list[Room]]:
    """The layers of a package, the top one first, as pyproject.toml has them."""
    for contract in held():
        within = f"{package}." if contract.get("containers") == [package] else ""
        if within or contract["layers"][0].startswith(package):
            return [[rooms(within + name) for name in re.split(r" [|:] ", layer)] for layer in contract["layers"]]
    raise LookupError(package)


def imports(package: str, of: str) -> int:
    """How many modules of a package import another package."""
    files = (ROOT / package).rglob("*.py")
    return sum(any(name.split(".")[0] == of for name in _imported(file)) for file in files)


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def shown(purpose: str, width: float) -> str:
    """As much of a purpose as has room: its first sentence, what stands there before or behind a colon, or nothing."""
    sentence = purpose.partition(". ")[0].rstrip(".").replace("`", "")
    short = sentence.partition("; ")[0]
    ways = [sentence, short, *short.split(": ", 1)]
    return max((way for way in ways if " " in way and len(way) * LETTER < width - 12), key=len, default="")


def box(left: float, top: float, width: float, room: Room, colour: str) -> str:
    """A room: its name, and what it says of itself, whole where the pointer rests."""
    middle, small = left + width / 2, shown(room.purpose, width)
    name, modules = escape(room.name), f"{room.modules} modules" if room.modules > 1 else ""
    if small and modules:
        name += f'<tspan class="small"> · {modules}</tspan>'
    small = small or modules
    below = f'<text class="small" x="{middle:.0f}" y="{top + 33:.0f}">{escape(small)}</text>' if small else ""
    return (
        f'<g class="room"><title>{escape(room.purpose)}</title>'
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{BOX}" rx="5" fill="{colour}" stroke="{colour}"/>'
        f'<text x="{middle:.0f}" y="{top + (18 if small else 25)}">{name}</text>{below}</g>'
    )


def in_rows(layer: list[Room]) -> list[list[Room]]:
    """A layer in as few rows as there have to be, each as long as the others or one shorter."""
    number = -(-len(layer) // PER_ROW)
    ends = [len(layer) * row // number for row in range(number + 1)]
    return [layer[start:end] for start, end in pairwise(ends)]


def column(package: str, left: float, top: float, width: float) -> tuple[list[str], float]:
    """A package as its layers, one under another; and where it ends."""
    colour, parts, y = COLOURS[package], [], top + HEAD - 30
    for layer in layers(package):
        for row in in_rows(layer):
            each = (width - 2 * GAP - GAP * (len(row) - 1)) / len(row)
            parts += [box(left + GAP + number * (each + GAP), y, each, room, colour) for number, room in enumerate(row)]
            y += BOX + 3
        y += ROW - BOX - 3
    total, layered = modules(package)
    frame = (
        f'<rect class="card" x="{left}" y="{top}" width="{width}" height="{y - top:.0f}" rx="9" fill="#fff" stroke="{colour}"/>'
        f'<text class="{package}" x="{left + 14}" y="{top + 27}" font-size="20" font-weight="600" fill="{colour}">{package}</text>'
        f'<text class="said" x="{left + 14}" y="{top + 47}" font-size="13" fill="#445">{SAID[package]}</text>'
        f'<text class="said" x="{left + width - 14}" y="{top + 27}" font-size="13" fill="#445" text-anchor="end">'
        f"{layered} of {total} modules are in a layer</text>"
    )
    return [frame, *parts], y


def arrow(*points: tuple[float, float]) -> str:
    """An arrow along points."""
    return f'<path class="arrow" d="M{" L".join(f"{x:.0f} {y:.0f}" for x, y in points)}"/>'


def words(said: str, x: float, y: float) -> str:
    """Words beside an arrow."""
    return f'<text class="words" x="{x:.0f}" y="{y:.0f}">{said}</text>'


def contract(left: float, top: float, width: float) -> str:
    """The compiled folder, which is all that the two sides share."""
    lines = ["compiled folder", "config.yaml", "deepspeed.json", "plan.md"]
    texts = "".join(
        f'<text x="{left + width / 2:.0f}" y="{top + 22 + 17 * number:.0f}" font-size="{12.5 if number else 13}" '
        f'font-weight="{400 if number else 600}" text-anchor="middle">{line}</text>'
        for number, line in enumerate(lines)
    )
    return f'<rect class="folder" x="{left}" y="{top}" width="{width}" height="86" rx="5" fill="#fff8e6" stroke="#b8860b"/>{texts}'


def drawing() -> str:
    """The whole picture."""
    right = WIDTH - EDGE - COLUMN
    middle, between = EDGE + COLUMN, right - EDGE - COLUMN
    compiler, end_left = column("specgen", EDGE, EDGE, COLUMN)
    carried, end_right = column("runtime", right, EDGE, COLUMN)
    below = max(end_left, end_right) + 62
    shared, end = column("conversations", EDGE, below, WIDTH - 2 * EDGE)
    top = EDGE + 150
    arrows = [
        arrow((middle, top + 43), (middle + 10, top + 43)),
        arrow((right - 11, top + 43), (right - 1, top + 43)),
        words(f"No layer imports one above it, but for {upward()} imports that pyproject.toml names.", WIDTH / 2, end + 24),
    ]
    for package, x, bottom in (("specgen", EDGE + COLUMN / 2, end_left), ("runtime", right + COLUMN / 2, end_right)):
        number = imports(package, "conversations")
        arrows += [arrow((x, bottom), (x, below - 2)), words(f"{number} modules import it", x + 82, below - 18)]
    height = end + EDGE + 18
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="system-ui, sans-serif" fill="#223">',
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path class="head" d="M0 0 L8 4 L0 8 z" fill="#445"/></marker></defs>',
            f'<rect class="paper" width="{WIDTH}" height="{height:.0f}" rx="12" fill="#f6f7f9"/>',
            *compiler,
            *carried,
            *shared,
            contract(middle + 12, top, between - 24),
            *arrows,
            "</svg>",
        ]
    )


if __name__ == "__main__":
    print(drawing())
