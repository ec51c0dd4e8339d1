"""Where lock files stand. Apart from what is in them: every command looks whether there is one."""

from __future__ import annotations

from pathlib import Path

from specgen.reading import is_there

SUFFIX = ".lock.yaml"


def lock_path(spec: Path, profile: str | None) -> Path:
    """Where the lock of a spec, or of one of its profiles, stands: beside it."""
    stem = spec.name.removesuffix(spec.suffix) + (f".{profile}" if profile else "")
    return spec.parent / (stem + SUFFIX)  # any name, such as that of a profile that validation refuses; with_name would raise


def lock_beside(spec: Path, profile: str | None) -> tuple[Path, str | None]:
    """The lock that holds a spec under a profile, and whose it is: the profile's own where there is one, else the spec's."""
    own = lock_path(spec, profile)
    return (own, profile) if is_there(own) else (lock_path(spec, None), None)
