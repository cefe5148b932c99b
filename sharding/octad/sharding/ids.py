"""The names of things that are placed: numbers that must not be mixed up, each its own type.

A shard id is one integer, `pool << 32 | number`, because it is a dictionary key on every request;
people see it as `pool/number`. A node id is a small integer that the coordinator hands out once;
people see it as `n7`.
"""

from __future__ import annotations

from typing import NewType

PoolId = NewType("PoolId", int)
ShardId = NewType("ShardId", int)
NodeId = NewType("NodeId", int)
BucketId = NewType("BucketId", int)
Epoch = NewType("Epoch", int)
Seq = NewType("Seq", int)

SHARD_NUMBER_BITS = 32
SHARD_NUMBER_MASK = (1 << SHARD_NUMBER_BITS) - 1


def shard_id(pool: PoolId, number: int) -> ShardId:
    """The id of shard `number` of `pool`."""
    return ShardId(pool << SHARD_NUMBER_BITS | number)


def pool_of(shard: ShardId) -> PoolId:
    """The pool that `shard` belongs to."""
    return PoolId(shard >> SHARD_NUMBER_BITS)


def number_of(shard: ShardId) -> int:
    """The number of `shard` within its pool."""
    return shard & SHARD_NUMBER_MASK


def shard_name(shard: ShardId) -> str:
    """`shard` as people read it: `0/17`."""
    return f"{pool_of(shard)}/{number_of(shard)}"


def parse_shard_name(name: str) -> ShardId:
    """The inverse of `shard_name`; raises ValueError with what is expected."""
    pool, _, number = name.partition("/")
    if not (pool.isdecimal() and number.isdecimal()) or int(number) >> SHARD_NUMBER_BITS:
        raise ValueError(f"{name!r} is not a shard's name: expected one like 0/17")
    return shard_id(PoolId(int(pool)), int(number))


def node_name(node: NodeId) -> str:
    """`node` as people read it: `n7`."""
    return f"n{node}"


def parse_node_name(name: str) -> NodeId:
    """The inverse of `node_name`; raises ValueError with what is expected."""
    if not (name.startswith("n") and name[1:].isdecimal()):
        raise ValueError(f"{name!r} is not a node's name: expected one like n1")
    return NodeId(int(name[1:]))
