"""Wakes everyone who waits for a change, at the cost of one future however many they are."""

from __future__ import annotations

import asyncio


class ChangeSignal:
    """`await wait()` returns at the next `notify()`."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def notify(self) -> None:
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    async def wait(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)
