"""Twice as many shards, without moving a byte.

Shard i of 2^P becomes i and i + 2^P, both with the replicas of i: each key stays on the nodes where
it is, and bit P of its hash alone says which half it is in now.
"""

from __future__ import annotations

import msgspec

from octad.sharding.ids import Epoch
from octad.sharding.limits import SHARD_DEPTH_DEFAULT, SHARD_DEPTH_MAX
from octad.sharding.map.shard_map import ShardConfiguration

# At this number one shard more makes a node 3 % fuller.
REPLICAS_PER_NODE_MIN = 30


class CannotSplit(ValueError):
    """The shards are as many as there may be."""


def split_configuration(
    configuration: ShardConfiguration,
) -> tuple[ShardConfiguration, ShardConfiguration]:
    """The configurations that replace shard i's: of i and of i + 2^depth, one epoch on."""
    if configuration.depth >= SHARD_DEPTH_MAX:
        raise CannotSplit(f"a depth of {configuration.depth} is the largest")
    half = msgspec.structs.replace(
        configuration, epoch=Epoch(configuration.epoch + 1), depth=configuration.depth + 1
    )
    return half, half


def recommended_depth(nodes: int, replicas: int) -> int:
    """The depth at which every node has enough replicas to balance by whole shards."""
    depth = SHARD_DEPTH_DEFAULT
    while replicas << depth < REPLICAS_PER_NODE_MIN * nodes and depth < SHARD_DEPTH_MAX:
        depth += 1
    return depth
