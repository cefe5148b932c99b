"""Schemes whose nodes are numbered 0 to n - 1: modulo, the 2^k mask, linear hashing, jump.

- modulo: hash mod n, replicas on the successors.
- mask: hash & (2^k - 1) with node = shard; nodes beyond the largest power of two wait.
- linear: Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980. The bucket
  is hash & (2^k - 1); one that does not exist yet folds to hash & (2^(k-1) - 1).
- jump: Lamping and Veach, "A fast, minimal memory, consistent hash algorithm", 2014
  (arXiv 1406.2294), figure 1. Another replica is another hash of the key.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId
from octad.sharding.study.rivals.mixing import MASK, Hashes, Nodes, mixed, mixed_all
from octad.sharding.study.rivals.scheme import (
    Placement,
    distinct_draws,
    distinct_draws_of_one,
    kept_in_place,
    without_draining,
)

_JUMP_FACTOR = 2862933555777941757
STATE_BYTES = 8  # The number of nodes.


class Numbered(Placement):
    """Base: nodes in a fixed order, a bucket per key, replicas found from there."""

    def __init__(self, nodes: Sequence[PlacementNode], replicas: int) -> None:
        self.nodes = without_draining(nodes)
        self.replicas = replicas
        self.ids = [node.id for node in self.nodes]
        self.id_array = np.array(self.ids, dtype=np.int64)
        self.count = len(self.ids)

    def changed(self, nodes: Sequence[PlacementNode]) -> Self:
        return type(self)(kept_in_place(self.nodes, without_draining(nodes)), self.replicas)

    def state_bytes(self) -> int:
        return STATE_BYTES


class Successors(Numbered):
    """Replicas stand on the buckets that follow the first one."""

    @abstractmethod
    def bucket(self, hash_: int) -> int:
        """The first bucket, below `buckets`."""

    @abstractmethod
    def bucket_of_all(self, hashes: Hashes) -> Nodes:
        """`bucket` of every hash."""

    def buckets(self) -> int:
        """How many buckets there are."""
        return self.count

    def holders(self, hash_: int) -> list[NodeId]:
        first, count, ids = self.bucket(hash_), self.buckets(), self.ids
        return [ids[(first + i) % count] for i in range(self.replicas)]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        first = self.bucket_of_all(hashes)
        places = (first[:, None] + np.arange(self.replicas)) % self.buckets()
        rows: Nodes = self.id_array[places]
        return rows


class Modulo(Successors):
    """hash mod n."""

    def bucket(self, hash_: int) -> int:
        return hash_ % self.count

    def bucket_of_all(self, hashes: Hashes) -> Nodes:
        return (hashes % np.uint64(self.count)).astype(np.int64)


class Mask(Successors):
    """hash & (2^k - 1), node = shard. With 3 nodes for 3 replicas the mask is the next power."""

    def buckets(self) -> int:
        return max(1 << (self.count.bit_length() - 1), self.replicas)

    def bucket(self, hash_: int) -> int:
        return hash_ & ((1 << (self.count.bit_length() - 1)) - 1)

    def bucket_of_all(self, hashes: Hashes) -> Nodes:
        return (hashes & np.uint64((1 << (self.count.bit_length() - 1)) - 1)).astype(np.int64)


class Linear(Successors):
    """Linear hashing with n buckets."""

    def bucket(self, hash_: int) -> int:
        high = (1 << (self.count - 1).bit_length()) - 1
        bucket = hash_ & high
        return bucket if bucket < self.count else bucket & (high >> 1)

    def bucket_of_all(self, hashes: Hashes) -> Nodes:
        high = (1 << (self.count - 1).bit_length()) - 1
        bucket = (hashes & np.uint64(high)).astype(np.int64)
        folded: Nodes = np.where(bucket < self.count, bucket, bucket & (high >> 1))
        return folded


class Jump(Numbered):
    """Jump consistent hash."""

    def holders(self, hash_: int) -> list[NodeId]:
        chosen = distinct_draws_of_one(
            hash_, self.replicas, lambda h, n: jump(mixed(h, n), self.count)
        )
        return [self.ids[bucket] for bucket in chosen]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        chosen = distinct_draws(
            hashes, self.replicas, lambda h, n: jump_all(mixed_all(h, n), self.count)
        )
        rows: Nodes = self.id_array[chosen]
        return rows


def jump(key: int, buckets: int) -> int:
    """The bucket of a 64-bit key: figure 1 of the paper."""
    bucket, following = -1, 0
    while following < buckets:
        bucket = following
        key = (key * _JUMP_FACTOR + 1) & MASK
        following = int((bucket + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return bucket


def jump_all(keys: Hashes, buckets: int) -> Nodes:
    """`jump` of every key."""
    chosen = np.zeros(len(keys), dtype=np.int64)
    open_ = np.arange(len(keys))
    state = keys.copy()
    following = np.zeros(len(keys), dtype=np.int64)
    while len(open_):
        chosen[open_] = following
        state = state * np.uint64(_JUMP_FACTOR) + np.uint64(1)
        steps = float(1 << 31) / ((state >> np.uint64(33)) + np.uint64(1)).astype(np.float64)
        following = ((following + 1) * steps).astype(np.int64)
        goes_on = following < buckets
        open_, state, following = open_[goes_on], state[goes_on], following[goes_on]
    return chosen
