"""Adds up what buckets take over all shards, and writes the sums: `bucket-usage/<bucket id>`.

The primary of the first shard of the first pool does it for the whole cluster: it asks each node
that leads shards for what these come to, which every node knows at any moment
(`index/bucket_usage.py`). Nodes learn of the sums from the store, as they do of buckets.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from octad.client.runtime.logs.seldom_log import SeldomLog
from octad.client.runtime.steady_clock import now
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    Delete,
    ModRevisionIs,
    Put,
    StoreOperation,
    StoreUnavailable,
)
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import NodeId, ShardId, shard_id
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.index.bucket_usage import total
from octad.storage_node.node.reports.bucket_usage_messages import BucketUsageRead, ReadBucketUsage
from octad.storage_node.node.reports.bucket_usage_sums import UsageChanges, summed
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.rpc.peer import Answer, Call
from octad.storage_node.rpc.rpc_errors import RpcError
from octad.storage_node.shards.bucket_directory import BucketDirectory

SUM_PERIOD_S = 2.0
_CALL_TIMEOUT_S = 2.0
_OPERATIONS_MAX = 100  # Per transaction.

log = logging.getLogger(__name__)


class BucketUsageReporter:
    """See the module. `run` until cancelled; `answer` the node that adds up."""

    def __init__(
        self,
        store: ConfigStore,
        keys: StoreKeys,
        mirror: Mirror,
        host: ShardHost,
        shard_map: ShardMap,
        buckets: BucketDirectory,
        call: Call,
    ) -> None:
        self._store = store
        self._keys = keys
        self._mirror = mirror
        self._host = host
        self._map = shard_map
        self._buckets = buckets
        self._call = call
        self._changes = UsageChanges()
        self._seldom = SeldomLog(log)

    async def run(self) -> None:
        """Report for ever, while this node leads the first shard."""
        while True:
            await asyncio.sleep(SUM_PERIOD_S)
            first = self._first_shard()
            if first is None or not self._host.serves(first):
                continue
            try:
                await self._add_up(first)
            except (StoreUnavailable, RpcError) as error:
                self._seldom.warning("what buckets take is not added up now: %s", error)

    async def answer(self, _: ReadBucketUsage) -> Answer:
        """The sums of the shards that this node leads at this moment."""
        return self._read(), b""

    def _read(self) -> BucketUsageRead:
        led = [shard for shard in self._host.replicas if self._host.serves(shard)]
        usages = self._host.index.digests.usages
        sums = total(usages.of(shard) for shard in led)
        return BucketUsageRead(led, [(bucket, *entry) for bucket, entry in sums.items()])

    def _first_shard(self) -> ShardId | None:
        return shard_id(min(self._map.pools), 0) if self._map.pools else None

    async def _add_up(self, first: ShardId) -> None:
        """Report once. Raises StoreUnavailable, RpcError."""
        entry = self._mirror.entries.get(self._keys.shard(first))
        shards = [shard for pool in self._map.pools for shard in self._map.shards_of(pool)]
        configurations = self._map.configurations
        if entry is None or any(shard not in configurations for shard in shards):
            return
        leaders = {configurations[shard].primary for shard in shards}
        sums = summed(await asyncio.gather(*map(self._ask, leaders)), shards)
        if sums is None:
            return  # Some shard is changing its primary: next round.
        stored = self._buckets.usages
        changes = self._changes.due(sums, stored, self._buckets.limited(), now())
        operations: list[StoreOperation] = []
        for bucket, record in changes.items():
            key = self._keys.usage(bucket)
            operations.append(
                Delete(key) if record is None else Put(key, msgspec.json.encode(record))
            )
        unchanged = ModRevisionIs(entry.key, entry.mod_revision)
        for begin in range(0, len(operations), _OPERATIONS_MAX):
            await self._store.transact([unchanged], operations[begin : begin + _OPERATIONS_MAX])

    async def _ask(self, node: NodeId) -> BucketUsageRead:
        if node == self._host.node:
            return self._read()
        answer, _ = await self._call(node, ReadBucketUsage(), b"", _CALL_TIMEOUT_S)
        return answer
