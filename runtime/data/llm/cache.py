"""Replies on disk, one file a request, so that a second run asks nothing and an interrupted one goes on.

A file is named by the digest of all that was sent and where to (request.py): a changed prompt, model, setting or schema asks
anew, and everything else stays. It holds the request, too, for people to read. No key is part of either.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path

from runtime.data.llm.request import Reply, Request


class Cache:
    """Replies in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, request: Request) -> Reply | None:
        """The reply that was kept. A damaged file is as good as none."""
        try:
            kept = json.loads(self._path(request).read_bytes())["reply"]
            return Reply(text=str(kept["text"]), finish=str(kept["finish"]), tokens=int(kept["tokens"]))
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def put(self, request: Request, reply: Reply) -> None:
        """Keeps a reply, whole or not at all."""
        path = self._path(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"where": request.where, "request": request.body(), "reply": dataclasses.asdict(reply)}
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".reply-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise

    def _path(self, request: Request) -> Path:
        key = request.key()
        return self.folder / key[:2] / f"{key}.json"
