"""Figures of a tokenized data set, for the plan, the report and the lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Digests = NDArray[np.uint64]

SHARES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
BARS = 8


def figures(lengths: Numbers, trained: NDArray[np.int32], packs: int | None, max_length: int) -> dict[str, Any]:
    """Counts over the examples that are left for training, with repetitions: `lengths` and trained tokens of each. The length
    figures are tokens of an example, `fill` is a share, `histogram` counts examples in eighths of the longest."""
    import numpy as np

    from runtime.data.packing import fill

    ordered = np.sort(lengths)
    return {
        "examples": len(lengths) if packs is None else packs,
        "packs": packs,
        "fill": None if packs is None else fill(lengths, packs, max_length),
        "tokens": int(lengths.sum(dtype=np.int64)),
        "trained_tokens": int(trained.sum(dtype=np.int64)),
        **{name: percentile(ordered, share) for name, share in SHARES.items()},
        "longest": int(ordered[-1]),
        "histogram": np.bincount((ordered - 1) * BARS // ordered[-1], minlength=BARS).tolist(),
    }


def repeated(digests: Digests, train: Numbers, validation: Numbers, prompts: Digests) -> dict[str, Any]:
    """Distinct rows, and two shares: of the training rows that repeat another one, and of the validation rows whose prompt is
    trained on, too. All [R]: digests of rows and, with validation, of their prompts, and how often each row counts."""
    import numpy as np

    total, held = int(train.sum()), int(validation.sum())
    shared = np.isin(prompts[validation > 0], prompts[train > 0]) if held else np.zeros(0, bool)
    return {
        "distinct": len(np.unique(digests[(train > 0) | (validation > 0)])),
        "duplicates": 1 - len(np.unique(digests[train > 0])) / total if total else 0.0,
        "overlap": int(validation[validation > 0][shared].sum()) / held if held else 0.0,
    }


def percentile(ordered: Sequence[int] | Numbers, share: float) -> int:
    """The value before which this share of the ordered values stands; of two in the middle the greater one is the median."""
    return int(ordered[min(len(ordered) - 1, int(share * len(ordered)))])
