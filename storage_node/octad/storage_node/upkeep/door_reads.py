"""Asks every front door of the cluster how old the oldest of its reads is, where a disk is full."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

from octad.client.runtime.steady_clock import now
from octad.coordinator.store.interface import StoreUnavailable
from octad.sharding.ids import NodeId
from octad.storage_node.rpc.peer import Call
from octad.storage_node.shards.extent_messages import FindWritten
from octad.storage_node.shards.object_store import StoreError
from octad.storage_node.shards.reader_pin import ReaderPin

DOOR_ASKED_S_MAX = 1.0  # For that, of a door; one that is silent has the pin.

# All nodes that may read, as the store has them at this moment. Raises StoreUnavailable.
Doors: TypeAlias = Callable[[], Awaitable[Collection[NodeId]]]


class DoorReads:
    """See the module; the meaning of the answers is in `shards/reader_pin.py`."""

    def __init__(self, call: Call, doors: Doors, pin_s: float) -> None:
        self._call = call
        self._doors = doors
        self.pin = ReaderPin(pin_s)

    async def over(self) -> float:
        """Reads that began before this, by `steady_clock.now`, are over everywhere."""
        listed = now()
        try:
            doors = await self._doors()
        except StoreUnavailable:  # A door that no one here knows of may have joined meanwhile.
            return self.pin.over(now())
        await asyncio.gather(*map(self._ask, doors))
        return self.pin.over_at(doors, listed, now())

    async def _ask(self, door: NodeId) -> None:
        asked = now()
        try:
            answer, _ = await self._call(door, FindWritten([]), b"", DOOR_ASKED_S_MAX)
        except StoreError:
            return
        if answer.oldest_read_s is not None:
            self.pin.heard(door, asked, answer.oldest_read_s)
