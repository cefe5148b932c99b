"""The oracle: the fewest moves any assignment within the constraints needs, by min-cost flow.

Successive shortest paths by Bellman-Ford on shard -> (shard, zone) -> node -> sink. Slow and plain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction

FORCED = -10_000  # The cost of a load up to the rounded-down share: taken before anything else.


class Flow:
    """A network with unit-cost edges and their reverses, edge e's reverse being e ^ 1."""

    def __init__(self) -> None:
        self.heads: list[list[int]] = []
        self.to: list[int] = []
        self.capacity: list[int] = []
        self.cost: list[int] = []

    def vertex(self) -> int:
        self.heads.append([])
        return len(self.heads) - 1

    def edge(self, start: int, end: int, capacity: int, cost: int) -> None:
        for a, b, room, price in ((start, end, capacity, cost), (end, start, 0, -cost)):
            self.heads[a].append(len(self.to))
            self.to.append(b)
            self.capacity.append(room)
            self.cost.append(price)

    def cheapest(self, source: int, sink: int) -> tuple[int, int]:
        """(amount, cost) of a maximal flow of least cost."""
        amount = total = 0
        while (path := self._shortest(source, sink)) is not None:
            amount += 1
            for edge in path:
                self.capacity[edge] -= 1
                self.capacity[edge ^ 1] += 1
                total += self.cost[edge]
        return amount, total

    def _shortest(self, source: int, sink: int) -> list[int] | None:
        distance: dict[int, int] = {source: 0}
        by_edge: dict[int, int] = {}
        queue, queued = deque([source]), {source}
        while queue:
            at = queue.popleft()
            queued.discard(at)
            for edge in self.heads[at]:
                there, length = self.to[edge], distance[at] + self.cost[edge]
                if self.capacity[edge] and length < distance.get(there, 1 << 60):
                    distance[there], by_edge[there] = length, edge
                    if there not in queued:
                        queue.append(there)
                        queued.add(there)
        if sink not in distance:
            return None
        path = []
        while sink != source:
            path.append(by_edge[sink])
            sink = self.to[by_edge[sink] ^ 1]
        return path


def fewest_moves(
    before: Sequence[set[int]],
    zones: Sequence[int],
    shares: Sequence[Fraction],
    replicas: int,
    per_zone: int,
) -> int:
    """How many replicas must be new, with every node at its share rounded down or up."""
    flow = Flow()
    source, sink = flow.vertex(), flow.vertex()
    nodes = [flow.vertex() for _ in zones]
    floors = [int(share) for share in shares]
    for node, floor, share in zip(nodes, floors, shares, strict=True):
        flow.edge(node, sink, floor, FORCED)
        flow.edge(node, sink, int(share > floor), 0)
    for holders in before:
        shard = flow.vertex()
        flow.edge(source, shard, replicas, 0)
        for zone in sorted(set(zones)):
            in_zone = flow.vertex()
            flow.edge(shard, in_zone, per_zone, 0)
            for i, node in enumerate(nodes):
                if zones[i] == zone:
                    flow.edge(in_zone, node, 1, int(i not in holders))
    amount, cost = flow.cheapest(source, sink)
    assert amount == replicas * len(before), "an assignment exists"
    return cost - FORCED * sum(floors)
