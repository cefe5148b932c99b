"""Tells the coordinator what only this node knows: verified copies, progress of copies and plans.

A report goes out when it has changed, at most every few seconds; a plan's progress in a transaction
that compares the plan, so that it is never about another one. Both are for people and planning:
nothing's safety depends on them, and a store that does not answer is tried again at the next turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from octad.coordinator.placement.plan_steps import Refuse, Wait, next_step
from octad.coordinator.schema.node_report import CopyReport, NodeReport, VerifiedCopies
from octad.coordinator.schema.placement_records import PlacementKeys, PlanProgress
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    LeaseExpired,
    ModRevisionIs,
    Put,
    StoreUnavailable,
)
from octad.sharding.ids import NodeId, ShardId, shard_name
from octad.storage_node.replication.host.cluster_facts import ClusterFacts
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.upkeep.damaged_records import DamageReport
from octad.storage_node.upkeep.returning_space import Returning, returning_space

REPORT_S_MIN = 2.0  # Between two reports of a node on its shards.

Copies = Callable[[], Mapping[ShardId, tuple[int, int | None, NodeId | None]]]

log = logging.getLogger(__name__)


class Anew(Protocol):
    """The state of a node that is to begin, or began, without data: see NodeReport."""

    waits_for: str
    in_place_of: NodeId


class Succession(Protocol):
    """The state of a node's index."""

    @property
    def state(self) -> str:
        """As in NodeReport; empty while it is intact."""

    @property
    def anew(self) -> Anew:
        """Set if no other index can be made."""


class ShardReporter:
    """`run` until cancelled. `waiting`: bytes of dead extents here, and until when at most."""

    def __init__(
        self,
        node: NodeId,
        boot: str,
        store: ConfigStore,
        keys: StoreKeys,
        facts: ClusterFacts,
        host: ShardHost,
        verified: Callable[[], dict[str, VerifiedCopies]],
        copies: Copies,
        damage: Callable[[], DamageReport],
        waiting: Callable[[], tuple[int, float]],
        succession: Succession,
    ) -> None:
        self._node = node
        self._boot = boot
        self._store = store
        self._key = keys.report(node)
        self._placement_keys = PlacementKeys(keys)
        self._facts = facts
        self._host = host
        self._verified = verified
        self._copies = copies
        self._damage = damage
        self._waiting = waiting
        self._succession = succession
        self._said: NodeReport | None = None
        self._progress: dict[ShardId, PlanProgress] = {}

    async def run(self) -> None:
        while True:
            try:
                await self._tell()
            except (StoreUnavailable, LeaseExpired) as error:
                log.info("not reported to the configuration store: %s", error)
            await asyncio.sleep(REPORT_S_MIN)

    async def _tell(self) -> None:
        report = self.report()
        if report != self._said:
            await self._store.transact([], [Put(self._key, msgspec.json.encode(report))])
            self._said = report
        for shard, progress in self._plans().items():
            if progress != self._progress.get(shard):
                await self._tell_progress(shard, progress)

    async def _tell_progress(self, shard: ShardId, progress: PlanProgress) -> None:
        plan = self._facts.plans.get(shard)
        if plan is None or plan.revision != progress.plan:
            return
        keys = self._placement_keys
        await self._store.transact(
            [ModRevisionIs(keys.plan(shard), plan.revision)],
            [Put(keys.plan_progress(shard), msgspec.json.encode(progress))],
        )
        self._progress[shard] = progress

    def report(self) -> NodeReport:
        """The present report."""
        copying = {
            shard_name(shard): CopyReport(source, done, total)
            for shard, (done, total, source) in self._copies().items()
        }
        read_only = self._host.journal.room.is_full()
        returning = Returning(0, 0.0)
        if read_only:
            returning = returning_space(self._host.index.ledger, *self._waiting())
        damage, succession = self._damage(), self._succession
        return NodeReport(
            node=self._node,
            boot=self._boot,
            led=self._verified(),
            copying=copying,
            damaged_records=damage.left,
            lost_records=damage.lost,
            repaired_records=damage.repaired,
            passed_read_errors=damage.passed,
            void=_names(self._host.void_copies()),
            failed=_names(self._host.failed_copies()),
            read_only=read_only,
            index=succession.state,
            returning_bytes=returning.size,
            returning_s=round(returning.within_s),
            anew_waits_for=succession.anew.waits_for,
            in_place_of=succession.anew.in_place_of,
        )

    def _plans(self) -> dict[ShardId, PlanProgress]:
        """This node's progress of plans: as the one that copies, or as the primary."""
        copies = self._copies()
        said: dict[ShardId, PlanProgress] = {}
        for shard, plan in self._facts.plans.items():
            add, configuration, copy = (
                plan.record.add,
                self._facts.configurations.get(shard),
                copies.get(shard),
            )
            if add is not None and add.node == self._node and copy is not None:
                done, total, _ = copy
                said[shard] = PlanProgress(plan.revision, self._node, "copying", done, total)
            elif configuration is not None and configuration.primary == self._node:
                match next_step(configuration, plan.record):
                    case Refuse(reason=reason):
                        said[shard] = PlanProgress(
                            plan.revision, self._node, "refused", reason=reason
                        )
                    case Wait(reason=reason):
                        said[shard] = PlanProgress(
                            plan.revision, self._node, "waiting", reason=reason
                        )
        self._progress = {shard: each for shard, each in self._progress.items() if shard in said}
        return said


def _names(shards: list[ShardId]) -> tuple[str, ...]:
    return tuple(map(shard_name, sorted(shards)))
