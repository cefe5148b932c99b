"""Faults and when they strike: a schedule is drawn from a seed before a run begins.

Nodes are numbered from 1 by where they run, not by their id in the cluster: a node whose disk
was wiped comes back at the same place under another name. A fault begins at `at_s` and is taken
back after `for_s`; never (the node stays dead) where that is None.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from octad.chaos.load.workload import Draw


class FaultKind(StrEnum):
    """A kind of fault."""

    KILL = "kill"  # SIGKILL; started again at the end.
    FREEZE = "freeze"  # SIGSTOP; SIGCONT at the end.
    WIPE = "wipe"  # SIGKILL, its data deleted; started on an empty disk at the end.
    CUT_PAIR = "cut-pair"  # Nothing passes between a node and another one, either way.
    CUT_ONE_WAY = "cut-one-way"  # Nothing passes from a node to another one.
    ISOLATE = "isolate"  # Nothing passes between a node and all the others; the store stays.
    CUT_OFF = "cut-off"  # Nothing passes between a node and anyone, the store included.
    CUT_FROM_STORE = "cut-from-store"  # A node hears nothing of the store, nor the store of it.
    RESET = "reset"  # All connections of a node with the others are cut once; new ones come.
    DELAY = "delay"  # Whatever a node sends to the others is late.
    FILL_DISK = "fill-disk"  # A node's disk has no room left. Needs root.
    SLOW_DISK = "slow-disk"  # A node's disk takes few writes a second. Needs root and cgroups.
    KILL_COORDINATOR = "kill-coordinator"
    FREEZE_COORDINATOR = "freeze-coordinator"
    KILL_STORE = "kill-store"
    FREEZE_STORE = "freeze-store"


ON_NODES = frozenset(
    kind for kind in FaultKind if not kind.endswith(("-coordinator", "-store"))
) | {FaultKind.CUT_FROM_STORE}
NEED_ROOT = frozenset({FaultKind.FILL_DISK, FaultKind.SLOW_DISK})


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault. `node` is 0 where it is not about a node; `other` where it is about one only."""

    kind: FaultKind
    at_s: float
    for_s: float | None
    node: int = 0
    other: int = 0

    def __str__(self) -> str:
        what = f"{self.kind} n{self.node}" if self.node else str(self.kind)
        if self.other:
            what += f" and n{self.other}"
        lasting = "for good" if self.for_s is None else f"for {self.for_s:.1f} s"
        return f"{self.at_s:5.1f} s  {what}  {lasting}"


Scenario = Callable[[Draw, int, float], list[Fault]]
FIRST_AT_S = 3.0
KILL_S = (2.0, 5.0)
SHORT_S = (0.3, 6.0)
REST_S = (4.0, 7.0)  # Between faults on nodes: two at a time may rightly stop a shard.


def kill_primary(draw: Draw, nodes: int, seconds: float) -> list[Fault]:
    """One node after another dies and is started again. Each is the primary of its share."""
    return _one_by_one(draw, nodes, seconds, [FaultKind.KILL], KILL_S)


def freeze(draw: Draw, nodes: int, seconds: float) -> list[Fault]:
    """Nodes stop for a while and go on as if nothing had been."""
    return _one_by_one(draw, nodes, seconds, [FaultKind.FREEZE], SHORT_S)


def cut(draw: Draw, nodes: int, seconds: float) -> list[Fault]:
    """The network between nodes, and between nodes and the store, fails in every way."""
    kinds = [
        FaultKind.CUT_PAIR,
        FaultKind.CUT_ONE_WAY,
        FaultKind.ISOLATE,
        FaultKind.CUT_OFF,
        FaultKind.CUT_FROM_STORE,
        FaultKind.RESET,
        FaultKind.DELAY,
    ]
    return _one_by_one(draw, nodes, seconds, kinds, SHORT_S)


def wipe(draw: Draw, nodes: int, seconds: float) -> list[Fault]:
    """One node loses its disk early on; the rest of the time is for coming back."""
    fault = Fault(FaultKind.WIPE, FIRST_AT_S, _between(draw, KILL_S), _node(draw, nodes))
    return [fault]


def control(draw: Draw, nodes: int, seconds: float) -> list[Fault]:
    """Coordinator and store die and freeze: the data path does not need them."""
    kinds = [
        FaultKind.KILL_COORDINATOR,
        FaultKind.FREEZE_COORDINATOR,
        FaultKind.KILL_STORE,
        FaultKind.FREEZE_STORE,
    ]
    return _one_by_one(draw, nodes, seconds, kinds, SHORT_S)


def fill_disk(draw: Draw, nodes: int, seconds: float) -> list[Fault]:
    """The first node's disk fills up, again and again. Needs root."""
    faults = _one_by_one(draw, 1, seconds, [FaultKind.FILL_DISK], KILL_S)
    return [msgspec.structs.replace(fault, node=1) for fault in faults]


def slow_disk(draw: Draw, nodes: int, seconds: float) -> list[Fault]:
    """One node's disk takes hardly any writes. Needs root and the blkio cgroup."""
    return _one_by_one(draw, nodes, seconds, [FaultKind.SLOW_DISK], KILL_S)


def mixed(draw: Draw, nodes: int, seconds: float) -> list[Fault]:
    """Faults of nodes and network one by one, and those of the control plane at any time beside."""
    kinds = [kind for kind in FaultKind if kind in ON_NODES - NEED_ROOT - {FaultKind.WIPE}]
    beside = control(draw, nodes, seconds)[::2]
    return sorted(
        [*_one_by_one(draw, nodes, seconds, kinds, SHORT_S), *beside], key=lambda f: f.at_s
    )


SCENARIOS: dict[str, Scenario] = {
    "kill-primary": kill_primary,
    "freeze": freeze,
    "cut": cut,
    "wipe": wipe,
    "control": control,
    "fill-disk": fill_disk,
    "slow-disk": slow_disk,
    "mixed": mixed,
}


def _one_by_one(
    draw: Draw, nodes: int, seconds: float, kinds: list[FaultKind], lasting_s: tuple[float, float]
) -> list[Fault]:
    faults: list[Fault] = []
    at_s = FIRST_AT_S
    while not faults or at_s < seconds - REST_S[0]:
        kind = kinds[int(draw() * len(kinds))]
        node = _node(draw, nodes)
        other = 0
        if kind in (FaultKind.CUT_PAIR, FaultKind.CUT_ONE_WAY):
            other = (node + int(draw() * (nodes - 1))) % nodes + 1
        for_s = _between(draw, lasting_s)
        faults.append(Fault(kind, at_s, for_s, node if kind in ON_NODES else 0, other))
        at_s += for_s + _between(draw, REST_S)
    return faults


def _node(draw: Draw, nodes: int) -> int:
    return 1 + int(draw() * nodes)


def _between(draw: Draw, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return round(low + draw() * (high - low), 2)
