"""Schemes that compare all nodes for every key: rendezvous and a CRUSH-like straw2.

- rendezvous: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", ToN 1998;
  weights by the logarithmic method of Schindelhauer and Schomaker, SPAA 2005: the nodes with the
  least -ln(u) / weight hold the key.
- straw2: Weil et al., "CRUSH: controlled, scalable, decentralized placement of replicated data",
  SC 2006, with the straw2 bucket of Ceph: for each replica every item draws ln(u) / weight and the
  longest straw wins; what collides draws again. First a zone, then a node of it. CRUSH-*like*:
  real logarithms and our hash in place of its fixed-point tables and Jenkins hash.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId
from octad.sharding.study.rivals.mixing import (
    Floats,
    Hashes,
    Nodes,
    mixed,
    mixed_all,
    unit,
    unit_all,
)
from octad.sharding.study.rivals.scheme import Placement, without_draining

BYTES_PER_NODE = 8
CHUNK_CELLS = 1 << 20  # Keys times nodes at once: what stays in the caches.
STRAW_SALT = 1 << 34
ATTEMPTS_MAX = 1 << 8


def straws(hashes: Hashes, salts: Hashes, weights: Floats) -> Floats:
    """-ln(u) / weight for every hash (rows) and item (columns): the least wins."""
    lengths: Floats = -np.log(unit_all(mixed_all(hashes[:, None], salts))) / weights
    return lengths


def chunked(hashes: Hashes, items: int) -> list[Hashes]:
    """`hashes` in parts whose table of straws stays small."""
    step = max(1, CHUNK_CELLS // items)
    return [hashes[start : start + step] for start in range(0, len(hashes), step)]


class Rendezvous(Placement):
    """Weighted rendezvous hashing. Zones: a node is passed over while new zones remain."""

    def __init__(self, nodes: Sequence[PlacementNode], replicas: int) -> None:
        self.nodes = sorted(without_draining(nodes), key=lambda node: node.id)
        self.replicas = replicas
        self.ids = [node.id for node in self.nodes]
        self.weights = [node.weight for node in self.nodes]
        names = [node.zone or f"\0{node.id}" for node in self.nodes]
        self.zones = [sorted(set(names)).index(name) for name in names]
        self.zones_matter = len(set(names)) < len(names)
        self.equal = len(set(self.weights)) == 1

    def changed(self, nodes: Sequence[PlacementNode]) -> Rendezvous:
        return Rendezvous(nodes, self.replicas)

    def holders(self, hash_: int) -> list[NodeId]:
        if self.equal:
            scored = [(-unit(mixed(hash_, id_)), id_) for id_ in self.ids]
        else:
            pairs = zip(self.ids, self.weights, strict=True)
            scored = [(-math.log(unit(mixed(hash_, id_))) / w, id_) for id_, w in pairs]
        order = [id_ for _, id_ in sorted(scored)]
        return self._spread(order) if self.zones_matter else order[: self.replicas]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        salts = np.array(self.ids, dtype=np.uint64)
        weights = np.array(self.weights)
        ids = np.array(self.ids, dtype=np.int64)
        parts = []
        for part in chunked(hashes, len(ids)):
            if self.equal:
                scores = -unit_all(mixed_all(part[:, None], salts))
            else:
                scores = straws(part, salts, weights)
            parts.append(ids[self._best(scores)])
        return np.concatenate(parts)

    def state_bytes(self) -> int:
        return BYTES_PER_NODE * len(self.ids)

    def _best(self, scores: Floats) -> Nodes:
        if self.zones_matter:
            order = np.argsort(scores, axis=1, kind="stable")
            return self._spread_all(order)
        if self.replicas < scores.shape[1]:
            nearest = np.argpartition(scores, self.replicas, axis=1)[:, : self.replicas]
        else:
            nearest = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
        inner = np.argsort(np.take_along_axis(scores, nearest, axis=1), axis=1, kind="stable")
        best: Nodes = np.take_along_axis(nearest, inner, axis=1)
        return best

    def _spread(self, order: Sequence[NodeId]) -> list[NodeId]:
        """The first nodes of `order`, from different zones as far as there are any."""
        zone_of = dict(zip(self.ids, self.zones, strict=True))
        first: dict[int, NodeId] = {}
        for id_ in order:
            first.setdefault(zone_of[id_], id_)
        row = list(first.values())[: self.replicas]
        row += [id_ for id_ in order if id_ not in row][: self.replicas - len(row)]
        return row

    def _spread_all(self, order: Nodes) -> Nodes:
        """`_spread` for rows of positions: the first of each zone goes before all others."""
        zones = np.array(self.zones)[order]
        again = np.zeros(order.shape, dtype=bool)
        for column in range(1, order.shape[1]):
            again[:, column] = (zones[:, :column] == zones[:, column : column + 1]).any(axis=1)
        ranked = np.argsort(again, axis=1, kind="stable")[:, : self.replicas]
        rows: Nodes = np.take_along_axis(order, ranked, axis=1)
        return rows


class Straw2(Placement):
    """Straw2 buckets: zones at the root, nodes below; flat where zones are too few for replicas."""

    def __init__(self, nodes: Sequence[PlacementNode], replicas: int) -> None:
        self.nodes = sorted(without_draining(nodes), key=lambda node: node.id)
        self.replicas = replicas
        by_zone: dict[str, list[PlacementNode]] = {}
        for node in self.nodes:
            by_zone.setdefault(node.zone or f"\0{node.id}", []).append(node)
        if len(by_zone) < replicas:
            by_zone = {str(node.id): [node] for node in self.nodes}
        self.zones = [by_zone[name] for name in sorted(by_zone)]
        # A zone is named by its first node, so that others coming and going do not rename it.
        self.zone_ids = [STRAW_SALT + zone[0].id for zone in self.zones]
        self.zone_weights = [sum(node.weight for node in zone) for zone in self.zones]

    def changed(self, nodes: Sequence[PlacementNode]) -> Straw2:
        return Straw2(nodes, self.replicas)

    def holders(self, hash_: int) -> list[NodeId]:
        chosen: list[int] = []
        attempt = 0
        while len(chosen) < self.replicas:
            zone = _shortest(hash_, self.zone_ids, self.zone_weights, attempt)
            if zone not in chosen:
                chosen.append(zone)
            attempt += 1
        return [self._within(hash_, zone) for zone in chosen]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        return np.concatenate(
            [self._holders_of_part(part) for part in chunked(hashes, self._width())]
        )

    def state_bytes(self) -> int:
        return BYTES_PER_NODE * (len(self.nodes) + len(self.zones))

    def _width(self) -> int:
        return max(len(self.zones), max(len(zone) for zone in self.zones))

    def _within(self, hash_: int, zone: int) -> NodeId:
        nodes = self.zones[zone]
        if len(nodes) == 1:
            return nodes[0].id
        weights = [node.weight for node in nodes]
        return nodes[_shortest(hash_, [node.id for node in nodes], weights, 0)].id

    def _holders_of_part(self, hashes: Hashes) -> Nodes:
        chosen = np.full((len(hashes), self.replicas), -1, dtype=np.int64)
        filled = np.zeros(len(hashes), dtype=np.int64)
        open_ = np.arange(len(hashes))
        attempt = 0
        while len(open_):
            zone = _shortest_of_all(hashes[open_], self.zone_ids, self.zone_weights, attempt)
            fresh = ~(chosen[open_] == zone[:, None]).any(axis=1)
            rows = open_[fresh]
            chosen[rows, filled[rows]] = zone[fresh]
            filled[rows] += 1
            open_ = open_[filled[open_] < self.replicas]
            attempt += 1
        return self._nodes_of(hashes, chosen)

    def _nodes_of(self, hashes: Hashes, zones: Nodes) -> Nodes:
        first = np.array([zone[0].id for zone in self.zones], dtype=np.int64)
        holders: Nodes = first[zones]
        for number, nodes in enumerate(self.zones):
            if len(nodes) == 1:
                continue
            key, column = np.nonzero(zones == number)
            ids = [node.id for node in nodes]
            won = _shortest_of_all(hashes[key], ids, [node.weight for node in nodes], 0)
            holders[key, column] = np.array(ids)[won]
        return holders


def _shortest(hash_: int, items: Sequence[int], weights: Sequence[float], attempt: int) -> int:
    """The place of the item that wins; -ln(u) is least where the straw ln(u) is longest."""
    lengths = [
        -math.log(unit(mixed(hash_, item * ATTEMPTS_MAX + attempt))) / weight
        for item, weight in zip(items, weights, strict=True)
    ]
    return lengths.index(min(lengths))


def _shortest_of_all(
    hashes: Hashes, items: Sequence[int], weights: Sequence[float], attempt: int
) -> Nodes:
    salts = np.array([item * ATTEMPTS_MAX + attempt for item in items], dtype=np.uint64)
    won: Nodes = straws(hashes, salts, np.array(weights)).argmin(axis=1)
    return won
