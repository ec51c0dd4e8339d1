"""Which adapters a merged folder contains already: merging one twice adds it twice, and answers like noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.faults import WRONG, RunFault
from runtime.weights.adapters import Adapter

FILE = "merged.json"


def write(out: Path, base: Path, base_name: str, adapters: Sequence[Adapter], *, into: str) -> None:
    """Puts down what was merged into what; what the base contained before counts, too."""
    own = [{"name": adapter.folder.name, "sha256": adapter.identity(), "weight": adapter.weight} for adapter in adapters]
    content = {"base": base_name, "into": into, "adapters": [*_contained(base), *own]}
    (out / FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def require_new(base: Path, adapters: Sequence[Adapter]) -> None:
    """Raises RunFault where the base contains one of the adapters, or one is given twice."""
    try:
        contained = {entry["sha256"] for entry in _contained(base)}
    except (TypeError, KeyError):
        raise RunFault("SG441", f"{base / FILE} cannot be read: it is not as a merge writes it") from None
    for adapter in adapters:
        identity = adapter.identity()
        if identity in contained:
            message = f"the adapter in {adapter.folder} is in {base} already ({FILE} says so), or is given twice"
            raise RunFault("SG460", message, "merge it into the base model that it was trained on, once", exit_code=WRONG)
        contained.add(identity)


def _contained(base: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads((base / FILE).read_text(encoding="utf-8"))["adapters"]
    except OSError:
        return []
    except ValueError as error:
        raise RunFault("SG441", f"{base / FILE} cannot be read: it is no JSON ({error})") from None
    return found
