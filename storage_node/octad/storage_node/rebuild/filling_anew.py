"""A node with a damaged journal starts without data, and the others fill it: no command needed.

    damage ─ every shard has enough other verified copies ─ it is this node's turn, and stays so for
    some seconds ─ decided (`set_aside.py`) ─ the next start is a new node, which is filled ─
    all copies are verified again ─ what was set aside is deleted, and the old node forgotten

When it may begin and end is decided in `coordinator/recovery/filling_anew.py`.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from octad.client.cli.format_units import shown_bytes
from octad.coordinator.recovery.filling_anew import (
    Obstacle,
    OldDisk,
    Seen,
    ending,
    giving_turn_back,
    inheriting,
    is_over,
    obstacle,
    seen,
    taking_turn,
)
from octad.coordinator.schema.cluster_view import BadRecord
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import ConfigStore, StoreUnavailable
from octad.sharding.ids import NodeId
from octad.sharding.limits import DISK_FREE_BYTES_MIN
from octad.storage_node.journal import set_aside
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Identity

# Reports lag behind: within this time the leases of a node that has just gone end, and its shards
# have new configurations, which the reports then show.
SETTLED_S = 5.0
LOOK_S = 1.0
AGAIN_S = 5.0  # After something was in the way.
COPIES_POLL_S = 3.0

log = logging.getLogger(__name__)


class BeginsAnew(Exception):
    """It is decided: the node's next start is one without data."""

    def __init__(self) -> None:
        super().__init__("its journal is damaged; it begins anew, and the other nodes fill it")


class FillingAnew:
    """For the node `identity`, whose data is in `data`."""

    def __init__(
        self, store: ConfigStore, identity: Identity, data: Path, disk: Disk | None = None
    ) -> None:
        self._store = store
        self._keys = StoreKeys(identity.cluster)
        self._disk = disk or Disk()
        self._data = data
        self._self = OldDisk(identity.node, identity.incarnation)
        self.waits_for = ""  # What is in the way while the node runs.
        self.in_place_of = NodeId(0)  # The node whose data is set aside here, once known; 0: none.

    # -- before ----------------------------------------------------------------------------------

    async def decide(self, *, runs: bool) -> Obstacle | None:
        """None: it is decided, durably. Takes some seconds; raises OSError.

        `runs`: the node acknowledges meanwhile, and its copies do not count.
        """
        try:
            found = self._of_disk() or await self._take_turn(runs) or await self._settle(runs)
        except (StoreUnavailable, BadRecord) as error:
            return Obstacle(f"the configuration store cannot be asked ({error})")
        if found is None:
            set_aside.decide(self._disk, self._data, self._self.incarnation)
        return found

    async def decided(self) -> None:
        """For a running node: returns once it is decided. Raises OSError."""
        while (found := await self.decide(runs=True)) is not None:
            self.waits_for = found.why
            await asyncio.sleep(AGAIN_S)

    def _of_disk(self) -> Obstacle | None:
        if earlier := set_aside.places(self._data):
            return Obstacle(f"{earlier[0]} is still there, of an earlier time", passes=False)
        needed = set_aside.room_needed(self._data) + DISK_FREE_BYTES_MIN
        if not set_aside.can_be_renamed(self._data):
            return Obstacle(f"{self._data} is on several file systems", passes=False)
        free = self._disk.free_bytes(self._data)
        if free < needed:
            return Obstacle(
                f"to keep what is here beside a new copy takes {shown_bytes(needed)}, and"
                f" {shown_bytes(free)} are free",
                passes=False,
            )
        return None

    async def _take_turn(self, runs: bool) -> Obstacle | None:
        now = await self._look()
        found = obstacle(now, self._self, runs=runs)
        if found is not None or giving_turn_back(self._keys, now, self._self) is not None:
            return found  # It may be this node's turn already.
        if (await self._store.transact(*taking_turn(self._keys, now, self._self))).succeeded:
            return None
        return Obstacle("another node is filled anew first: one node at a time")

    async def _settle(self, runs: bool) -> Obstacle | None:
        """Nothing may be in the way for some seconds; else it is another node's turn."""
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLED_S
        while True:
            now = await self._look()
            found = obstacle(now, self._self, runs=runs)
            back = giving_turn_back(self._keys, now, self._self)
            if back is None:
                return found or Obstacle("it is not its turn any more")
            if found is not None:
                await self._store.transact(*back)
                return found
            if loop.time() >= until:
                return None
            await asyncio.sleep(LOOK_S)

    # -- after -----------------------------------------------------------------------------------

    async def end(self) -> None:
        """Returns once nothing is set aside here any more, however long that takes."""
        while places := set_aside.places(self._data):
            try:
                await self._end(places[0])
            except (StoreUnavailable, BadRecord, OSError) as error:
                log.warning("%s stays for now: %s", places[0], error)
            await asyncio.sleep(COPIES_POLL_S)
        self.in_place_of = NodeId(0)

    async def _end(self, there: Path) -> None:
        incarnation = set_aside.incarnation_of(there)
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLED_S
        while True:
            now = await self._look()
            known = now.cluster.identities.values()
            old = next((each for each in known if each.incarnation == incarnation), None)
            if old is None:
                return
            self.in_place_of = old.id
            inherits = inheriting(self._keys, now, old.id, self._self.node)
            if inherits is not None:
                await self._store.transact(*inherits)
            if not is_over(now, old.id):
                return
            if loop.time() >= until:
                break
            await asyncio.sleep(LOOK_S)
        ends = ending(self._keys, now, OldDisk(old.id, incarnation))
        if (await self._store.transact(*ends)).succeeded:
            await asyncio.to_thread(set_aside.delete, self._disk, there)
            log.info("all copies are there again: %s is deleted", there)

    async def _look(self) -> Seen:
        listing = await self._store.range(self._keys.prefix)
        return seen(self._keys, listing.revision, listing.entries)
