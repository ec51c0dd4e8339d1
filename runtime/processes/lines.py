"""What nodes say to each other: JSON objects, one a line, over a TCP connection."""

from __future__ import annotations

import json
import select
import socket
from contextlib import suppress
from typing import Any

KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # seconds, and times: a machine without power is noticed in 30 s

Message = dict[str, Any]


class Line:
    """A connection to another node: what that one calls itself, its number, and whether it has ended without a fault."""

    def __init__(self, connection: socket.socket, host: str = "") -> None:
        self.connection, self.host = connection, host
        self.rest = b""
        self.rank: int | None = None
        self.is_done = False
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, number in KEEPALIVE.items():
            with suppress(AttributeError, OSError):  # not everywhere
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), number)

    def say(self, message: Message) -> None:
        """Sends a message; one to a node that is gone is lost."""
        with suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, timeout_s: float | None) -> Message | None:
        """The next message; None where the other side is gone. Raises TimeoutError."""
        self.connection.settimeout(timeout_s)
        while b"\n" not in self.rest:
            try:
                more = self.connection.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                more = b""
            if not more:
                return None
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return _message(line)

    @property
    def has_news(self) -> bool:
        """Whether there is something to hear, the end of the connection included."""
        return not self.is_done and self._speaks()

    def _speaks(self) -> bool:
        return b"\n" in self.rest or bool(select.select([self.connection], [], [], 0)[0])


def _message(line: bytes) -> Message | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
