"""A coordinator keeps one copy of the configuration store, at one revision, by one watch.

Settings, which nothing else depends on, have another one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import msgspec
from tests.unit.coordinator.cluster_records import node
from tests.unit.coordinator.running_coordinator import KEYS, open_cluster, running, until

from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import ConfigStore, EventBatch, KeyValue, Put, Revision
from octad.sharding.ids import Epoch, NodeId, ShardId
from octad.sharding.map.shard_map import Member, ShardConfiguration


class LateByKind:
    """A store whose changes are told later the more is watched for: each kind at its own pace."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def watch(self, prefix: str, after: Revision) -> AsyncIterator[EventBatch]:
        async with aclosing(self._store.watch(prefix, after)) as batches:
            async for batch in batches:
                await asyncio.sleep(0.002 * len(prefix.removeprefix(KEYS.prefix)))
                yield batch


class CountingStore:
    """A store that knows which prefixes are watched at the moment, and what was asked for."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self.watched: Counter[str] = Counter()
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get(self, key: str) -> KeyValue | None:
        self.asked.add(key)
        return await self._store.get(key)

    async def watch(self, prefix: str, after: Revision) -> AsyncIterator[EventBatch]:
        self.watched[prefix] += 1
        try:
            async with aclosing(self._store.watch(prefix, after)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            self.watched[prefix] -= 1


async def test_each_coordinator_holds_one_watch_of_the_store_whether_it_leads_or_not(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store:
        leading, waiting = CountingStore(store), CountingStore(store)
        async with running(cast(ConfigStore, leading)) as (leader, _):
            await until(lambda: leader.is_leading, "the first one leads")
            async with running(cast(ConfigStore, waiting)) as (other, _):
                await other.feed.current()
                await until(lambda: KEYS.leader in waiting.asked, "it would lead if it could")
                assert not other.is_leading
                for counted in (leading, waiting):
                    assert +counted.watched == {KEYS.prefix: 1, KEYS.kv: 1}


async def test_what_changes_in_one_transaction_changes_in_every_answer_at_once(
    tmp_path: Path,
) -> None:
    def puts(weight: int) -> list[Put]:
        """A node and a shard, both of which say the same."""
        configuration = ShardConfiguration(Epoch(weight), 4, NodeId(1), (Member(NodeId(1), "one"),))
        record = msgspec.structs.replace(node(1), weight=float(weight))
        values = {KEYS.node(NodeId(1)): record, KEYS.shard(ShardId(0)): configuration}
        return [Put(key, msgspec.json.encode(value)) for key, value in values.items()]

    async with open_cluster(tmp_path) as store:
        await store.transact([], puts(1))
        async with running(cast(ConfigStore, LateByKind(store))) as (coordinator, _):
            seen: set[int] = set()
            for weight in range(2, 22):
                await store.transact([], puts(weight))
                for _ in range(10):
                    view = coordinator.placement.view().cluster
                    document = msgspec.json.decode(coordinator.map_document())
                    epochs = {
                        view.configurations[ShardId(0)].epoch,
                        document["shards"]["0/0"]["epoch"],
                    }
                    weights = {view.nodes[NodeId(1)].weight, document["nodes"][0]["weight"]}
                    assert epochs == weights
                    seen |= epochs
                    await asyncio.sleep(0.002)
            assert len(seen) > 5, "the view moves on meanwhile"
