"""The site of docs/: it builds without a warning, has every page, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

QUIET = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # what Material says of its own future
SOURCE = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?([^\"\s>]+)")
STYLE = re.compile(r"<link[^>]*rel=\"?(?:stylesheet|icon|preconnect)\"?[^>]*href=\"?([^\"\s>]+)")


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=root, env=QUIET, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_every_page_is_there(root, site):
    pages = [page.relative_to(root / "docs").with_suffix("") for page in (root / "docs").rglob("*.md")]
    assert [str(page) for page in pages if not (site / page / "index.html").is_file() and page.name != "index"] == []


def test_nothing_is_loaded_from_elsewhere(site):
    pages = [page.read_text(encoding="utf-8") for page in site.rglob("*.html")]
    found = {link for text in pages for kind in (SOURCE, STYLE) for link in kind.findall(text)}
    assert len(found) > 5
    assert [link for link in found if "//" in link] == []


def test_a_link_out_of_the_docs_leads_to_the_repository(site):
    assert "https://github.com/OWNER/specgen/blob/main/specs/assistant_rules.yaml" in (site / "data" / "index.html").read_text(
        encoding="utf-8"
    )
