"""Wheel and sdist: built, and held to what they have to say of themselves."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from conversations import __version__
from release.say import Refused, output_of

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"


@dataclass(frozen=True, slots=True)
class Archives:
    """What is uploaded."""

    wheel: Path
    sdist: Path


def build() -> Archives:
    """Builds the sdist, and the wheel from it, into a dist/ that holds nothing else. Raises Refused."""
    shutil.rmtree(DIST, ignore_errors=True)
    output_of([sys.executable, "-m", "build", "--outdir", DIST, ROOT])
    archives = Archives(DIST / f"specgen-{__version__}-py3-none-any.whl", DIST / f"specgen-{__version__}.tar.gz")
    if set(DIST.iterdir()) != {archives.wheel, archives.sdist}:
        raise Refused(f"dist/ holds {', '.join(sorted(file.name for file in DIST.iterdir()))}, which is not version {__version__}")
    output_of([sys.executable, "-m", "twine", "check", "--strict", archives.wheel, archives.sdist])
    return archives


def require_dated_entry(changelog: str) -> None:
    """Raises Refused where the changelog does not say when this version was released."""
    if not re.search(rf"(?m)^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", changelog):
        raise Refused(f"CHANGELOG.md has no line '## [{__version__}] - YYYY-MM-DD'")
