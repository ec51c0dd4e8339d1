"""What may be spent, counted so that requests at a time cannot exceed it together.

Prompts are estimated until their bill comes: by what one is longer than that, and by no more, the budget may be exceeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from runtime.config import BudgetConfig


class UsedUp(Exception):
    """No further request fits into the budget. The text says what is used up."""


@dataclass(slots=True)
class Bill:
    """What one request comes to; whoever sends it fills it in."""

    requests: int
    tokens: int


class Meter:
    """`requests` and `tokens` are spent. A request holds the most that it is reckoned to cost until its bill is known."""

    def __init__(self, budget: BudgetConfig) -> None:
        self.budget = budget
        self.requests = self.tokens = 0
        self._held: list[int] = []
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def spending(self, most_tokens: int) -> AsyncIterator[Bill]:
        """Around one request. Waits where only others' bills can tell whether it fits. Raises UsedUp where it does not."""
        async with self._changed:
            while short := self._short_of(most_tokens):
                if not self._held:
                    raise UsedUp(short)
                await self._changed.wait()
            self._held.append(most_tokens)
        bill = Bill(1, most_tokens)
        try:
            yield bill
        finally:
            self._held.remove(most_tokens)
            self.requests += bill.requests
            self.tokens += bill.tokens
            async with self._changed:
                self._changed.notify_all()

    def _short_of(self, most_tokens: int) -> str | None:
        if self.requests + len(self._held) >= self.budget.requests:
            return f"{self.budget.requests:,} requests"
        if self.tokens + sum(self._held) + most_tokens > self.budget.tokens:
            return f"{self.budget.tokens:,} tokens"
        return None
