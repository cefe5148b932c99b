"""Look-ups in one pool as fast as Python allows: one mask, one list index.

Built once for every version of the map. `ShardMap` answers the same questions for any pool, and
keeps answering while configurations change; this is for those who look up millions of keys in one
map.
"""

from __future__ import annotations

from octad.sharding.ids import PoolId
from octad.sharding.map.shard_map import ShardConfiguration, ShardMap


class PoolLookup:
    """The configurations of one pool by shard number; None where no configuration is known."""

    __slots__ = ("configurations", "mask")

    def __init__(self, shard_map: ShardMap, pool: PoolId) -> None:
        configurations = (
            shard_map.configurations.get(shard) for shard in shard_map.shards_of(pool)
        )
        deepest = max(
            (configuration.depth for configuration in configurations if configuration is not None),
            default=0,
        )
        depth = max(shard_map.pools[pool].depth, deepest)
        # A shard that was not split yet, while others were, is at several places.
        self.configurations: list[ShardConfiguration | None] = [
            shard_map.configurations.get(shard_map.shard_of_hash(pool, low_bits))
            for low_bits in range(1 << depth)
        ]
        self.mask = len(self.configurations) - 1

    def configuration(self, hash_: int) -> ShardConfiguration | None:
        """The configuration of the shard that `hash_` falls into."""
        return self.configurations[hash_ & self.mask]
