"""An OpenAI-compatible endpoint on loopback that answers, fails, stalls and breaks off as a test wants it."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread


class Endpoint(ThreadingHTTPServer):
    """`answer` gets a request's body and gives a text, or a function that writes the response by itself. `faults` are such functions,
    used up one a request before anything is answered. `most_at_once` is how many requests were under way together."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.faults = answer, []
        self.bodies, self.headers = [], []
        self.usage = True
        self.at_once = self.most_at_once = 0
        self.lock, self.released = Lock(), Event()
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """Connections that the client gave up are no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            fault = server.faults.pop(0) if server.faults else None
        try:
            if self.path != "/v1/chat/completions":
                fault = status(404, {"error": {"message": f"no such path: {self.path}"}})
            said = fault or server.answer(body)
            if callable(said):
                said(self)
            else:
                self.send(200, completion(said, usage=server.usage))
        finally:
            with server.lock:
                server.at_once -= 1

    def send(self, code, content, headers=()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in [("Content-Type", "application/json"), ("Content-Length", str(len(data))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def completion(text, *, finish="stop", usage=True, **message):
    found = {"choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}]}
    return {**found, "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}} if usage else found


def status(code, content, **headers):
    """Answers with a status; `Retry_After="1"` is the header Retry-After."""
    return lambda handler: handler.send(code, content, [(name.replace("_", "-"), value) for name, value in headers.items()])


def reply(text, **options):
    """Answers with a completion that is not a plain one."""
    return lambda handler: handler.send(200, completion(text, **options))


def body(content):
    """Answers with any bytes."""
    return lambda handler: handler.send(200, content)


def stall(handler):
    """Says nothing until the test is over."""
    handler.server.released.wait(10)


def break_off(handler):
    """Closes the connection in the middle of the response."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(2)
