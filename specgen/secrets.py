"""Tells texts that look like keys and tokens, so that none is printed or written."""

from __future__ import annotations

import re

# what the services say their keys look like
KINDS = {
    "a Hugging Face token": r"hf_[A-Za-z0-9]{20,}",
    "an OpenAI or Anthropic key": r"(?<![A-Za-z0-9])sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}",
    "a GitHub token": r"(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a GitLab token": r"glpat-[A-Za-z0-9_-]{20,}",
    "an AWS key": r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    "a Google key": r"AIza[0-9A-Za-z_-]{35}",
    "a Slack token": r"xox[abprs]-[A-Za-z0-9-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
_SECRET = re.compile("|".join(f"(?:{pattern})" for pattern in KINDS.values()))
# what need not be a secret, and is hidden all the same: a user and a password, or a key, in an address
_IN_ADDRESSES = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)|(?<=key=)[^&\s\"']+|(?<=token=)[^&\s\"']+")
MASK = "********"
# one of them is in every secret: a text without any needs no regular expression
PARTS = ("hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "AKIA", "ASIA", "AIza", "xox", "PRIVATE KEY")


def holds_secret(text: str) -> bool:
    """Whether a text holds a secret; for the many texts of the data."""
    for part in PARTS:
        if part in text:
            return _SECRET.search(text) is not None
    return False


def kind_of(text: str) -> str | None:
    """What kind of secret a text holds, or None."""
    if not _SECRET.search(text):
        return None
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, text))


def masked(text: str) -> str:
    """The text with every secret in it hidden, at the same length."""
    for pattern in (_SECRET, _IN_ADDRESSES) if "://" in text else (_SECRET,):
        text = pattern.sub(lambda found: (MASK * (len(found[0]) // len(MASK) + 1))[: len(found[0])], text)
    return text
