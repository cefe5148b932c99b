"""Maglev: Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016.

Every node has a permutation of the table's places (section 3.4: offset and skip) and the nodes take
turns in claiming their next free place; a node of half the weight takes every second turn.
Another replica of a key is another hash of it.
"""

from __future__ import annotations

from collections.abc import Sequence

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

TABLE_SIZE = 65_537  # The paper's small table; a prime.
OFFSET_SALT, SKIP_SALT = 1 << 33, (1 << 33) + 1


def populated(
    offsets: Sequence[int], skips: Sequence[int], weights: Sequence[float], size: int
) -> list[int]:
    """The look-up table: for every place the number of the node that claimed it."""
    heaviest = max(weights)
    table, places = [-1] * size, list(offsets)
    turns = [0.0] * len(places)
    claimed = 0
    while True:
        for node, weight in enumerate(weights):
            turns[node] += weight / heaviest
            if turns[node] < 1:
                continue
            turns[node] -= 1
            place, skip = places[node], skips[node]
            while table[place] >= 0:
                place = (place + skip) % size
            table[place] = node
            places[node] = place
            claimed += 1
            if claimed == size:
                return table


class Maglev(Placement):
    """A table of 65,537 places."""

    def __init__(self, nodes: Sequence[PlacementNode], replicas: int) -> None:
        self.nodes = without_draining(nodes)
        self.replicas = replicas
        ids = [node.id for node in self.nodes]
        numbers = populated(
            [mixed(id_, OFFSET_SALT) % TABLE_SIZE for id_ in ids],
            [mixed(id_, SKIP_SALT) % (TABLE_SIZE - 1) + 1 for id_ in ids],
            [node.weight for node in self.nodes],
            TABLE_SIZE,
        )
        self.table = [ids[number] for number in numbers]
        self.table_array = np.array(self.table, dtype=np.int64)

    def changed(self, nodes: Sequence[PlacementNode]) -> Maglev:
        return Maglev(nodes, self.replicas)

    def holders(self, hash_: int) -> list[NodeId]:
        chosen = distinct_draws_of_one(
            hash_, self.replicas, lambda h, n: self.table[mixed(h, n) % TABLE_SIZE]
        )
        return [NodeId(node) for node in chosen]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        def draw(some: Hashes, attempt: int) -> Nodes:
            places = mixed_all(some, attempt) % np.uint64(TABLE_SIZE)
            owners: Nodes = self.table_array[places.astype(np.int64)]
            return owners

        return distinct_draws(hashes, self.replicas, draw)

    def state_bytes(self) -> int:
        return 2 * TABLE_SIZE
