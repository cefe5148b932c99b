"""Rings: consistent hashing with virtual nodes, with bounded loads, and multi-probe.

- ring: Karger et al., "Consistent hashing and random trees", STOC 1997; virtual nodes in proportion
  to weight; replicas on the next different nodes, in different zones where asked.
- bounded: Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with bounded loads", SODA 2018
  (arXiv 1608.01350): no node takes more than (1 + epsilon) of its share; what is full is skipped.
- multi-probe: Appleton and O'Reilly, "Multi-probe consistent hashing", 2015 (arXiv 1505.00062): one
  point a node, 21 probes a key, the probe closest to a point wins: peak to average 1.05.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId
from octad.sharding.study.rivals.mixing import MASK, Hashes, Nodes, mixed, mixed_all
from octad.sharding.study.rivals.scheme import (
    Placement,
    distinct_draws,
    distinct_draws_of_one,
    without_draining,
)

BYTES_PER_POINT = 10  # Eight for the point, two for its node.
EPSILON = 0.05
PROBES = 21  # Drawn by double hashing, as the paper has it: h1 + i * h2.
TABLE_BITS = 12  # A shortcut of the vectorised look-up; the scheme has no table.
MULTI_PROBE_SALT = 1 << 32


class Ring(Placement):
    """Consistent hashing with `vnodes` points for a node of weight 1."""

    def __init__(self, nodes: Sequence[PlacementNode], replicas: int, vnodes: int = 128) -> None:
        self.nodes = without_draining(nodes)
        self.replicas = replicas
        self.vnodes = vnodes
        points = sorted(
            (mixed(node.id, vnode), node.id)
            for node in self.nodes
            for vnode in range(max(1, round(vnodes * node.weight)))
        )
        self.points = [point for point, _ in points]
        self.owners = [owner for _, owner in points]
        self.point_array = np.array(self.points, dtype=np.uint64)
        self.rows = self._rows()
        self.row_array = np.array(self.rows, dtype=np.int64)

    def changed(self, nodes: Sequence[PlacementNode]) -> Ring:
        return type(self)(nodes, self.replicas, self.vnodes)

    def holders(self, hash_: int) -> tuple[NodeId, ...]:
        at = bisect_left(self.points, hash_)
        return self.rows[at if at < len(self.points) else 0]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        at = np.searchsorted(self.point_array, hashes) % len(self.points)
        rows: Nodes = self.row_array[at]
        return rows

    def state_bytes(self) -> int:
        return BYTES_PER_POINT * len(self.points)

    def _rows(self) -> list[tuple[NodeId, ...]]:
        """The holders of the keys that end at each point: the next nodes, in new zones first."""
        zone_of = {node.id: node.zone or f"\0{node.id}" for node in self.nodes}
        spread = min(self.replicas, len(set(zone_of.values())))
        count, rows = len(self.points), []
        for start in range(count):
            row: list[NodeId] = []
            zones: set[str] = set()
            passed: list[NodeId] = []
            for step in range(count):
                owner = self.owners[(start + step) % count]
                if owner in row or owner in passed:
                    continue
                if zone_of[owner] in zones and len(zones) < spread:
                    passed.append(owner)
                    continue
                row.append(owner)
                zones.add(zone_of[owner])
                if len(zones) == spread:
                    row += passed[: self.replicas - len(row)]
                    passed = []
                if len(row) == self.replicas:
                    break
            rows.append(tuple(row))
        return rows


class BoundedRing(Placement):
    """Consistent hashing with bounded loads. A key's place depends on the other keys.

    `holders_of_all` places all keys one by one, in the order given, as a system that counts would,
    and remembers those it sent on; `holders` consults the ring and that memory.
    """

    def __init__(self, nodes: Sequence[PlacementNode], replicas: int) -> None:
        self.ring = Ring(nodes, replicas)
        self.sent_on: dict[int, tuple[NodeId, ...]] = {}

    def changed(self, nodes: Sequence[PlacementNode]) -> BoundedRing:
        return BoundedRing(nodes, self.ring.replicas)

    def holders(self, hash_: int) -> tuple[NodeId, ...]:
        return self.sent_on.get(hash_) or self.ring.holders(hash_)

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        ring = self.ring
        total = sum(node.weight for node in ring.nodes)
        copies = len(hashes) * ring.replicas
        room = {
            node.id: int(-(-(1 + EPSILON) * copies * node.weight // total)) for node in ring.nodes
        }
        starts = (np.searchsorted(ring.point_array, hashes) % len(ring.points)).tolist()
        rows, full, self.sent_on = [], set[NodeId](), {}
        for hash_, start in zip(hashes.tolist(), starts, strict=True):
            row = ring.rows[start]
            if not full.isdisjoint(row):
                row = self.sent_on[hash_] = self._walked(start, room)
            for node in row:
                left = room[node] = room[node] - 1
                if not left:
                    full.add(node)
            rows.append(row)
        return np.array(rows, dtype=np.int64).reshape(len(rows), ring.replicas)

    def state_bytes(self) -> int:
        """The ring and a count for every node; that all clients agree on the counts is not free."""
        return self.ring.state_bytes() + 8 * len(self.ring.nodes)

    def _walked(self, start: int, room: dict[NodeId, int]) -> tuple[NodeId, ...]:
        owners, replicas = self.ring.owners, self.ring.replicas
        row: list[NodeId] = []
        for step in range(len(owners)):
            owner = owners[(start + step) % len(owners)]
            if room[owner] > 0 and owner not in row:
                row.append(owner)
                if len(row) == replicas:
                    return tuple(row)
        # Fewer nodes than replicas have room left: the emptiest take the rest, beyond their bound.
        rest = sorted((node for node in room if node not in row), key=lambda n: -room[n])
        return (*row, *rest[: replicas - len(row)])


class MultiProbe(Placement):
    """Multi-probe consistent hashing: the probe that lies closest before a node's point wins."""

    def __init__(self, nodes: Sequence[PlacementNode], replicas: int) -> None:
        self.nodes = without_draining(nodes)
        self.replicas = replicas
        points = sorted((mixed(node.id, MULTI_PROBE_SALT), node.id) for node in self.nodes)
        self.points = [point for point, _ in points]
        self.owners = [owner for _, owner in points]
        self.point_array = np.array(self.points, dtype=np.uint64)
        self.owner_array = np.array(self.owners, dtype=np.int64)
        self.padded = np.append(self.point_array, np.uint64(MASK))
        slots = np.arange(1 << TABLE_BITS, dtype=np.uint64) << np.uint64(64 - TABLE_BITS)
        self.table = np.searchsorted(self.point_array, slots)

    def changed(self, nodes: Sequence[PlacementNode]) -> MultiProbe:
        return MultiProbe(nodes, self.replicas)

    def holders(self, hash_: int) -> list[NodeId]:
        chosen = distinct_draws_of_one(hash_, self.replicas, self._probe)
        return [NodeId(node) for node in chosen]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        return distinct_draws(hashes, self.replicas, self._probe_all)

    def state_bytes(self) -> int:
        return BYTES_PER_POINT * len(self.points)

    def _probe(self, hash_: int, attempt: int) -> int:
        point, step = mixed(hash_, 2 * attempt), mixed(hash_, 2 * attempt + 1)
        best, best_distance = 0, 1 << 64
        for _ in range(PROBES):
            at = bisect_left(self.points, point) % len(self.points)
            distance = (self.points[at] - point) & MASK
            if distance < best_distance:
                best, best_distance = at, distance
            point = (point + step) & MASK
        return self.owners[best]

    def _probe_all(self, hashes: Hashes, attempt: int) -> Nodes:
        points, steps = mixed_all(hashes, 2 * attempt), mixed_all(hashes, 2 * attempt + 1)
        best = np.zeros(len(hashes), dtype=np.int64)
        best_distance = np.full(len(hashes), MASK, dtype=np.uint64)
        for _ in range(PROBES):
            at = self._successors(points)
            distance = self.point_array[at] - points
            closer = distance < best_distance
            np.copyto(best, at, where=closer)
            np.minimum(best_distance, distance, out=best_distance)
            points = points + steps
        owners: Nodes = self.owner_array[best]
        return owners

    def _successors(self, points: Hashes) -> Nodes:
        """The place of the first node at or after each point: by a table, then a step or two."""
        at: Nodes = self.table[(points >> np.uint64(64 - TABLE_BITS)).astype(np.int64)]
        while (behind := (self.padded[at] < points) & (at < len(self.points))).any():
            at = at + behind
        return at % len(self.points)
