"""AnchorHash: Mendelson et al., "AnchorHash: a scalable consistent hash", ToN 2021.

arXiv 1812.09674; algorithm 3, the one with arrays: A says how many buckets there were when b left
(0 while it works), K who took its place, W which buckets work, L where each stands in W. The
capacity is fixed at the start. Another replica of a key is another hash of it. Nodes are mapped to
buckets by a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId
from octad.sharding.study.rivals.mixing import Hashes, Nodes, mixed, mixed_all
from octad.sharding.study.rivals.scheme import (
    Placement,
    distinct_draws,
    distinct_draws_of_one,
    without_draining,
)

CAPACITY_FACTOR = 4  # Room to grow fourfold; the paper's look-up takes 1 + ln(4) steps at first.
BYTES_PER_BUCKET = 16


class TooManyNodes(ValueError):
    """More nodes than the anchor was made for."""


class Anchor:
    """The set of buckets and the look-up."""

    def __init__(self, capacity: int, working: int) -> None:
        self.capacity = capacity
        self.working = working
        self.removed_at = [0] * capacity  # A
        self.successor = list(range(capacity))  # K
        self.place = list(range(capacity))  # L
        self.bucket_at = list(range(capacity))  # W
        self.removed: list[int] = []  # R, a stack
        self.working = capacity
        for bucket in range(capacity - 1, working - 1, -1):
            self.remove(bucket)

    def remove(self, bucket: int) -> None:
        """Take a working bucket out; only its keys move."""
        self.removed.append(bucket)
        self.working -= 1
        last = self.bucket_at[self.working]
        self.removed_at[bucket] = self.working
        self.successor[bucket] = self.bucket_at[self.place[bucket]] = last
        self.place[last] = self.place[bucket]

    def add(self) -> int:
        """Bring the bucket back that was removed last; returns its number."""
        if not self.removed:
            raise TooManyNodes(f"the anchor was made for {self.capacity} buckets")
        bucket = self.removed.pop()
        self.removed_at[bucket] = 0
        self.place[self.bucket_at[self.working]] = self.working
        self.bucket_at[self.place[bucket]] = bucket
        self.successor[bucket] = bucket
        self.working += 1
        return bucket

    def bucket(self, key: int) -> int:
        """The working bucket of a key."""
        removed_at, successor = self.removed_at, self.successor
        bucket = mixed(key, self.capacity) % self.capacity
        while removed_at[bucket] > 0:
            bound = removed_at[bucket]
            following = mixed(key, bucket) % bound
            while removed_at[following] >= bound:
                following = successor[following]
            bucket = following
        return bucket

    def bucket_of_all(self, keys: Hashes) -> Nodes:
        """`bucket` of every key."""
        removed_at, successor = np.array(self.removed_at), np.array(self.successor)
        chosen = (mixed_all(keys, self.capacity) % np.uint64(self.capacity)).astype(np.int64)
        open_ = np.flatnonzero(removed_at[chosen] > 0)
        while len(open_):
            at = chosen[open_]
            bound = removed_at[at]
            drawn = mixed_all(keys[open_], at.astype(np.uint64)) % bound.astype(np.uint64)
            following = drawn.astype(np.int64)
            while (beyond := removed_at[following] >= bound).any():
                following[beyond] = successor[following[beyond]]
            chosen[open_] = following
            open_ = open_[removed_at[following] > 0]
        return chosen


class AnchorPlacement(Placement):
    """AnchorHash with a table from bucket to node."""

    def __init__(
        self,
        nodes: Sequence[PlacementNode],
        replicas: int,
        anchor: Anchor | None = None,
        node_of: dict[int, NodeId] | None = None,
    ) -> None:
        ids = [node.id for node in without_draining(nodes)]
        self.replicas = replicas
        self.anchor = anchor or Anchor(CAPACITY_FACTOR * len(ids), len(ids))
        self.node_of = node_of or dict(enumerate(ids))
        self.id_array = np.full(self.anchor.capacity, -1, dtype=np.int64)
        for bucket, id_ in self.node_of.items():
            self.id_array[bucket] = id_

    def changed(self, nodes: Sequence[PlacementNode]) -> AnchorPlacement:
        anchor, node_of = deepcopy(self.anchor), dict(self.node_of)
        ids = {node.id for node in without_draining(nodes)}
        for bucket in [bucket for bucket, id_ in node_of.items() if id_ not in ids]:
            anchor.remove(bucket)
            del node_of[bucket]
        for id_ in sorted(ids - set(node_of.values())):
            node_of[anchor.add()] = id_
        return AnchorPlacement(nodes, self.replicas, anchor, node_of)

    def holders(self, hash_: int) -> list[NodeId]:
        chosen = distinct_draws_of_one(
            hash_, self.replicas, lambda h, n: self.anchor.bucket(mixed(h, n))
        )
        return [self.node_of[bucket] for bucket in chosen]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        chosen = distinct_draws(
            hashes, self.replicas, lambda h, n: self.anchor.bucket_of_all(mixed_all(h, n))
        )
        rows: Nodes = self.id_array[chosen]
        return rows

    def state_bytes(self) -> int:
        return BYTES_PER_BUCKET * self.anchor.capacity
