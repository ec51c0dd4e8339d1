"""specs/README.md: the library of specs as a table. `python -m docsite.library` prints it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from specgen.compiler import checked
from specgen.extend import load
from specgen.library import entries
from specgen.methods import method_of
from specgen.source import Node, read

SOURCE = re.compile(r"^# Source: (.+)$", re.MULTILINE)
NAMED_BY = {"hub": "repo", "file": "path"}
QUANTIZED = {"nf4": "QLoRA", "int8": "LoRA on int8"}
WORDS = {"full": "full", "lora": "LoRA", "projector": "projector"}

HEAD = """\
# The library

Each is one file with every value in it; its first lines say where they come from, and what is otherwise here.
`specgen validate specs/NAME.yaml` checks one, and `specgen run specs/NAME.yaml` makes the model. Names are made as XTuner's are:
model, method, data, epochs (e) or steps (s). The data in `specs/data/` are examples of a few rows, to be replaced by your own.

"""


def sources(text: str) -> list[str]:
    """The recipes that a spec's values come from, as its comments name them."""
    return SOURCE.findall(text)


def page() -> str:
    """The whole page, Markdown."""
    rows = [_row(entry.path) for entry in entries()]
    lines = ["| spec | base | method | data | devices | profiles | source |", "|---" * 7 + "|", *rows]
    return HEAD + "\n".join(lines) + "\n"


def _row(path: Path) -> str:
    written = load(path)
    tree = checked(written)
    profiles = written.at("profiles")
    cells = [
        f"[{path.stem}]({path.name})",
        tree.text("model", "base").removeprefix("hf:"),
        method(tree),
        ", ".join(dict.fromkeys(_data(tree))),
        _devices(tree),
        ", ".join(profiles.children) if profiles else "",
        "; ".join(sources(read(path))),
    ]
    return f"| {' | '.join(cells)} |"


def method(tree: Node) -> str:
    """How the model of a complete tree is trained: full, LoRA, QLoRA, its projector alone; `text` where it goes on with its pretraining,
    `vision` where it sees."""
    found = method_of(tree)
    way = QUANTIZED[next(iter(tree.children["model"].children["quantization"].children))] if found == "qlora" else WORDS[found]
    if tree.children["model"].children["vision"].value is not None:
        return f"{way}, vision"
    return f"{way}, text" if tree.text("train", "objective") == "text" else way


def _data(tree: Node) -> Iterator[str]:
    for source in tree.children["data"].children["sources"].items:
        kind, settings = next(iter(source.children.items()))
        yield settings.text(NAMED_BY[kind]) if kind in NAMED_BY else kind


def _devices(tree: Node) -> str:
    nodes, processes = tree.number("distributed", "nodes"), tree.number("distributed", "processes_per_node")
    stage, offload = tree.number("distributed", "zero_stage"), tree.text("distributed", "offload")
    count = f"{nodes} × {processes}" if nodes > 1 else str(processes)
    return count + (f", ZeRO-{stage}" if stage else "") + (f", offload {offload}" if offload != "none" else "")


if __name__ == "__main__":
    print(page(), end="")
