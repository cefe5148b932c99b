"""The bytes of the journal that the rows of each shard point at, summed row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from octad.sharding.ids import BucketId, PoolId, ShardId
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.index.index_format import bucket_of_row, decode_located, hash_of_row


class ShardSizes:
    """Give it rows, of any table that has a location; `totals` are bytes by shard."""

    def __init__(self, shard_map: ShardMap, pool_of: Callable[[BucketId], PoolId | None]) -> None:
        self.totals: Counter[ShardId] = Counter()
        self._map = shard_map
        self._pool_of = pool_of

    def add(self, key: bytes, value: bytes) -> None:
        """A row of a bucket that is gone, or whose pool is not known here, counts nowhere."""
        pool = self._pool_of(bucket_of_row(key, value))
        if pool is not None and pool in self._map.pools:
            shard = self._map.shard_of_hash(pool, hash_of_row(key))
            self.totals[shard] += decode_located(value).location.length
