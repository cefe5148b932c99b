"""Look-ups in one pool as fast as Python allows: one mask, one list index.

Built once for every version of the map. `ShardMap` answers the same questions for any pool, and
keeps answering while rows change; this is for those who look up millions of keys in one map.
"""

from __future__ import annotations

from octad.sharding.ids import PoolId
from octad.sharding.map.shard_map import ShardMap, ShardRow


class PoolLookup:
    """The rows of one pool by shard number; None where no row is known."""

    __slots__ = ("mask", "rows")

    def __init__(self, shard_map: ShardMap, pool: PoolId) -> None:
        rows = (shard_map.rows.get(shard) for shard in shard_map.shards_of(pool))
        deepest = max((row.depth for row in rows if row is not None), default=0)
        depth = max(shard_map.pools[pool].depth, deepest)
        # A shard that was not split yet, while others were, is at several places.
        self.rows: list[ShardRow | None] = [
            shard_map.rows.get(shard_map.shard_of_hash(pool, low_bits))
            for low_bits in range(1 << depth)
        ]
        self.mask = len(self.rows) - 1

    def row(self, hash_: int) -> ShardRow | None:
        """The row of the shard that `hash_` falls into."""
        return self.rows[hash_ & self.mask]
