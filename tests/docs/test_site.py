"""The site of docs/: it builds without a warning, has every page, and loads nothing from elsewhere."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt
from mkdocs.exceptions import PluginError

from docsite.links import on_page_markdown

QUIET = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # what Material says of its own future
SOURCE = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?([^\"\s>]+)")
GITHUB = MarkdownIt("commonmark", {"html": True}).enable("table")
BLOCKS = ("h1", "h2", "h3", "ul", "ol", "li", "table", "tr", "td", "pre", "img", "strong")
STYLE = re.compile(r"<link[^>]*rel=\"?(?:stylesheet|icon|preconnect)\"?[^>]*href=\"?([^\"\s>]+)")


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=root, env=QUIET, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
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


def blocks(html):
    """How many lists, rows of tables and the like a page has."""
    return {tag: len(re.findall(rf"<{tag}[\s>]", html)) for tag in BLOCKS}


def test_a_page_has_the_lists_and_tables_that_github_shows(root, site):
    """Python-Markdown wants an empty line before a list, which GitHub does not."""
    pages = list((root / "docs").rglob("*.md"))
    assert len(pages) > 30
    for page in pages:
        name = page.relative_to(root / "docs").with_suffix("")
        html = (site / ("" if name.name == "index" else name) / "index.html").read_text(encoding="utf-8")
        article = re.search(r"<article.*?>(.*)</article>", html, re.DOTALL)[1]
        assert (name, blocks(article)) == (name, blocks(GITHUB.render(page.read_text(encoding="utf-8"))))


@pytest.fixture
def address(site):
    """The site, served."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_browser_asks_no_other_host(browser, address):
    asked, page = [], browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address + "architecture/", wait_until="networkidle")
    assert len(asked) > 4
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def turned(root, name, text):
    """A page of that name, as the hook leaves it."""
    config = SimpleNamespace(docs_dir=str(root / "docs"), extra={"repository": "https://host/repository"})
    return on_page_markdown(text, page=SimpleNamespace(file=SimpleNamespace(src_uri=name)), config=config)


def test_links_are_turned_where_they_leave_the_docs(root):
    assert turned(root, "data.md", "[a](../specs) [b](../README.md#commands)") == (
        "[a](https://host/repository/tree/main/specs) [b](https://host/repository/blob/main/README.md#commands)"
    )
    assert turned(root, "guides/small_card.md", "[a](../memory.md)") == "[a](../memory.md)"
    with pytest.raises(PluginError, match=r"data\.md links \.\./nowhere\.yaml, which is not there"):
        turned(root, "data.md", "[a](../nowhere.yaml)")


def test_a_broken_link_fails_the_build(root, tmp_path):
    """As `make docs` builds: with --quiet, MkDocs counts no warnings, and strict means nothing."""
    (command,) = re.findall(r"\$\(BIN\)/(mkdocs build.*)", (root / "Makefile").read_text(encoding="utf-8"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("[gone](gone.md)\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text("site_name: a site\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "gone.md" in done.stderr


def test_the_settings_find_links_headings_and_pages_that_are_lost(root, tmp_path):
    for entry in root.iterdir():
        if entry.name not in ("docs", "site"):
            (tmp_path / entry.name).symlink_to(entry)
    shutil.copytree(root / "docs", tmp_path / "docs")
    with (tmp_path / "docs/data.md").open("a", encoding="utf-8") as page:
        page.write("\n\n[a](nowhere.md) [b](lengths.md#nowhere) [c](/data.md)\n")
    (tmp_path / "docs/lost.md").write_text("# In no nav\n", encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, env=QUIET, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("WARNING")) == (1, 4), done.stderr
