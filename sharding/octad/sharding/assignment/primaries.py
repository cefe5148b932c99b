"""Chooses each row's primary: the second pass of the assignment. It moves no data.

Every node should be primary of its share of the shards it holds, rounded down or up. A primary
that is still in its row stays where balance allows it; the rest is found by augmenting paths, which
always end in balance: giving each of R replicas 1/R of the duty is a fractional solution, so a
whole one exists.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence


def primaries_first(
    rows: Sequence[Sequence[int]], old_primaries: Sequence[int], nodes: int
) -> list[list[int]]:
    """`rows` with each row's primary put first; the others keep their order."""
    duties = _Duties(rows, nodes)
    duties.choose(old_primaries)
    duties.level()
    return [
        [primary, *[node for node in row if node != primary]]
        for row, primary in zip(rows, duties.primary, strict=True)
    ]


class _Duties:
    """The primaries chosen so far."""

    def __init__(self, rows: Sequence[Sequence[int]], nodes: int) -> None:
        self.rows = rows
        self.primary = [-1] * len(rows)
        self.duties: list[dict[int, None]] = [{} for _ in range(nodes)]
        self.held: list[list[int]] = [[] for _ in range(nodes)]
        for shard, row in enumerate(rows):
            for node in row:
                self.held[node].append(shard)
        replicas = len(rows[0])
        self.floor = [len(held) // replicas for held in self.held]
        self.ceiling = [-(-len(held) // replicas) for held in self.held]

    def choose(self, old_primaries: Sequence[int]) -> None:
        """Old primaries stay up to their node's ceiling; the others are spread within each set.

        Where every node of a set leads its part of it, moving the set later moves duties in
        proportion, and no primary has to change for balance alone.
        """
        open_shards = []
        for shard, (row, old) in enumerate(zip(self.rows, old_primaries, strict=True)):
            if old in row and len(self.duties[old]) < self.ceiling[old]:
                self._take(shard, old)
            else:
                open_shards.append(shard)
        led: Counter[tuple[tuple[int, ...], int]] = Counter()
        for shard in open_shards:
            nodes = tuple(sorted(self.rows[shard]))
            _, _, _, chosen = min(
                (
                    len(self.duties[node]) >= self.ceiling[node],
                    led[nodes, node],
                    len(self.duties[node]) - self.ceiling[node],
                    node,
                )
                for node in nodes
            )
            led[nodes, chosen] += 1
            self._take(shard, chosen)

    def level(self) -> None:
        """Hand duties on along paths until every node is within its floor and ceiling."""
        for node, duties in enumerate(self.duties):
            while len(duties) > self.ceiling[node]:
                self._relieve(node)
        for node, duties in enumerate(self.duties):
            while len(duties) < self.floor[node]:
                self._supply(node)

    def _take(self, shard: int, node: int) -> None:
        self.primary[shard] = node
        self.duties[node][shard] = None

    def _hand_over(self, shard: int, node: int) -> None:
        del self.duties[self.primary[shard]][shard]
        self._take(shard, node)

    def _relieve(self, start: int) -> None:
        """Move one duty from `start` along the shortest path to a node below its ceiling."""
        came_by: dict[int, tuple[int, int]] = {start: (-1, -1)}
        queue = deque([start])
        while queue:
            giver = queue.popleft()
            for shard in self.duties[giver]:
                for taker in self.rows[shard]:
                    if taker in came_by:
                        continue
                    came_by[taker] = (giver, shard)
                    if len(self.duties[taker]) < self.ceiling[taker]:
                        self._apply(came_by, taker)
                        return
                    queue.append(taker)
        raise AssertionError("a primary for every shard within every ceiling exists")

    def _supply(self, start: int) -> None:
        """Move one duty to `start` along the shortest path from a node above its floor."""
        goes_to: dict[int, tuple[int, int]] = {start: (-1, -1)}
        queue = deque([start])
        while queue:
            taker = queue.popleft()
            for shard in self.held[taker]:
                giver = self.primary[shard]
                if giver in goes_to:
                    continue
                goes_to[giver] = (taker, shard)
                if len(self.duties[giver]) > self.floor[giver]:
                    self._pull(goes_to, giver)
                    return
                queue.append(giver)
        raise AssertionError("enough duties for every floor exist")

    def _apply(self, came_by: dict[int, tuple[int, int]], taker: int) -> None:
        giver, shard = came_by[taker]
        while giver >= 0:
            self._hand_over(shard, taker)
            taker = giver
            giver, shard = came_by[taker]

    def _pull(self, goes_to: dict[int, tuple[int, int]], giver: int) -> None:
        taker, shard = goes_to[giver]
        while taker >= 0:
            self._hand_over(shard, taker)
            giver = taker
            taker, shard = goes_to[giver]
