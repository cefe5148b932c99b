"""Carries out the faults of a schedule, takes them back, and remembers whom they harmed when."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

from octad.chaos.check.stalls import Harm
from octad.chaos.cluster.cluster import Cluster
from octad.chaos.cluster.processes import STORE
from octad.chaos.faults import disk_faults
from octad.chaos.faults.faults import Fault, FaultKind
from octad.sharding.ids import NodeId, node_name

DELAY_S = 0.2
FOREVER = float("inf")
# A client of any other node is owed an answer during these.
_HARMLESS = frozenset({FaultKind.RESET, FaultKind.DELAY})
# Faults of a process, and whose; a node's where the name is empty.
_PROCESSES = {
    FaultKind.KILL: "",
    FaultKind.WIPE: "",
    FaultKind.FREEZE: "",
    FaultKind.KILL_COORDINATOR: "coordinator",
    FaultKind.FREEZE_COORDINATOR: "coordinator",
    FaultKind.KILL_STORE: STORE,
    FaultKind.FREEZE_STORE: STORE,
}

log = logging.getLogger(__name__)


class Nemesis:
    """`await carry_out(schedule)` returns when all faults have been reverted.

    `now` is the run's clock, on which the schedule is based. A fault of a process begins once an
    earlier one of the same process is reverted: on a busy machine it may take longer to be ready
    than the schedule has planned, and must not be killed before.
    """

    def __init__(self, cluster: Cluster, now: Callable[[], float]) -> None:
        self._cluster = cluster
        self._now = now
        self._slow: dict[int, int] = {}  # Process ids by node.
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # By process.
        self.harms: list[Harm] = []

    async def carry_out(self, schedule: Sequence[Fault]) -> None:
        async with asyncio.TaskGroup() as group:
            for fault in schedule:
                group.create_task(self._one(fault))

    async def _one(self, fault: Fault) -> None:
        await asyncio.sleep(max(0.0, fault.at_s - self._now()))
        process = _PROCESSES.get(fault.kind)
        if process is None:
            await self._carry_out(fault)
            return
        async with self._turns[process or _name(fault.node)]:
            await self._carry_out(fault)

    async def _carry_out(self, fault: Fault) -> None:
        log.info("%s", fault)
        begin, end = self._now(), FOREVER
        try:
            self._strike(fault)
            if fault.for_s is not None:
                await asyncio.sleep(fault.for_s)
                await self._take_back(fault)
                end = self._now()
                log.info("%5.1f s  %s is over", end, fault.kind)
        finally:
            harmed = () if fault.kind in _HARMLESS else (fault.node, fault.other)
            self.harms += [Harm(node, begin, end) for node in harmed if node]

    def _strike(self, fault: Fault) -> None:
        cluster, network = self._cluster, self._cluster.network
        match fault.kind:
            case FaultKind.KILL:
                cluster.nodes[fault.node].kill()
            case FaultKind.WIPE:
                cluster.nodes[fault.node].kill()
                cluster.wipe(fault.node)
            case FaultKind.FREEZE:
                cluster.nodes[fault.node].freeze()
            case FaultKind.RESET:
                network.reset(_name(fault.node), self._others(fault.node))
            case FaultKind.DELAY:
                for source, target in self._links(fault):
                    network.link(source, target).delay_s = DELAY_S
            case FaultKind.FILL_DISK:
                disk_faults.fill(cluster.data(fault.node))
            case FaultKind.SLOW_DISK:
                self._slow[fault.node] = cluster.nodes[fault.node].pid
                disk_faults.slow_down(self._slow[fault.node], cluster.data(fault.node))
            case FaultKind.KILL_COORDINATOR:
                cluster.coordinator.kill()
            case FaultKind.FREEZE_COORDINATOR:
                cluster.coordinator.freeze()
            case FaultKind.KILL_STORE:
                cluster.store.kill()
            case FaultKind.FREEZE_STORE:
                cluster.store.freeze()
            case _:
                for source, target in self._links(fault):
                    network.cut(source, target)

    async def _take_back(self, fault: Fault) -> None:
        cluster = self._cluster
        match fault.kind:
            case FaultKind.KILL | FaultKind.WIPE:
                await cluster.start_node(fault.node)
            case FaultKind.FREEZE:
                cluster.nodes[fault.node].thaw()
            case FaultKind.FILL_DISK:
                disk_faults.empty(cluster.data(fault.node))
            case FaultKind.SLOW_DISK:
                disk_faults.speed_up(self._slow.pop(fault.node))
            case FaultKind.KILL_COORDINATOR:
                await cluster.start_coordinator()
            case FaultKind.FREEZE_COORDINATOR:
                cluster.coordinator.thaw()
            case FaultKind.KILL_STORE:
                await cluster.start_store()
            case FaultKind.FREEZE_STORE:
                cluster.store.thaw()
            case _:
                for source, target in self._links(fault):
                    cluster.network.heal(source, target)

    def _links(self, fault: Fault) -> list[tuple[str, str]]:
        """Source and target of each link that a fault of the network is about."""
        node, other = _name(fault.node), _name(fault.other)
        match fault.kind:
            case FaultKind.CUT_ONE_WAY:
                return [(node, other)]
            case FaultKind.CUT_PAIR:
                return [(node, other), (other, node)]
            case FaultKind.CUT_FROM_STORE:
                return [(node, STORE), (STORE, node)]
            case FaultKind.DELAY:
                return [(node, each) for each in self._others(fault.node)]
            case FaultKind.ISOLATE | FaultKind.CUT_OFF:
                others = self._others(fault.node)
                if fault.kind is FaultKind.CUT_OFF:
                    others.append(STORE)
                return [*((node, each) for each in others), *((each, node) for each in others)]
            case _:
                return []

    def _others(self, node: int) -> list[str]:
        return [_name(number) for number in self._cluster.numbers if number != node]


def _name(node: int) -> str:
    return node_name(NodeId(node))
