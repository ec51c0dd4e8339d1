"""What the GitHub Action writes under a pull request, for the change that docs/gitops.md tells of."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from markdown_it import MarkdownIt

from tests.gitops.conftest import support_repository

ROOT = Path(__file__).parent.parent


def comment_on(folder: Path) -> str:
    """Makes a repository in a folder, changes a spec on a branch, reviews that, and returns the comment as HTML."""
    repository = support_repository(folder)
    repository.git("checkout", "-qb", "longer")
    repository.replace("spec", "epochs: 2", "epochs: 3")
    repository.replace("spec", "learning_rate: 2.0e-4", "learning_rate: 1.0e-4")
    repository.specgen("compile", "specs/support.yaml")
    repository.commit("Trains longer, at a lower rate")
    summary = folder / "summary.md"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = repository.run("bash", str(ROOT / "action/review.sh"), BASE="main", GITHUB_STEP_SUMMARY=str(summary), PATH=path)
    if done.code:
        raise RuntimeError(f"the review ended with {done.code}: {done.out}{done.err}")
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(summary.read_text(encoding="utf-8")))
