"""A hook of MkDocs: what a page links outside of docs/ is in the repository, on the site as on GitHub."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError

LINK = re.compile(r"(?<=\]\()(\.\./[^)\s#]*)(?=[)#])")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_others: Any) -> str:
    """The page with such links turned to the repository. Raises PluginError for one that leads to nothing."""
    place = PurePosixPath(page.file.src_uri).parent
    root = Path(config.docs_dir).parent

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(str(place / link[1]))
        if not target.startswith("../"):
            return link[1]
        within = target.removeprefix("../")
        if not (root / within).exists():
            raise PluginError(f"{page.file.src_uri} links {link[1]}, which is not there")
        kind = "tree" if (root / within).is_dir() else "blob"
        return f"{config.extra['repository']}/{kind}/main/{within}"

    return LINK.sub(turned, markdown)
