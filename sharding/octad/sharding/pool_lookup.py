"""Look-ups in one pool as fast as Python allows: one mask, one list index.

Built once for every version of the map. `ShardMap` answers the same questions for any pool, and
keeps answering while rows change; this is for those who look up millions of keys in one map.
"""

from __future__ import annotations

from octad.sharding.ids import PoolId
from octad.sharding.shard_map import ShardMap, ShardRow


class PoolLookup:
    """The rows of one pool by shard number; None where no row is known."""

    __slots__ = ("mask", "rows")

    def __init__(self, shard_map: ShardMap, pool: PoolId) -> None:
        self.rows: list[ShardRow | None] = [
            shard_map.rows.get(shard) for shard in shard_map.shards_of(pool)
        ]
        self.mask = len(self.rows) - 1

    def row(self, hash_: int) -> ShardRow | None:
        """The row of the shard that `hash_` falls into."""
        return self.rows[hash_ & self.mask]
