"""Limits the messages of history in flight at a node: many when it is otherwise idle.

As soon as others append to the journal, few are under way at a time, and each leaves them as much
time as it took: clients keep half of the disk, and little stands before their bytes on the way.
It does not know the contents of messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

HISTORY_CALLS_OF_ALL = 24  # For all copies of a node, so 24 MiB and the bytes not durable yet.
HISTORY_CALLS_BESIDE_CLIENTS = 4  # The same while clients write: little for them to pass.
HISTORY_CLIENTS_S = 0.2  # How long clients count as writing after a record of theirs.
HISTORY_PAUSE_S_MAX = 0.1  # While clients write, a copy takes at most half of the time.


class HistoryPace:
    """`appended_by_others`: records in the journal that no copy of history has put there."""

    def __init__(self, appended_by_others: Callable[[], int]) -> None:
        self._appended_by_others = appended_by_others
        self._known = appended_by_others()
        self._calls = asyncio.Semaphore(HISTORY_CALLS_OF_ALL)
        self._beside_clients = asyncio.Semaphore(HISTORY_CALLS_BESIDE_CLIENTS)
        self._others_at = float("-inf")

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Around all that one message takes, until it is durable."""
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._calls)
            if self._others_write(loop.time()):
                await held.enter_async_context(self._beside_clients)
            began = loop.time()
            yield
            now = loop.time()
            if self._others_write(now):
                await asyncio.sleep(min(now - began, HISTORY_PAUSE_S_MAX))

    def _others_write(self, now: float) -> bool:
        appended = self._appended_by_others()
        if appended != self._known:
            self._known, self._others_at = appended, now
        return now - self._others_at < HISTORY_CLIENTS_S
