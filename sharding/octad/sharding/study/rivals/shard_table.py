"""octad's own scheme behind the comparison's interface: 2^P shards and the minimal-movement map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octad.sharding.assignment.assignment import SCATTER_WIDTH_DEFAULT, PlacementNode, Rows, assign
from octad.sharding.ids import NodeId
from octad.sharding.study.rivals.mixing import Hashes, Nodes
from octad.sharding.study.rivals.scheme import Placement

BYTES_PER_REPLICA = 2


class ShardTable(Placement):
    """A list of rows, indexed by the hash's low bits."""

    def __init__(
        self,
        nodes: Sequence[PlacementNode],
        replicas: int,
        depth: int = 12,
        scatter_width: int = SCATTER_WIDTH_DEFAULT,
        old: Rows | None = None,
    ) -> None:
        self.replicas = replicas
        self.depth = depth
        self.scatter_width = scatter_width
        self.rows = assign(
            old or (), nodes, replicas, depth, zones_min=1, scatter_width=scatter_width
        )
        self.mask = (1 << depth) - 1
        self.row_array = np.array(self.rows, dtype=np.int64)

    def changed(self, nodes: Sequence[PlacementNode]) -> ShardTable:
        return ShardTable(nodes, self.replicas, self.depth, self.scatter_width, self.rows)

    def holders(self, hash_: int) -> tuple[NodeId, ...]:
        return self.rows[hash_ & self.mask]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        rows: Nodes = self.row_array[(hashes & np.uint64(self.mask)).astype(np.int64)]
        return rows

    def state_bytes(self) -> int:
        return BYTES_PER_REPLICA * self.replicas << self.depth
