"""The comparison: every scheme, every cluster, every step, one row of figures each.

Moved is the share of all replica bytes that has to be copied. The minimum beside it is what any
scheme must copy that ends up with every node at its fair share: the sum of what nodes gain. A
scheme can move less than that only by ending up out of balance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.assignment.quotas import fair_shares
from octad.sharding.study.model.cluster_spec import ClusterSpec, StepSpec
from octad.sharding.study.model.trace import Objects
from octad.sharding.study.rivals.mixing import Floats, Nodes
from octad.sharding.study.rivals.scheme import Placement, Scheme, without_draining

GB, TB = 1e9, 1e12
LOOKUP_SECONDS = 0.01
LOOKUPS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Prices:
    """The user's costs of moving data."""

    node_tb: float = 10.0  # Stored on an average node before the step, replicas counted.
    bandwidth_mb_s: float = 100.0  # A node's bandwidth for moves, each way.
    price_per_gb: float = 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: a scheme, a cluster and a step. Shares are of all replica bytes."""

    scheme: str
    nodes: int
    step: str
    nodes_after: int
    moved: float
    minimum: float
    primaries_changed: float
    max_over_mean: float
    p99_over_p50: float
    lookup_ns: float
    state_bytes: int
    replica_sets: int
    zones_broken: float  # Share of keys with two replicas in one zone though they need not.
    moved_tb: float
    moving_hours: float
    price: float
    peak_extra_disk: float  # On the worst node, in shares of what an average node held before.
    degraded_hours: float


class Comparison:
    """Runs the rows. `tell` is called with (done, all) after each."""

    def __init__(
        self,
        spec: ClusterSpec,
        objects: Objects,
        replicas: int,
        prices: Prices,
        tell: Callable[[int, int], None],
    ) -> None:
        self.spec = spec
        self.objects = objects
        self.replicas = replicas
        self.prices = prices
        self.tell = tell

    def run(
        self, schemes: Sequence[Scheme], counts: Sequence[int], steps: Sequence[StepSpec]
    ) -> list[Measured]:
        """All rows, by scheme, then by count, then by step. Impossible steps are left out."""
        rows: list[Measured] = []
        for done, scheme in enumerate(schemes):
            for nth, count in enumerate(counts):
                rows += self._steps_of(scheme, count, steps)
                self.tell(done * len(counts) + nth + 1, len(schemes) * len(counts))
        return rows

    def _steps_of(self, scheme: Scheme, count: int, steps: Sequence[StepSpec]) -> list[Measured]:
        nodes = self.spec.nodes(count)
        placement = scheme.place(nodes, self.replicas)
        before = placement.holders_of_all(self.objects.hashes)
        lookup_ns = lookup_time_ns(placement, self.objects)
        rows = []
        for step in steps:
            after_nodes = step.applied(self.spec, count)
            if not self._possible(after_nodes):
                continue
            after = placement.changed(after_nodes)
            holders = after.holders_of_all(self.objects.hashes)
            change = Change(nodes, after_nodes, before, holders, self.objects.sizes, self.replicas)
            rows.append(self._measured(scheme, count, step, change, lookup_ns, after.state_bytes()))
        return rows

    def _possible(self, nodes: Sequence[PlacementNode]) -> bool:
        zones = {node.zone or str(node.id) for node in without_draining(nodes)}
        return len(zones) >= self.replicas

    def _measured(
        self,
        scheme: Scheme,
        count: int,
        step: StepSpec,
        change: Change,
        lookup_ns: float,
        state_bytes: int,
    ) -> Measured:
        stored_tb = self.prices.node_tb * count
        moved_tb = change.moved * stored_tb
        busiest_tb = change.busiest_node(lost=step.loses_copies) * stored_tb
        hours = busiest_tb * TB / (self.prices.bandwidth_mb_s * 1e6) / 3600
        return Measured(
            scheme=scheme.name,
            nodes=count,
            step=step.text,
            nodes_after=len(change.after_nodes),
            moved=change.moved,
            minimum=change.minimum(),
            primaries_changed=change.primaries_changed(),
            max_over_mean=float(change.relative_loads().max()),
            p99_over_p50=change.p99_over_p50(),
            lookup_ns=lookup_ns,
            state_bytes=state_bytes,
            replica_sets=change.replica_sets(),
            zones_broken=change.zones_broken(),
            moved_tb=moved_tb,
            moving_hours=hours,
            price=moved_tb * TB / GB * self.prices.price_per_gb,
            peak_extra_disk=float(change.received.max()) * count,
            degraded_hours=hours if step.loses_copies else 0.0,
        )


class Change:
    """One scheme's placements before and after a step, and what follows from them."""

    def __init__(
        self,
        before_nodes: Sequence[PlacementNode],
        after_nodes: Sequence[PlacementNode],
        before: Nodes,
        after: Nodes,
        sizes: Floats,
        replicas: int,
    ) -> None:
        self.before_nodes = before_nodes
        self.after_nodes = without_draining(after_nodes)
        self.before, self.after = before, after
        self.sizes = sizes
        self.replicas = replicas
        self.slots = max(node.id for node in (*before_nodes, *after_nodes)) + 1
        total = sizes.sum() * replicas
        joins, leaves = ~_in_rows(after, before), ~_in_rows(before, after)
        weights = np.broadcast_to(sizes[:, None] / total, after.shape)
        self.received = np.bincount(after[joins], weights[joins], self.slots)
        self.sent = np.bincount(before[leaves], weights[leaves], self.slots)
        self.moved = float(self.received.sum())
        self.loads = np.bincount(after.ravel(), weights.ravel(), self.slots)

    def minimum(self) -> float:
        """The total that nodes must gain to get from their old fair shares to the new ones."""
        old = _fair(self.before_nodes, self.replicas)
        new = _fair(self.after_nodes, self.replicas)
        return float(sum(max(Fraction(0), new[id_] - old.get(id_, 0)) for id_ in new))

    def primaries_changed(self) -> float:
        """The share of keys with another first holder."""
        return float((self.before[:, 0] != self.after[:, 0]).mean())

    def relative_loads(self) -> Floats:
        """Every node's load over its fair share."""
        fair = _fair(self.after_nodes, self.replicas)
        return np.array([self.loads[id_] / float(share) for id_, share in fair.items()])

    def p99_over_p50(self) -> float:
        """Statistics of the nodes' relative loads."""
        middle, high = np.percentile(self.relative_loads(), [50, 99])
        return float(high / middle)

    def replica_sets(self) -> int:
        """How many different sets of nodes hold keys."""
        ordered = np.sort(self.after, axis=1)
        codes = ordered[:, 0].copy()
        for column in range(1, self.replicas):
            codes = codes * self.slots + ordered[:, column]
        return len(np.unique(codes))

    def zones_broken(self) -> float:
        """The share of keys that span fewer zones than they could."""
        names = [node.zone or f"\0{node.id}" for node in self.after_nodes]
        ranks = {name: rank for rank, name in enumerate(sorted(set(names)))}
        if len(ranks) == len(names):
            return 0.0  # Every node is a zone of its own, and a key's nodes differ.
        numbers = np.full(self.slots, -1)
        for node, name in zip(self.after_nodes, names, strict=True):
            numbers[node.id] = ranks[name]
        zones = np.sort(numbers[self.after], axis=1)
        spanned = 1 + (np.diff(zones, axis=1) > 0).sum(axis=1)
        return float((spanned < min(self.replicas, len(set(names)))).mean())

    def busiest_node(self, *, lost: bool) -> float:
        """The traffic of the busiest node; a lost node's data comes from all others."""
        if not lost:
            return float(max(self.received.max(), self.sent.max()))
        return float(max(self.received.max(), self.moved / len(self.after_nodes)))


def lookup_time_ns(placement: Placement, objects: Objects) -> float:
    """One look-up in plain Python, beyond the hash: the best of three short runs."""
    hashes = [int(hash_) for hash_ in objects.hashes[:LOOKUPS_MAX]]
    best = float("inf")
    for _ in range(3):
        holders, done = placement.holders, 0
        started = time.perf_counter()
        for hash_ in hashes:
            holders(hash_)
            done += 1
            if not done & 63 and time.perf_counter() - started > LOOKUP_SECONDS:
                break
        best = min(best, (time.perf_counter() - started) / done)
    return best * 1e9


def _in_rows(rows: Nodes, others: Nodes) -> np.typing.NDArray[np.bool_]:
    """For every cell of `rows` whether its node is in the same row of `others`."""
    found = np.zeros(rows.shape, dtype=np.bool_)
    for column in range(others.shape[1]):
        found |= rows == others[:, column : column + 1]
    return found


def _fair(nodes: Sequence[PlacementNode], replicas: int) -> dict[int, Fraction]:
    """Every node's fair share of all replicas, zones and distinctness regarded."""
    names = [node.zone or f"\0{node.id}" for node in nodes]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    shares = fair_shares(
        [Fraction(node.weight) for node in nodes],
        [numbers[name] for name in names],
        shards=1,
        replicas=replicas,
        per_zone=replicas - min(replicas, len(numbers)) + 1,
    )
    return {node.id: share / replicas for node, share in zip(nodes, shares, strict=True)}
