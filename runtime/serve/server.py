"""The server: one application, one model, an end that leaves nobody hanging."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import uvicorn

from runtime.serve.app import build
from runtime.serve.desk import MOST_WAITING, Desk

if TYPE_CHECKING:
    from runtime.talker import Talker

SECONDS_TO_END = 5


class ModelServer(uvicorn.Server):
    """Calls `started` once it answers. Ends at SIGINT and SIGTERM: answers that are being made end after their next token, and
    their clients are told."""

    def __init__(
        self, talker: Talker, *, key: str | None, started: Callable[[], None] = lambda: None, most_waiting: int = MOST_WAITING
    ) -> None:
        self.desk = Desk(talker, most_waiting)
        self._tell_started = started
        app = build(talker, self.desk, key)
        super().__init__(
            uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=SECONDS_TO_END)
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.desk.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.force_exit = self.should_exit  # the second time
        self.should_exit = True  # uvicorn would raise the signal once more: to be told to end is no fault
