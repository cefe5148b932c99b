"""What a node writes into the configuration store about shards and buckets, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from octad.coordinator.core.records import BucketRecord, FenceRecord, StoreKeys
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import Put
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, ShardId
from octad.sharding.shard_map import Member, ShardRow, decode_row
from octad.storage_node.core.object_store import Bucket
from octad.storage_node.shell.bucket_directory import DELETING, BucketDirectory
from octad.storage_node.shell.shard_host import ShardHost
from octad.storage_node.shell.shard_leads import ShardLeads

KEYS = StoreKeys("cafe0123")
NODE = NodeId(1)
ROW = ShardRow(Epoch(4), 8, NODE, (Member(NODE, "one"), Member(NodeId(2), "two")))
UNKNOWN = {"from_a_newer_octad": [1, 2]}


class ListeningHost:
    """Wants to lead whatever names it, as a replica does, and remembers what it was told."""

    def __init__(self) -> None:
        self.leads: ShardLeads | None = None
        self.led: dict[ShardId, ShardRow] = {}

    def on_row(self, shard: ShardId, row: ShardRow) -> None:
        known = self.led.get(shard)
        if row.primary == NODE and (known is None or row.epoch > known.epoch):
            assert self.leads is not None
            self.leads.wanted(shard, row)

    def lead(self, shard: ShardId, row: ShardRow) -> None:
        self.led[shard] = row


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    store = await EmbeddedStore.open(tmp_path / "store.sqlite")
    yield store
    await store.close()


def with_unknown(record: msgspec.Struct) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(record), **UNKNOWN})


async def test_a_primary_swaps_once_fences_itself_and_keeps_what_it_does_not_know(
    store: EmbeddedStore,
) -> None:
    shards = [ShardId(number) for number in range(250)]
    for begin in range(0, len(shards), 100):
        puts = [Put(KEYS.shard(s), with_unknown(ROW)) for s in shards[begin : begin + 100]]
        await store.transact([], puts)
    mirror = Mirror(store, KEYS.prefix)
    await mirror.start()
    host = ListeningHost()
    leads = host.leads = ShardLeads(NODE, "boot", store, KEYS, mirror)
    mirror.subscribe(lambda k, e: leads.on_change(k, e) if k.startswith(KEYS.shards) else None)
    await leads.start(cast(ShardHost, host))
    while len(host.led) < len(shards):
        await asyncio.sleep(0.01)
    await mirror.refresh()
    await asyncio.sleep(0.05)  # Its own swaps come back by the watch: they are no news.
    await leads.stop()
    await mirror.stop()
    for shard in shards:
        entry = await store.get(KEYS.shard(shard))
        assert entry is not None
        assert decode_row(entry.value) == host.led[shard] == msgspec.structs.replace(ROW, epoch=5)
        assert msgspec.json.decode(entry.value)["from_a_newer_octad"] == [1, 2]
    fence = await store.get(KEYS.fence(NODE))
    assert fence is not None
    assert msgspec.json.decode(fence.value, type=FenceRecord) == FenceRecord("boot", 1)


async def test_a_swap_of_an_earlier_boot_cannot_land(store: EmbeddedStore) -> None:
    await store.transact([], [Put(KEYS.shard(ShardId(0)), msgspec.json.encode(ROW))])
    mirror = Mirror(store, KEYS.prefix)
    await mirror.start()
    old = ShardLeads(NODE, "old boot", store, KEYS, mirror)
    host = ListeningHost()
    host.leads = old
    mirror.subscribe(lambda k, e: old.on_change(k, e) if k.startswith(KEYS.shards) else None)
    await old._fence_until_done()
    new = ShardLeads(NODE, "new boot", store, KEYS, mirror)
    await new._fence_until_done()
    old._host = cast(ShardHost, host)
    await old._swap({ShardId(0): ROW})
    await mirror.stop()
    assert host.led == {}
    entry = await store.get(KEYS.shard(ShardId(0)))
    assert entry is not None
    assert decode_row(entry.value) == ROW


async def test_a_bucket_keeps_what_a_newer_octad_wrote_into_it(store: EmbeddedStore) -> None:
    record = BucketRecord("photos", BucketId(7), PoolId(0), "root", 1)
    await store.transact([], [Put(KEYS.bucket("photos"), with_unknown(record))])
    mirror = Mirror(store, KEYS.prefix)
    await mirror.start()
    buckets = BucketDirectory(store, KEYS, mirror)
    await buckets.set_state(Bucket("photos", BucketId(7), PoolId(0), "root", 1), DELETING)
    await mirror.stop()
    entry = await store.get(KEYS.bucket("photos"))
    assert entry is not None
    written = msgspec.json.decode(entry.value)
    assert (written["state"], written["from_a_newer_octad"]) == (DELETING, [1, 2])
