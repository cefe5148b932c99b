"""Memory for the bytes that clients send: taken before a body is read, given back when it is done.

Small bodies have a share of their own, so that none of them waits behind large ones. A large body
takes a piece at a time, so that all get their turn. What nodes send each other is no part of this:
two doors that wait for each other's memory would wait for ever (`docs/reference/memory.md`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TypeVar

from octad.sharding.limits import INLINE_BYTES_MAX, SMALL_BODIES_SHARE
from octad.storage_node.memory.byte_share import ByteShare, Wish

T = TypeVar("T")


class ByteGate:
    """A `ByteShare` whose bytes can be waited for."""

    __slots__ = ("_futures", "share")

    def __init__(self, bytes_max: int) -> None:
        self.share = ByteShare(bytes_max)
        self._futures: dict[Wish, asyncio.Future[None]] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether someone waits."""
        return bool(self._futures)

    async def take(self, size: int) -> None:
        """Returns when `size` bytes are reserved; the caller must release them."""
        if self.share.take(size):
            return
        wish = self.share.wait(size)
        future = self._futures[wish] = asyncio.get_running_loop().create_future()
        try:
            await future
        except BaseException:
            if wish in self._futures:
                del self._futures[wish]
                self._wake(self.share.withdraw(wish))
            else:  # Granted in the very moment in which it was given up.
                self.give_back(size)
            raise

    async def within(self, size: int, doing: Coroutine[None, None, T]) -> T:
        """Returns the result of `doing`, which holds `size` bytes meanwhile."""
        try:
            await self.take(size)
        except BaseException:
            doing.close()
            raise
        try:
            return await doing
        finally:
            self.give_back(size)

    def give_back(self, size: int) -> None:
        """They are free for others."""
        if granted := self.share.give_back(size):
            self._wake(granted)

    def resize(self, bytes_max: int) -> None:
        """See `ByteShare.resize`."""
        if bytes_max != self.share.bytes_max:
            self._wake(self.share.resize(bytes_max))

    def _wake(self, granted: Iterable[Wish]) -> None:
        for wish in granted:
            future = self._futures.pop(wish)
            if not future.done():  # Else its task is being cancelled, and releases it.
                future.set_result(None)


class BodyBudget:
    """`bytes_max` bytes for all bodies of one process."""

    def __init__(self, bytes_max: int) -> None:
        small = int(bytes_max * SMALL_BODIES_SHARE)
        self.bytes_max = bytes_max
        self.small = ByteGate(small)
        self.large = ByteGate(bytes_max - small)

    def gate(self, size: int) -> ByteGate:
        """The share from which `size` bytes are taken, and to which they return."""
        return self.small if size <= INLINE_BYTES_MAX else self.large

    @property
    def used(self) -> int:
        """Bytes of bodies that are here and not durable yet, or that are about to come."""
        return self.small.share.used + self.large.share.used

    @property
    def waiting(self) -> int:
        """Bytes that bodies wait for."""
        return self.small.share.waiting + self.large.share.waiting
