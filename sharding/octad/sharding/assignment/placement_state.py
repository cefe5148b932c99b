"""The rows while they are being changed, and everything that is counted along with them.

Every change goes through `add` and `remove`, so that loads, shards by node, replica sets and
partners never disagree with the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

# The nodes of a row, sorted: rows with the same nodes are one set, in any order.
ReplicaSet = tuple[int, ...]


class PlacementState:
    """Rows of nodes (as positions), with quotas that say how many shards each should hold."""

    def __init__(
        self,
        before: Sequence[Sequence[int]],
        rows: Sequence[Sequence[int]],
        zones: Sequence[int],
        pinned: Mapping[int, Sequence[int]],
        *,
        replicas: int,
        per_zone: int,
    ) -> None:
        self.before = before
        self.zones = zones
        self.pinned = pinned
        self.replicas = replicas
        self.per_zone = per_zone
        self.zones_matter = len(set(zones)) < len(zones)
        self.rows = [list(row) for row in rows]
        self.quotas = [0] * len(zones)
        self.load = [0] * len(zones)
        self.shards_of: list[dict[int, None]] = [{} for _ in zones]
        self.sets: dict[ReplicaSet, dict[int, None]] = {}
        self.sets_of: list[dict[ReplicaSet, None]] = [{} for _ in zones]
        # How many sets two nodes have in common.
        self.partners: list[Counter[int]] = [Counter() for _ in zones]
        for shard, row in enumerate(self.rows):
            for node in row:
                self.load[node] += 1
                self.shards_of[node][shard] = None
            self._enter_set(shard)

    def room(self, node: int) -> int:
        """How many more shards `node` should hold; negative when it holds too many."""
        return self.quotas[node] - self.load[node]

    def add(self, shard: int, node: int) -> None:
        """Give a replica of `shard` to `node`."""
        assert node not in self.rows[shard], "two replicas of a shard on one node"
        self._leave_set(shard)
        self.rows[shard].append(node)
        self.load[node] += 1
        self.shards_of[node][shard] = None
        self._enter_set(shard)

    def remove(self, shard: int, node: int) -> None:
        """Take the replica of `shard` from `node`."""
        self._leave_set(shard)
        self.rows[shard].remove(node)
        self.load[node] -= 1
        del self.shards_of[node][shard]
        self._enter_set(shard)

    def replace(self, shard: int, giver: int, taker: int) -> None:
        """Move the replica of `shard` from one node to another."""
        row = self.rows[shard]
        assert taker not in row, "two replicas of a shard on one node"
        self._leave_set(shard)
        row[row.index(giver)] = taker
        self.load[giver] -= 1
        self.load[taker] += 1
        del self.shards_of[giver][shard]
        self.shards_of[taker][shard] = None
        self._enter_set(shard)

    def fits(self, shard: int, node: int, leaving: int = -1) -> bool:
        """Whether `node` may join `shard`'s row once `leaving` is out of it."""
        row = self.rows[shard]
        return node not in row and self._zone_allows(row, node, leaving)

    def fits_rest(self, rest: ReplicaSet, node: int) -> bool:
        """Whether `node` may complete a row of which `rest` stays."""
        return node not in rest and self._zone_allows(rest, node, -1)

    def is_pinned(self, shard: int, node: int) -> bool:
        """Whether `node` must keep `shard`."""
        return bool(self.pinned) and node in self.pinned.get(shard, ())

    def arrived(self, shard: int, node: int) -> bool:
        """Whether `node` did not hold `shard` before: moving that replica on costs nothing more."""
        return node not in self.before[shard]

    def _zone_allows(self, row: Sequence[int], node: int, leaving: int) -> bool:
        if not self.zones_matter:
            return True
        zones, zone = self.zones, self.zones[node]
        taken = sum(1 for other in row if zones[other] == zone and other != leaving)
        return taken < self.per_zone

    def _enter_set(self, shard: int) -> None:
        nodes = tuple(sorted(self.rows[shard]))
        shards = self.sets.get(nodes)
        if shards is None:
            shards = self.sets[nodes] = {}
            for node in nodes:
                self.sets_of[node][nodes] = None
                self.partners[node].update([other for other in nodes if other != node])
        shards[shard] = None

    def _leave_set(self, shard: int) -> None:
        nodes = tuple(sorted(self.rows[shard]))
        shards = self.sets[nodes]
        del shards[shard]
        if shards:
            return
        del self.sets[nodes]
        for node in nodes:
            del self.sets_of[node][nodes]
            partners = self.partners[node]
            for other in nodes:
                if other != node:
                    partners[other] -= 1
                    if not partners[other]:
                        del partners[other]
