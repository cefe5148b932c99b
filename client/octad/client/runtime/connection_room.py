"""Bounds the connections of one listener, and chooses the one to close when there are more.

The longest idle connection is closed for a new one. Where all are busy, the new one is refused in
the listener's own protocol once it has sent something, and closed; if too many are being refused,
it is closed at once. So a listener never uses more descriptors than its share.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final, Protocol, cast

from octad.client.runtime.logs.seldom_log import SeldomLog
from octad.client.runtime.longest_idle import Idling, LongestIdle
from octad.client.runtime.open_files import open_files_limit
from octad.sharding.limits import TURNED_AWAY_MAX

_TELL_S_MAX: Final = 2.0

_logger = logging.getLogger(__name__)


class Occupant(Idling, Protocol):
    """A connection of the listener."""

    def let_go(self) -> None:
        """Close it at once and drop unsent data; this removes it from `present`."""


class ConnectionRoom:
    """A protocol factory for `create_server`: `new` makes a protocol while there is room.

    `present` are the listener's connections as they come and go. `refusal` returns the answer to
    a refused client, from the first bytes that it has sent. `whose` names them in the log.
    """

    def __init__(
        self,
        connections_max: int,
        whose: str,
        new: Callable[[], asyncio.BaseProtocol],
        present: Collection[Occupant],
        refusal: Callable[[bytes], bytes],
    ) -> None:
        self.connections_max = connections_max
        self.present = present
        self.refusal = refusal
        self.let_go = 0  # Idle ones that made room.
        self.turned_away = 0
        self.turning_away: set[_TurnedAway] = set()
        self._whose = whose
        self._new = new
        self._loop = asyncio.get_running_loop()
        self._longest_idle: LongestIdle[Occupant] = LongestIdle()
        self._let_go_log, self._turned_away_log = SeldomLog(_logger), SeldomLog(_logger)

    def __call__(self) -> asyncio.BaseProtocol:
        if len(self.present) < self.connections_max:
            return self._new()
        idle = self._longest_idle.take(self.present, self._loop.time())
        if idle is None:
            self.turned_away += 1
            self._turned_away_log.warning(self._full("all are busy, and new ones are refused"))
            return _TurnedAway(self)
        idle.let_go()
        self.let_go += 1
        self._let_go_log.warning(self._full("the longest idle are closed for new ones"))
        return self._new()

    def close(self) -> None:
        """Close all connections that are being refused."""
        for each in list(self.turning_away):
            each.end()

    def _full(self, what: str) -> str:
        return (
            f"{self.connections_max} connections of {self._whose}: {what}; there is room for so "
            f"many with {open_files_limit()} open files (ulimit -n, LimitNOFILE=)"
        )


class _TurnedAway(asyncio.Protocol):
    """A connection without room: it gets the refusal, and time to read it."""

    def __init__(self, room: ConnectionRoom) -> None:
        self._room = room
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._room.turning_away) >= TURNED_AWAY_MAX:
            self.end()
            return
        self._room.turning_away.add(self)
        self._timer = asyncio.get_running_loop().call_later(_TELL_S_MAX, self.end)

    def data_received(self, data: bytes) -> None:
        """Read on after the answer: closing with unread data would reset the connection."""
        if not self._told and self._transport is not None:
            self._told = True
            self._transport.write(self._room.refusal(data))
            self._transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._room.turning_away.discard(self)

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()
