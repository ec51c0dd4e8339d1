"""The queue in front of the model: one answer is made at a time, and clients take turns.

An answer that is made alone is the same however many wait: that is what one at a time buys. Each client (its address and the
`user` of its requests) has a line of its own, and the lines take turns, so that one who asks fifty things does not keep others waiting.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING, Any

from conversations.row import Message
from runtime.config import ChatConfig
from runtime.faults import RunFault
from runtime.generation.generate import Answer
from runtime.serve.faults import ApiError, ending

if TYPE_CHECKING:
    from runtime.talking.talker import Talker

MOST_WAITING = 256
Client = tuple[str, str | None]


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One answer to be made. `told` gets pieces of text where they are asked for, then the Answer or an ApiError, in the
    event loop that asked."""

    client: Client
    messages: list[Message]
    tools: list[Any] | None
    chat: ChatConfig
    in_pieces: bool
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    told: asyncio.Queue[str | Answer | ApiError] = field(default_factory=asyncio.Queue)
    stop: Event = field(default_factory=Event)

    def tell(self, item: str | Answer | ApiError) -> None:
        """From any thread. Nothing where the loop has ended: nobody listens."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.told.put_nowait, item)


class Desk:
    """Takes jobs and has them done by one thread."""

    def __init__(self, talker: Talker) -> None:
        self.talker, self.most_waiting = talker, MOST_WAITING
        self._lines: OrderedDict[Client, deque[Job]] = OrderedDict()
        self._changed = Condition()
        self._now: Job | None = None
        self._closing = False
        self._thread = Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(map(len, self._lines.values()))

    @property
    def busy(self) -> bool:
        """Whether an answer is being made."""
        return self._now is not None

    def put(self, job: Job) -> None:
        """Raises ApiError where too many wait, or the server ends."""
        with self._changed:
            if self._closing:
                raise ending()
            if self.waiting >= self.most_waiting:
                message = f"{self.most_waiting} requests wait already; ask again in a moment"
                raise ApiError(429, message, code="rate_limit_exceeded", kind="rate_limit_error", headers={"Retry-After": "1"})
            self._lines.setdefault(job.client, deque()).append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Takes a job out of its line, or ends its answer after the next token. Nothing where it is done."""
        job.stop.set()
        with self._changed:
            line = self._lines.get(job.client)
            if line and job in line:
                line.remove(job)
                if not line:
                    del self._lines[job.client]

    def close(self) -> None:
        """Cancels what is waiting and what is being made; takes nothing more."""
        with self._changed:
            self._closing = True
            for line in self._lines.values():
                for job in line:
                    job.tell(ending())
            self._lines.clear()
            if self._now is not None:
                self._now.stop.set()
            self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.tell(self._done(job))
            with self._changed:
                self._now = None

    def _next(self) -> Job | None:
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            if self._closing:
                return None
            client, line = next(iter(self._lines.items()))
            self._now = line.popleft()
            self._lines.move_to_end(client)
            if not line:
                del self._lines[client]
            return self._now

    def _done(self, job: Job) -> Answer | ApiError:
        try:
            show = job.tell if job.in_pieces else _keep
            answer = self.talker.answer(job.messages, chat=job.chat, tools=job.tools, show=show, stop=job.stop)
        except RunFault as fault:
            return ApiError(400, fault.message, code="invalid_value", param="messages")
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return ApiError(500, "the answer could not be made; the server's output says why", kind="server_error")
        return ending() if answer.cancelled and self._closing else answer


def _keep(_piece: str) -> None:
    """An answer that is sent whole has all of its text in the end."""
