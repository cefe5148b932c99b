"""Clusters and their changes as a user writes them: `--nodes 4,8 --steps +1,x2,-1,drain`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId
from octad.sharding.limits import NODE_WEIGHT_MAX
from octad.sharding.study.rivals.bad_input import BadInput

STUDY_NODES_MAX = 10_000
REPLICAS_STUDIED = 2, 3  # One copy has no partners, and nothing to compare.
_STEP = re.compile(r"(?P<kind>[+x-])(?P<count>\d+)")


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """The nodes of a cluster: weights and zones are dealt out in turn."""

    weights: tuple[float, ...] = (1.0,)
    zones: tuple[str, ...] = ("",)

    def nodes(self, count: int) -> list[PlacementNode]:
        """The first `count` nodes."""
        weights, zones = self.weights, self.zones
        return [
            PlacementNode(NodeId(i + 1), weights[i % len(weights)], zones[i % len(zones)])
            for i in range(count)
        ]


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A change: `+k` nodes join, `xk` as many times the nodes, `-k` are lost, one drains."""

    text: str
    kind: str
    count: int

    @property
    def loses_copies(self) -> bool:
        """Whether the nodes are gone at once, so that their copies are missing until repaired."""
        return self.kind == "-"

    def count_after(self, before: int) -> int:
        """How many nodes hold data afterwards."""
        if self.kind == "x":
            return before * self.count
        return before + (self.count if self.kind == "+" else -self.count)

    def applied(self, spec: ClusterSpec, before: int) -> list[PlacementNode]:
        """The nodes afterwards; a draining one is still among them."""
        if self.kind != "drain":
            return spec.nodes(self.count_after(before))
        drained = NodeId(before // 3 + 1)  # One in the middle: the last is the easy case.
        return [replace(node, draining=node.id == drained) for node in spec.nodes(before)]


def parse_node_counts(text: str, replicas: int) -> tuple[int, ...]:
    """`4,8,16` as numbers of nodes, each enough for the replicas."""
    counts = []
    for part in text.split(","):
        if not part.strip().isdecimal():
            raise BadInput(f"--nodes {part!r} is not a number", "give counts such as 4,8,16")
        count = int(part)
        if count == 0:
            raise BadInput("--nodes 0: a cluster has at least one node", "give a larger count")
        if count < replicas:
            raise BadInput(
                f"{count} nodes cannot hold {replicas} replicas on different nodes",
                f"give at least {replicas} nodes, or fewer --replicas",
            )
        if count > STUDY_NODES_MAX:
            raise BadInput(f"--nodes {count} is too large", f"give at most {STUDY_NODES_MAX}")
        counts.append(count)
    if len(set(counts)) != len(counts):
        raise BadInput(f"--nodes {text} names a count twice", "name each once")
    return tuple(counts)


def parse_steps(text: str) -> tuple[StepSpec, ...]:
    """`+1,x2,-1,drain` as steps."""
    steps = []
    for part in (part.strip() for part in text.split(",")):
        match = _STEP.fullmatch(part)
        if part == "drain":
            steps.append(StepSpec(part, "drain", 1))
        elif match and int(match["count"]) >= (2 if match["kind"] == "x" else 1):
            steps.append(StepSpec(part, match["kind"], int(match["count"])))
        else:
            raise BadInput(
                f"--steps {part!r} is not a step", "give some of +1, +2, …, x2, …, -1, …, drain"
            )
    if len(set(steps)) != len(steps):
        raise BadInput(f"--steps {text} names a step twice", "name each once")
    return tuple(steps)


def parse_weights(text: str) -> tuple[float, ...]:
    """`1,1,2` as weights."""
    weights = []
    for part in text.split(","):
        try:
            weight = float(part)
        except ValueError:
            raise BadInput(
                f"--weights {part!r} is not a number", "give weights such as 1,1,2"
            ) from None
        if not (math.isfinite(weight) and 0 < weight <= NODE_WEIGHT_MAX):
            raise BadInput(
                f"--weights {part} is no weight",
                f"give numbers above 0, at most {NODE_WEIGHT_MAX:.0f}; to empty a node, drain it",
            )
        weights.append(weight)
    return tuple(weights)


def parse_zones(text: str, replicas: int) -> tuple[str, ...]:
    """`3` or `a,b,c` as zone names; empty for none."""
    if not text:
        return ("",)
    names = text.split(",")
    if len(names) == 1 and names[0].isdecimal():
        names = [f"z{i + 1}" for i in range(int(names[0]))]
    if not all(name.strip() for name in names):
        raise BadInput(f"--zones {text!r} has a zone without a name", "give names such as a,b,c")
    if len(set(names)) < replicas:
        raise BadInput(
            f"{len(set(names))} zones cannot hold {replicas} replicas in different zones",
            f"give at least {replicas} zones, or fewer --replicas",
        )
    return tuple(names)


def check_zones_reached(spec: ClusterSpec, counts: Sequence[int], replicas: int) -> None:
    """Refuse a cluster so small that its nodes stand in fewer zones than there are replicas."""
    for count in counts:
        reached = {node.zone or str(node.id) for node in spec.nodes(count)}
        if len(reached) < replicas:
            raise BadInput(
                f"{count} nodes in --zones {','.join(spec.zones)} reach only {len(reached)} zones",
                f"{replicas} replicas need {replicas}: give more nodes, or other zones",
            )
