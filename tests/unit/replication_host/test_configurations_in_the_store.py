"""What a node writes into the configuration store about shards and buckets, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from octad.coordinator.schema.bucket_settings import ALL_BLOCKED
from octad.coordinator.schema.records import BucketRecord, FenceRecord, StoreKeys
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import Put
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, ShardId
from octad.sharding.map.shard_map import Member, ShardConfiguration, decode_configuration
from octad.storage_node.replication.host.cluster_facts import ClusterFacts
from octad.storage_node.replication.host.configuration_changes import ConfigurationChanges
from octad.storage_node.replication.replica_actions import Swap
from octad.storage_node.replication.shard_ports import ShardEvents
from octad.storage_node.shards.bucket_directory import DELETING, BucketDirectory
from octad.storage_node.shards.object_store import Bucket, NoSuchBucket

KEYS = StoreKeys("cafe0123")
NODE = NodeId(1)
CONFIGURATION = ShardConfiguration(
    Epoch(4), 8, NODE, (Member(NODE, "one"), Member(NodeId(2), "two"))
)
UNKNOWN = {"from_a_newer_octad": [1, 2]}


class ListeningHost:
    """Wants to lead whatever names it, as a replica does, and remembers what it was told."""

    def __init__(self) -> None:
        self.changes: ConfigurationChanges | None = None
        self.led: dict[ShardId, ShardConfiguration] = {}
        self.outcomes: list[tuple[ShardId, ShardConfiguration]] = []

    def on_configuration(self, shard: ShardId, configuration: ShardConfiguration) -> None:
        known = self.led.get(shard)
        if configuration.primary == NODE and (known is None or configuration.epoch > known.epoch):
            assert self.changes is not None
            self.changes.submit(shard, swap_of(configuration))

    def on_swap_outcome(
        self, shard: ShardId, swap: Swap, configuration: ShardConfiguration
    ) -> None:
        self.outcomes.append((shard, configuration))
        if configuration == swap.proposed:
            self.led[shard] = configuration


def facts() -> ClusterFacts:
    return ClusterFacts(KEYS, lambda _: None)


def swap_of(configuration: ShardConfiguration) -> Swap:
    return Swap(
        configuration, msgspec.structs.replace(configuration, epoch=Epoch(configuration.epoch + 1))
    )


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
        puts = [
            Put(KEYS.shard(s), with_unknown(CONFIGURATION)) for s in shards[begin : begin + 100]
        ]
        await store.transact([], puts)
    mirror = Mirror(store, KEYS.prefix)
    await mirror.start()
    host = ListeningHost()
    changes = host.changes = ConfigurationChanges(NODE, "boot", store, KEYS, mirror, facts())
    mirror.subscribe(lambda k, e: changes.on_change(k, e) if k.startswith(KEYS.shards) else None)
    await changes.start(cast(ShardEvents, host), lambda _: None)
    while len(host.led) < len(shards):
        await asyncio.sleep(0.01)
    await mirror.refresh()
    await asyncio.sleep(0.05)  # Its own swaps come back by the watch: they are no news.
    await changes.stop()
    await mirror.stop()
    for shard in shards:
        entry = await store.get(KEYS.shard(shard))
        assert entry is not None
        assert (
            decode_configuration(entry.value)
            == host.led[shard]
            == msgspec.structs.replace(CONFIGURATION, epoch=5)
        )
        assert msgspec.json.decode(entry.value)["from_a_newer_octad"] == [1, 2]
    fence = await store.get(KEYS.fence(NODE))
    assert fence is not None
    assert msgspec.json.decode(fence.value, type=FenceRecord) == FenceRecord("boot", 1)


async def test_a_swap_of_an_earlier_boot_cannot_land(store: EmbeddedStore) -> None:
    shard = ShardId(0)
    await store.transact([], [Put(KEYS.shard(shard), msgspec.json.encode(CONFIGURATION))])
    mirror = Mirror(store, KEYS.prefix)
    await mirror.start()
    host = ListeningHost()
    old = ConfigurationChanges(NODE, "old boot", store, KEYS, mirror, facts())
    mirror.subscribe(lambda k, e: old.on_change(k, e) if k.startswith(KEYS.shards) else None)
    host.led[shard] = CONFIGURATION  # It wants nothing by itself.
    await old.start(cast(ShardEvents, host), lambda _: None)
    new = ConfigurationChanges(NODE, "new boot", store, KEYS, mirror, facts())
    host.changes = new
    await new.start(cast(ShardEvents, host), lambda _: None)
    old.submit(shard, swap_of(CONFIGURATION))
    while not host.outcomes:
        await asyncio.sleep(0.01)
    await old.stop()
    await new.stop()
    await mirror.stop()
    assert host.outcomes == [(shard, CONFIGURATION)]
    entry = await store.get(KEYS.shard(shard))
    assert entry is not None
    assert decode_configuration(entry.value) == CONFIGURATION


async def test_of_many_swaps_only_those_that_came_too_late_are_lost(store: EmbeddedStore) -> None:
    shards = [ShardId(number) for number in range(40)]
    await store.transact(
        [], [Put(KEYS.shard(s), msgspec.json.encode(CONFIGURATION)) for s in shards]
    )
    mirror = Mirror(store, KEYS.prefix)
    await mirror.start()
    host = ListeningHost()
    host.led = dict.fromkeys(shards, CONFIGURATION)
    changes = ConfigurationChanges(NODE, "boot", store, KEYS, mirror, facts())
    mirror.subscribe(lambda k, e: changes.on_change(k, e) if k.startswith(KEYS.shards) else None)
    await changes.start(cast(ShardEvents, host), lambda _: None)
    other = msgspec.structs.replace(CONFIGURATION, epoch=Epoch(5), primary=NodeId(2))
    late = shards[7]
    await store.transact([], [Put(KEYS.shard(late), msgspec.json.encode(other))])
    for shard in shards:
        changes.submit(shard, swap_of(CONFIGURATION))
    while len(host.outcomes) < len(shards):
        await asyncio.sleep(0.01)
    await changes.stop()
    await mirror.stop()
    assert dict(host.outcomes) == {
        s: other if s == late else swap_of(CONFIGURATION).proposed for s in shards
    }


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


async def test_settings_of_a_bucket_change_one_by_one_and_none_is_lost(
    store: EmbeddedStore,
) -> None:
    record = BucketRecord("photos", BucketId(7), PoolId(0), "root", 1)
    await store.transact([], [Put(KEYS.bucket("photos"), with_unknown(record))])
    mirror = Mirror(store, KEYS.prefix)
    await mirror.start()
    buckets = BucketDirectory(store, KEYS, mirror)
    mirror.subscribe(buckets.on_change, KEYS.buckets)
    bucket = await buckets.get("photos")
    changes: list[dict[str, object]] = [
        {"acl": "public-read"},
        {"tags": {"a": "b"}},
        {"ownership": ""},
        {"public_access": None},
    ]

    async def change(fields: dict[str, object]) -> None:
        await buckets.change(bucket, lambda _: fields)

    await asyncio.gather(*map(change, changes))
    seen = buckets.cached("photos")
    assert seen is not None  # What this node has changed it also shows.
    assert (seen.acl, seen.tags, seen.ownership, seen.public_access) == (
        "public-read",
        {"a": "b"},
        "",
        None,
    )
    entry = await store.get(KEYS.bucket("photos"))
    assert entry is not None
    assert msgspec.json.decode(entry.value)["from_a_newer_octad"] == [1, 2]
    with pytest.raises(NoSuchBucket):
        await buckets.change(msgspec.structs.replace(bucket, id=BucketId(8)), lambda _: {})
    await mirror.stop()


def test_a_bucket_of_before_there_were_settings_is_closed() -> None:
    old = b'{"name":"photos","id":7,"pool":0,"owner":"root","created_ms":1,"state":"active"}'
    record = msgspec.json.decode(old, type=BucketRecord)
    assert (record.acl, record.ownership) == ("private", "BucketOwnerEnforced")
    assert record.public_access == ALL_BLOCKED
