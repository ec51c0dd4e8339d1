"""The part of the hub's API that pushing uses, on loopback: repositories, files that are large or not, commits."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

from tests.hub_stand_in import COMMIT, Handler, Repo

TOKEN = "hf_writes"
LARGE = (".safetensors", ".gguf")


@dataclass
class Pushed(Repo):
    """A repository with what was committed, and the messages."""

    private: bool = False
    messages: list[str] = field(default_factory=list)


class UploadHub(ThreadingHTTPServer):
    """`stored` are large files by hash, `sent` the hashes in the order of their arrival. Calls in `failing` (METHOD PATH → status)
    are answered so, once; `broken` after so many large files the connection is closed."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), UploadHandler)
        self.repos, self.stored, self.sent, self.failing = {}, {}, [], {}
        self.broken, self.tokens, self.asked = None, set(), []
        self.taken, self.counting = 0, Lock()
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def takes_one_more(self):
        """Whether a large file that begins to arrive is taken; several begin at once."""
        with self.counting:
            if self.broken is not None and self.taken >= self.broken:
                return False
            self.taken += 1
            return True

    def handle_error(self, *_):
        pass


class UploadHandler(Handler):
    def do_POST(self):
        path = self.begin()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if (status := self.server.failing.pop(f"POST {path}", None)) is not None:
            return self.answer(b"{}", {"Content-Type": "application/json"}, status)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, "")
        if path == "api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        if path == "api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            status = 409 if f"models/{name}" in self.server.repos else 200
            self.server.repos.setdefault(f"models/{name}", Pushed({}, private=wanted.get("visibility") == "private"))
            return self.json({"url": f"{self.server.url}/{name}"}, status)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(body)["objects"])
        _, _, owner, name, what, _ = path.split("/")
        repo = self.server.repos[f"models/{owner}/{name}"]
        return self.preupload(repo, json.loads(body)["files"]) if what == "preupload" else self.commit(repo, body, f"{owner}/{name}")

    def do_PUT(self):
        path = self.begin()
        if not self.server.takes_one_more():
            self.close_connection = True
            return self.connection.close()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.stored[oid] = content
        self.server.sent.append(oid)
        return self.answer(b"", {})

    def begin(self):
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.tokens.add(self.headers.get("Authorization"))
        self.server.asked.append(f"{self.command} {path}")
        return path

    def preupload(self, repo, files):
        modes = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular", "shouldIgnore": False}
            for file in files
        ]
        return self.json({"files": modes})

    def batch(self, objects):
        answers = []
        for wanted in objects:
            upload = {"upload": {"href": f"{self.server.url}/large/{wanted['oid']}"}}
            answers.append({**wanted, **({} if wanted["oid"] in self.server.stored else {"actions": upload})})
        return self.json({"transfer": "basic", "objects": answers})

    def commit(self, repo, body, name):
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repo.messages.append(value["summary"])
            elif line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.server.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del repo.files[value["path"]]
        return self.json({"success": True, "commitOid": COMMIT, "commitUrl": f"{self.server.url}/{name}/commit/{COMMIT}", "hookOutput": ""})

    def json(self, content, status=200):
        self.answer(json.dumps(content).encode(), {"Content-Type": "application/json"}, status)

    def answer(self, content, headers, status=200):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
