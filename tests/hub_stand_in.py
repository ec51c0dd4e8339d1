"""The part of the hub's API that locking and downloading use, on loopback."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "4d2c" * 10
NEWER = "77aa" * 10


@dataclass
class Repo:
    """Files by name of one repository; `large` are those in LFS. Branches point at commits, all of the same files."""

    files: dict[str, bytes]
    large: tuple[str, ...] = ()
    gated: bool = False
    fails: bool = False
    main: str = COMMIT
    tags: dict[str, str] = field(default_factory=dict)
    card: dict | None = None

    def commit_of(self, revision):
        known = {"main": self.main, **self.tags, self.main: self.main, COMMIT: COMMIT}
        return known.get(revision)


class Hub(ThreadingHTTPServer):
    """Serves `repos`, by path: models/OWNER/NAME or datasets/OWNER/NAME. `tokens` are those that callers sent."""

    daemon_threads = True

    def __init__(self, repos):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos = repos
        self.tokens = set()
        self.asked = []
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.server.tokens.add(self.headers.get("Authorization"))
        self.server.asked.append(f"{self.command} {'/'.join(path)}")
        if path[0] == "api":
            what, revision = path[4:6] if len(path) > 5 else ("revision", "main")
            self.info(path[1], "/".join(path[2:4]), what, revision)
        else:
            kind = "datasets" if path[0] == "datasets" else "models"
            owner, name, _, revision, *file = path[kind == "datasets" :]
            self.file(kind, f"{owner}/{name}", revision, "/".join(file))

    do_HEAD = do_GET

    def info(self, kind, name, what, revision):
        repo = self.server.repos.get(f"{kind}/{name}")
        if repo is None:
            return self.refuse(401, "RepoNotFound")
        if repo.fails:
            return self.answer(b"", {}, 500)
        if (commit := repo.commit_of(revision)) is None:
            return self.refuse(404, "RevisionNotFound")
        if what == "tree":
            tree = [{"type": "file", "path": file, **described(content, file in repo.large)} for file, content in repo.files.items()]
            return self.answer(json.dumps(tree).encode(), {"Content-Type": "application/json"})
        siblings = []
        for file, content in repo.files.items():
            about = described(content, file in repo.large)
            siblings.append({"rfilename": file, "blobId": about.pop("oid"), **about})
        body = {"id": name, "sha": commit, "private": False, "gated": repo.gated, "siblings": siblings, "tags": [], "downloads": 0}
        if repo.card is not None:
            body["cardData"] = repo.card
        return self.answer(json.dumps(body).encode(), {"Content-Type": "application/json"})

    def file(self, kind, name, revision, file):
        repo = self.server.repos.get(f"{kind}/{name}")
        if repo is None:
            return self.refuse(401, "RepoNotFound")
        if repo.gated and self.headers.get("Authorization") != "Bearer hf_opens":
            return self.refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        commit = repo.commit_of(revision)
        if commit is None or file not in repo.files:
            return self.refuse(404, "RevisionNotFound" if commit is None else "EntryNotFound")
        content = repo.files[file]
        return self.answer(content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit})

    def refuse(self, status, code):
        self.answer(b"", {"X-Error-Code": code, "X-Error-Message": code}, status)

    def answer(self, content, headers, status=200):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def described(content, is_large):
    """Size and hashes of a file, as the API gives them."""
    about = {"size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if is_large:
        about["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 133}
    return about
