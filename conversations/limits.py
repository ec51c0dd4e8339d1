"""data.limits in words: what a share counts, and what to do where it is over its limit."""

from __future__ import annotations

# limit → what its share counts, and what to do about it
MOST = {
    "dropped": ("of the rows would be dropped", "raise data.max_length, mend rows that are broken, or raise data.limits.dropped"),
    "truncated": ("of the rows would be truncated", "raise data.max_length, or data.limits.truncated"),
    "duplicates": ("of the training rows repeat another one", "leave the repeated rows out, or raise data.limits.duplicates"),
    "overlap": (
        "of the validation rows have a prompt that is trained on, too",
        "leave the shared prompts out of one of the two, or raise data.limits.overlap",
    ),
}


def over(name: str, share: float, most: float) -> tuple[str, str]:
    """What is wrong with a share beyond its limit, and a hint."""
    what, hint = MOST[name]
    return f"{share:.1%} {what}; data.limits.{name} allows {most:.1%}", hint


def under(share: float, least: float) -> tuple[str, str]:
    """The same of too small a share of trained tokens."""
    message = f"{share:.1%} of the tokens are trained; data.limits.trained asks for {least:.1%}"
    return message, "the rest is prompts and templates: shorten them, or lower data.limits.trained"
