"""Twice as many shards, or half as many, without moving a byte.

Shard i of 2^P becomes i and i + 2^P, both with the replicas of i: each key stays on the nodes where
it is, and bit P of its hash alone says which half it is in now. Two siblings with the same replicas
merge back. Where siblings stand apart, the assignment first has to bring them together.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from octad.sharding.ids import Epoch, NodeId
from octad.sharding.limits import SHARD_DEPTH_DEFAULT, SHARD_DEPTH_MAX
from octad.sharding.map.shard_map import ShardRow

# With so many, a node that holds one shard more than another is 3 % fuller.
REPLICAS_PER_NODE_MIN = 30


class CannotSplit(ValueError):
    """The shards are as many as there may be."""


class CannotMerge(ValueError):
    """The siblings differ in what must be equal."""


def sibling(number: int, depth: int) -> int:
    """The shard that `number` of 2^`depth` was split from, or with."""
    return number ^ (1 << (depth - 1))


def split_row(row: ShardRow) -> tuple[ShardRow, ShardRow]:
    """What shard i's row becomes: the rows of i and of i + 2^depth, one epoch on."""
    if row.depth >= SHARD_DEPTH_MAX:
        raise CannotSplit(f"a depth of {row.depth} is the largest")
    half = msgspec.structs.replace(row, epoch=Epoch(row.epoch + 1), depth=row.depth + 1)
    return half, half


def merge_rows(low: ShardRow, high: ShardRow) -> ShardRow:
    """The row of two siblings as one shard, an epoch after both; the lower one's primary leads.

    Both must be whole: the same full members, nothing being copied, nobody missed.
    """
    if low.depth != high.depth or low.depth == 0:
        raise CannotMerge(f"depths {low.depth} and {high.depth}: siblings have the same, above 0")
    if set(low.members) != set(high.members):
        raise CannotMerge("the siblings have different members: move one of them first")
    for row in (low, high):
        if row.learners or row.last_full or any(each.base for each in row.members):
            raise CannotMerge("a sibling is not at full strength: let its repair end first")
    epoch = Epoch(max(low.epoch, high.epoch) + 1)
    both = (*low.recovered, *(each for each in high.recovered if each not in low.recovered))
    return ShardRow(
        epoch, low.depth - 1, low.primary, low.members, recoveries=both or msgspec.UNSET
    )


def recommended_depth(nodes: int, replicas: int) -> int:
    """The depth that gives every node enough replicas to balance by whole shards."""
    depth = SHARD_DEPTH_DEFAULT
    while replicas << depth < REPLICAS_PER_NODE_MIN * nodes and depth < SHARD_DEPTH_MAX:
        depth += 1
    return depth


def split_assignment(rows: Sequence[tuple[NodeId, ...]]) -> list[tuple[NodeId, ...]]:
    """The rows of twice as many shards."""
    return [*rows, *rows]


def siblings_apart(rows: Sequence[tuple[NodeId, ...]]) -> list[int]:
    """The lower shards of all pairs that must move before the rows can be merged."""
    half = len(rows) // 2
    return [number for number in range(half) if set(rows[number]) != set(rows[number + half])]


def brought_together(rows: Sequence[tuple[NodeId, ...]]) -> list[tuple[NodeId, ...]]:
    """The rows of half as many shards: each pair stands where its lower sibling does."""
    return list(rows[: len(rows) // 2])
