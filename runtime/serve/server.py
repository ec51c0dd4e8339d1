"""The server: one application, one model, an end that leaves nobody hanging."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import uvicorn

from runtime.serve.app import build
from runtime.serve.desk import Desk

if TYPE_CHECKING:
    from runtime.talking.talker import Talker

SECONDS_TO_END = 5
SECONDS_TO_READ = 4  # those who do not read what they are told by then are hung up on


class ModelServer(uvicorn.Server):
    """Calls `started` once it answers. Ends at SIGINT and SIGTERM: answers that are being made end after their next token, and
    their clients are told; so are those whose request is not whole."""

    def __init__(self, talker: Talker, *, key: str | None, started: Callable[[], None] = lambda: None) -> None:
        self.desk = Desk(talker)
        self._tell_started = started
        self.door = build(talker, self.desk, key)
        super().__init__(
            uvicorn.Config(self.door, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=SECONDS_TO_END)
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells that it listens, once it does."""
        await super().startup(sockets)
        self._tell_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends what waits, and hangs up on those who read no further."""
        self.desk.close()
        self.door.close()
        late = asyncio.get_running_loop().call_later(SECONDS_TO_READ, self._hang_up)
        await super().shutdown(sockets)
        late.cancel()

    def _hang_up(self) -> None:
        for connection in self.server_state.connections:
            connection.transport.abort()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The first signal asks to end, the second ends at once."""
        self.force_exit = self.should_exit  # the second time
        self.should_exit = True  # uvicorn would raise the signal once more: to be told to end is no fault
