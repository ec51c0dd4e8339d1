"""Revisions of a git repository, laid out in a temporary folder without touching the working tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from specgen.diagnostics import Diagnostic, SpecError
from specgen.folder import OURS

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Two revisions; `after` None is the working tree."""

    before: str
    after: str | None


def parse_range(text: str) -> Range:
    """`A..B`, `A...B` (from where they parted), or `A` against the working tree. Raises SpecError."""
    if "..." in text:
        before, _, after = text.partition("...")
        after = after or "HEAD"
        return Range(before=git("merge-base", before or "HEAD", after).strip(), after=after)
    before, dots, after = text.partition("..")
    found = Range(before=before or "HEAD", after=(after or "HEAD") if dots else None)
    for revision in (found.before, found.after):
        if revision is not None:
            _known(revision)
    return found


def _known(revision: str) -> None:
    try:
        git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except SpecError:
        hint = "git log shows those that there are; a shallow clone has only the last ones"
        raise SpecError(Diagnostic(code="SG321", message=f"git knows no revision '{revision}'", hint=hint)) from None


def top() -> Path:
    """The root of the repository that the working folder is in. Raises SpecError."""
    return Path(git("rev-parse", "--show-toplevel").strip())


def specs_that_changed(range_: Range) -> list[Path]:
    """The specs of the repository, relative to its root, where any file that they might read has changed; all of them, then.

    A spec is a YAML file that says `specgen:` at its top level and is no compiled one.
    """
    ends = [range_.before, *([range_.after] if range_.after else [])]
    if not git("diff", "--name-only", "-z", *ends, "--"):
        return []
    found: set[str] = set()
    for revision in (range_.before, range_.after):
        names = (
            git("ls-tree", "-r", "-z", "--full-tree", "--name-only", revision) if revision else git("ls-files", "-z", "--full-name", ":/")
        )
        found |= {name for name in names.split("\0") if name.endswith(SUFFIXES) and _is_spec(revision, name)}
    return [Path(name) for name in sorted(found)]


def _is_spec(revision: str | None, name: str) -> bool:
    if revision is None:
        file = top() / name
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    else:
        text = git("show", f"{revision}:{name}")
    if text.startswith(OURS):
        return False
    return any(line.startswith("specgen:") for line in text.splitlines())


def renames(range_: Range) -> dict[Path, Path]:
    """The new path of each file → its old one, where git finds that a file was renamed."""
    ends = [range_.before, *([range_.after] if range_.after else [])]
    words = iter(git("diff", "--find-renames", "--diff-filter=R", "--name-status", "-z", *ends, "--").split("\0")[:-1])
    return {Path(new): Path(old) for _, old, new in zip(words, words, words, strict=True)}


def has(revision: str | None, path: Path) -> bool:
    """Whether a file is in a revision; in the working tree whether it is there, tracked or not."""
    if revision is None:
        return (top() / path).is_file()
    return bool(git("ls-tree", "-z", "--full-tree", "--name-only", revision, "--", str(path)))


@contextlib.contextmanager
def laid_out(revision: str | None) -> Iterator[Path]:
    """The files of a revision in a folder of their own; of None the working tree itself.

    What git does not track, such as model folders, is linked from the working tree.
    """
    root = top()
    if revision is None:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="specgen-") as scratch:
        _check_out(revision, root, Path(scratch))
        untracked = git("ls-files", "--others", "--directory", "-z", "--full-name", ":/").split("\0")
        for name in filter(None, untracked):
            link = Path(scratch, name.rstrip("/"))
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(root / name.rstrip("/"))
        yield Path(scratch)


def _check_out(revision: str, root: Path, target: Path) -> None:
    """Through an index of its own; git archive would leave out what the repository keeps from its releases (export-ignore)."""
    with tempfile.TemporaryDirectory(prefix="specgen-index-") as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
        _run("git", "-C", str(root), "read-tree", revision, **index)
        _run("git", "-C", str(root), "checkout-index", "--all", "--quiet", f"--prefix={target}{os.sep}", **index)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Paths of specs start at the working folder: this is it for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def git(*arguments: str) -> str:
    """What git says. Raises SpecError where it is not there, or not content."""
    return _run("git", *arguments).decode("utf-8", "surrogateescape")


def _run(*command: str, **environment: str) -> bytes:
    try:
        return subprocess.run(command, capture_output=True, check=True, env={**os.environ, **environment}).stdout
    except FileNotFoundError:
        raise SpecError(Diagnostic(code="SG321", message="git is not installed, and --git needs it")) from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        message = said[0].removeprefix("fatal: ") if said else f"git {command[1]} failed"
        raise SpecError(Diagnostic(code="SG321", message=f"git says: {message}", hint="run it inside a git repository")) from None
