"""A bounded number of bytes of memory that many take and give back, first come, first served.

    take ──> taken ──give_back──> …          take ──no room──> wait ──room──> taken

Waiters are served in order, so a large one is granted in its turn; small ones that must not wait
behind it need a share of their own. This file only decides; callers wake the waiters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class Wish:
    """Bytes that a caller waits for; compared by identity."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


_NOBODY: Sequence[Wish] = ()


class ByteShare:
    """`bytes_max` bytes. A larger request is granted when no one else has any."""

    __slots__ = ("_wishes", "bytes_max", "used", "waiting")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0
        self.waiting = 0  # Bytes that are waited for.
        self._wishes: deque[Wish] = deque()

    def take(self, size: int) -> bool:
        """Take `size` bytes if they are free and no one waits; else change nothing."""
        if self._wishes or not self._has_room(size):
            return False
        self.used += size
        return True

    def wait(self, size: int) -> Wish:
        """After `take` said no: a place behind everyone who waits."""
        wish = Wish(size)
        self._wishes.append(wish)
        self.waiting += size
        return wish

    def give_back(self, size: int) -> Sequence[Wish]:
        """The wishes that are granted by that; their bytes are taken."""
        assert size <= self.used, "no one gives back what he does not have"
        self.used -= size
        return self._grant() if self._wishes else _NOBODY

    def withdraw(self, wish: Wish) -> Sequence[Wish]:
        """Wait no longer; the wishes that are granted now that it is not before them."""
        self._wishes.remove(wish)
        self.waiting -= wish.size
        return self._grant()

    def resize(self, bytes_max: int) -> Sequence[Wish]:
        """Change the bound, reached once enough bytes return; returns the granted wishes."""
        self.bytes_max = bytes_max
        return self._grant()

    def _has_room(self, size: int) -> bool:
        return self.used + size <= self.bytes_max or not self.used

    def _grant(self) -> list[Wish]:
        granted: list[Wish] = []
        while self._wishes and self._has_room(self._wishes[0].size):
            wish = self._wishes.popleft()
            self.waiting -= wish.size
            self.used += wish.size
            granted.append(wish)
        return granted
