"""docs/benchmarks.md, made of the figures that the benchmarks left in results/.

python -m benchmarks.page > docs/benchmarks.md
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.bench import RESULTS, Table

ORDER = ("train", "data", "cli", "merge", "chat", "scale", "gpu")
TITLES = {
    "train": "Training",
    "data": "Data",
    "cli": "Command line",
    "merge": "Merge",
    "chat": "Answers",
    "scale": "Growth",
    "gpu": "On a GPU",
}
BEGINNING = """# Benchmarks

Made by `make bench`, in about half an hour on a quiet machine with two cores; it installs the peers in environments of their own. One
part alone: `.venv/bin/python -m benchmarks.train`, and the page anew: `.venv/bin/python -m benchmarks.page > docs/benchmarks.md`. Figures
are medians of runs in turn, in processes of their own, but where a part says otherwise; they lie in `benchmarks/results/`.
"""


def main() -> None:
    """Prints docs/benchmarks.md, made of the results that are there."""
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name in ORDER if (file := RESULTS / f"{name}.json").exists()}
    print(BEGINNING)
    print(_targets(found))
    for name, results in found.items():
        print(_part(name, results))


def _targets(found: dict[str, Any]) -> str:
    """What has to hold, and whether it does."""
    table = Table(title="What has to hold", columns=("", "measured", "wanted", ""))
    for name, results in found.items():
        for target in results["targets"]:
            row = (
                f"{TITLES[name]}: {target['what']}",
                f"{target['found']:.3g}",
                target["wanted"],
                "met" if target["is_met"] else "**missed**",
            )
            table.rows.append(row)
    return table.markdown().replace("###", "##", 1)


def _part(name: str, results: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in results["versions"].items())
    runs = f"; medians of {results['runs']} runs" if results["runs"] > 1 else ""
    lines = [f"## {TITLES[name]}", "", f"{results['about']}. {results['machine']}; {versions}{runs}.", ""]
    lines += [Table(**table).markdown() for table in results["tables"]]
    lines += [f"![{picture.removesuffix('.svg')}](benchmarks/{picture})\n" for picture in results["pictures"]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
