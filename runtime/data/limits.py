"""data.limits: what the data set has to keep to, as shares. A run that does not ends before training."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.config import LimitsConfig
from runtime.faults import WRONG, RunFault

# limit → what its share counts, and what to do about it
MOST = {
    "dropped": ("of the rows would be dropped", "{}, or raise data.limits.dropped"),
    "truncated": ("of the rows would be truncated", "raise data.max_length, or data.limits.truncated"),
    "duplicates": ("of the training rows repeat another one", "leave the repeated rows out, or raise data.limits.duplicates"),
    "overlap": (
        "of the validation rows have a prompt that is trained on, too",
        "leave the shared prompts out of one of the two, or raise data.limits.overlap",
    ),
}


def hold(limits: LimitsConfig, shares: Mapping[str, float], *, dropped: str = "") -> None:
    """Raises RunFault for a share beyond its limit. `dropped` is what to do about rows that are, by why they are."""
    for name, share in shares.items():
        if name == "trained":
            if share < limits.trained:
                message = f"{share:.1%} of the tokens are trained; data.limits.trained asks for {limits.trained:.1%}"
                hint = "the rest is prompts and templates: shorten them, or lower data.limits.trained"
                raise RunFault("SG427", message, hint, exit_code=WRONG)
            continue
        most = getattr(limits, name)
        if share > most:
            what, hint = MOST[name]
            raise RunFault("SG427", f"{share:.1%} {what}; data.limits.{name} allows {most:.1%}", hint.format(dropped), exit_code=WRONG)
