"""data.limits: what the data set has to keep to, as shares. A run that does not ends before training."""

from __future__ import annotations

from collections.abc import Mapping

from conversations.limits import over, under
from runtime.config import LimitsConfig
from runtime.faults import WRONG, RunFault


def hold(limits: LimitsConfig, shares: Mapping[str, float], *, dropped: str | None = None) -> None:
    """Raises RunFault for a share beyond its limit. `dropped` is what to do about rows that are, where it is known why they are."""
    for name, share in shares.items():
        limit = getattr(limits, name)
        if share < limit if name == "trained" else share > limit:
            message, hint = under(share, limit) if name == "trained" else over(name, share, limit)
            raise RunFault("SG427", message, dropped or hint if name == "dropped" else hint, exit_code=WRONG)
