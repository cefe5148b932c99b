"""Who leads which shards of a pool: made once, and good until a configuration in it changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from octad.sharding.ids import NodeId, ShardId
from octad.sharding.map.shard_map import Pool, ShardConfiguration
from octad.storage_node.replication.pair_leases import digest_of_pairs


@dataclass(frozen=True, slots=True)
class Led:
    """What one node leads."""

    shards: tuple[ShardId, ...]
    depths: tuple[int, ...]
    digest: int  # By it the node knows whether it leads the same shards in the same epochs.


@dataclass(frozen=True, slots=True)
class PoolView:
    """See the module."""

    pool: Pool
    configurations: Mapping[ShardId, ShardConfiguration]
    depths: dict[ShardId, int]
    led: dict[NodeId, Led]

    @classmethod
    def of(cls, pool: Pool, configurations: Mapping[ShardId, ShardConfiguration]) -> PoolView:
        """Of all the shards that `pool` has."""
        depths = {shard: known.depth for shard, known in configurations.items()}
        shards_of: dict[NodeId, list[ShardId]] = defaultdict(list)
        for shard, known in configurations.items():
            shards_of[known.primary].append(shard)
        led = {
            node: Led(
                tuple(shards),
                tuple([depths[shard] for shard in shards]),
                digest_of_pairs([(shard, configurations[shard].epoch) for shard in shards]),
            )
            for node, shards in shards_of.items()
        }
        return cls(pool, configurations, depths, led)
