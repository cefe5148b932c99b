"""Becoming primary: swaps `epoch + 1` into the rows that name this node, many in one transaction.

Every swap also compares this node's fence key, which each boot and each unknown outcome rewrites,
so that a transaction that was under way before can not land after it (rules R8, R15 in
`docs/reference/replication.md`). It also feeds rows to the shard host, and holds back the row of a
shard whose swap is under way, so that a node does not answer its own swap with another one.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from octad.client.core.kept_fields import with_unknown_fields
from octad.coordinator.core.records import FenceRecord, StoreKeys
from octad.coordinator.store.interface import (
    Compare,
    ConfigStore,
    KeyValue,
    ModRevisionIs,
    Operation,
    Put,
    StoreUnavailable,
    ValueIs,
)
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import Epoch, NodeId, ShardId
from octad.sharding.shard_map import ShardRow, decode_row
from octad.storage_node.shell.shard_host import ShardHost

SWAPS_AT_ONCE = 100  # With the fence, below etcd's 128 compares a transaction.
RETRY_S = 0.2

log = logging.getLogger(__name__)


class ShardLeads:
    """Give `wanted` to the host as its `on_lead`, and the mirror's shard rows to `on_change`."""

    def __init__(
        self, node: NodeId, boot: str, store: ConfigStore, keys: StoreKeys, mirror: Mirror
    ) -> None:
        self.rows: dict[ShardId, ShardRow] = {}  # The newest known, for routing.
        self._node = node
        self._boot = boot
        self._store = store
        self._keys = keys
        self._mirror = mirror
        self._host: ShardHost | None = None
        self._fence_counter = 0
        self._wanted: dict[ShardId, ShardRow] = {}
        self._swapping: set[ShardId] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: ShardHost) -> None:
        """Fence off whatever an earlier boot had under way; then act on rows."""
        self._host = host
        await self._fence_until_done()
        await self._mirror.refresh()
        for shard, row in self.rows.items():
            host.on_row(shard, row)
        self._task = asyncio.create_task(self._swap_for_ever(), name="shard leads")

    async def stop(self) -> None:
        """Nothing is swapped any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def on_change(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw a shard's row change."""
        if entry is None:
            return  # Rows are never deleted; a store that lost them is rebuilt from the nodes.
        shard, row = self._keys.shard_of_key(key), decode_row(entry.value)
        self.rows[shard] = row
        if shard not in self._swapping and self._host is not None:
            self._host.on_row(shard, row)

    def wanted(self, shard: ShardId, row: ShardRow) -> None:
        """`row` names this node as primary, and it does not lead that epoch."""
        self._wanted[shard] = row
        self._wake.set()

    async def _swap_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                batch = dict(list(self._wanted.items())[:SWAPS_AT_ONCE])
                for shard in batch:
                    del self._wanted[shard]
                try:
                    await self._swap(batch)
                except StoreUnavailable as error:
                    log.warning("cannot become primary of %d shards: %s", len(batch), error)
                    await self._fence_until_done()
                    self._look_again(batch)

    async def _swap(self, batch: dict[ShardId, ShardRow]) -> None:
        compares: list[Compare] = [ValueIs(self._keys.fence(self._node), self._fence_value())]
        operations: list[Operation] = []
        new_rows: dict[ShardId, ShardRow] = {}
        for shard, row in batch.items():
            entry = self._mirror.entries.get(self._keys.shard(shard))
            if entry is None or decode_row(entry.value) != row:
                self._look_again([shard])
                continue
            new_rows[shard] = msgspec.structs.replace(row, epoch=Epoch(row.epoch + 1))
            compares.append(ModRevisionIs(entry.key, entry.mod_revision))
            operations.append(Put(entry.key, with_unknown_fields(entry.value, new_rows[shard])))
        if not operations:
            return
        self._swapping.update(new_rows)
        try:
            outcome = await self._store.transact(compares, operations)
        finally:
            self._swapping.difference_update(new_rows)
        if outcome.succeeded:
            for shard, row in new_rows.items():
                self.rows[shard] = row
                assert self._host is not None
                self._host.lead(shard, row)
        else:  # A row has changed, or a store that was restored has lost our fence key.
            await self._fence_until_done()
            self._look_again(new_rows)

    def _look_again(self, shards: list[ShardId] | dict[ShardId, ShardRow]) -> None:
        """Decide anew from the newest rows: the wish stands only if they still name this node."""
        for shard in shards:
            row = self.rows[shard]
            member = row.member(self._node)
            if row.primary == self._node and member is not None:
                self.wanted(shard, row)
            elif self._host is not None:
                self._host.on_row(shard, row)

    async def _fence_until_done(self) -> None:
        while True:
            self._fence_counter += 1
            try:
                fence = Put(self._keys.fence(self._node), self._fence_value())
                await self._store.transact([], [fence])
                await self._mirror.refresh()
                return
            except StoreUnavailable as error:
                log.warning("the configuration store: %s", error)
                await asyncio.sleep(RETRY_S)

    def _fence_value(self) -> bytes:
        return msgspec.json.encode(FenceRecord(self._boot, self._fence_counter))
