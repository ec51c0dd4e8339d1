"""A small client of the language server protocol: enough to open a text and ask what an editor asks."""

from __future__ import annotations

import json
import queue
import subprocess
import threading

TIMEOUT_S = 60
# an editor without network: only the schema that the text itself names
SETTINGS = {
    "yaml": {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}, "disableAdditionalProperties": False}
}


class LanguageServer:
    """yaml-language-server in a process of its own, spoken to over its standard input and output."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.answers = queue.Queue()
        self.published = queue.Queue()
        self.last_id = 0
        threading.Thread(target=self._listen, daemon=True).start()
        document = {"completion": {"completionItem": {"documentationFormat": ["markdown"]}}, "hover": {"contentFormat": ["markdown"]}}
        capabilities = {"textDocument": document, "workspace": {"configuration": True}}
        self.ask("initialize", processId=None, rootUri=None, capabilities=capabilities)
        self._tell("initialized", {})
        self._tell("workspace/didChangeConfiguration", {"settings": SETTINGS})

    def close(self):
        self.ask("shutdown")
        self._tell("exit", {})
        self.process.wait(TIMEOUT_S)

    def open(self, uri, text):
        """Opens a text, and returns what is underlined in it as (line, first column, end column, message), counted from 1."""
        self._tell("textDocument/didOpen", {"textDocument": {"uri": uri, "languageId": "yaml", "version": 1, "text": text}})
        while (told := self.published.get(timeout=TIMEOUT_S))["uri"] != uri:
            pass
        ranges = [(fault["range"]["start"], fault["range"]["end"], fault["message"]) for fault in told["diagnostics"]]
        return [(start["line"] + 1, start["character"] + 1, end["character"] + 1, message) for start, end, message in ranges]

    def ask(self, method, **parameters):
        self.last_id += 1
        self._send({"id": self.last_id, "method": method, "params": parameters})
        while (answer := self.answers.get(timeout=TIMEOUT_S))["id"] != self.last_id:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def ask_at(self, method, uri, line, column):
        """Asks about a place, counted from 1."""
        position = {"line": line - 1, "character": column - 1}
        return self.ask(method, textDocument={"uri": uri}, position=position)

    def _tell(self, method, parameters):
        self._send({"method": method, "params": parameters})

    def _send(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def _listen(self):
        while head := self.process.stdout.readline():
            if not head.lower().startswith(b"content-length:"):
                continue
            while self.process.stdout.readline().strip():
                pass
            self._receive(json.loads(self.process.stdout.read(int(head.split(b":")[1]))))

    def _receive(self, message):
        if "id" in message and "method" in message:
            items = message["params"].get("items", []) if message["method"] == "workspace/configuration" else None
            answer = None if items is None else [SETTINGS.get(item["section"]) for item in items]
            self._send({"id": message["id"], "result": answer})
        elif "id" in message:
            self.answers.put(message)
        elif message["method"] == "textDocument/publishDiagnostics":
            self.published.put(message["params"])
