"""Packages that only some specs ask for: looked for before the first stage, without importing them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from runtime.faults import WRONG, RunFault


def require_trackers(names: Sequence[str]) -> None:
    """Raises RunFault where the package of a tracker is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            message = f"train.report_to names {name}, and its package is not installed"
            raise RunFault("SG464", message, f"pip install {name}, or leave {name} out", exit_code=WRONG)
