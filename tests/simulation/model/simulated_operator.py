"""Disks are lost together with the last full copy of a shard, and an operator makes the best of it.

He says that whoever had all of a shard is gone for good, as `octad shards recover` asks (rule R19);
an older copy takes its place, and what only the lost ones had is lost. Some of the lost come back
with their disks: their copies are void, and he empties those disks. From the first barrier of the
recovered shard on, its keys begin anew with what that copy has: see `cuts`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.model.node_disk import key_hash
from tests.simulation.model.simulated_front_doors import KEYS

from octad.coordinator.recovery.forced_recovery import (
    CannotRecover,
    candidates,
    complete_members,
    forced_recovery,
)
from octad.coordinator.schema.records import NodeRecord
from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.map.shard_map import Member, ShardConfiguration
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import DeleteObject, Operation, PutObject
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.shard_log import Entry

if TYPE_CHECKING:
    from tests.simulation.model.simulated_node import Process
    from tests.simulation.model.world import World

LOOK_S = 0.5


class Operator:
    """See the module. Its choices come from a source of their own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = Random(f"operator {world.seed}")
        self.away: set[NodeId] = set()  # Gone for good with their disks, as he believes.
        self.cuts: dict[bytes, list[tuple[float, str | None]]] = {}
        self.recoveries = self.returned = 0
        self._awaited: dict[ShardId, tuple[Epoch, Seq]] = {}  # Recovered, and not served since.
        self._may_wipe: Callable[[NodeId], bool] = lambda _: False

    def start(self, may_wipe: Callable[[NodeId], bool]) -> None:
        """From now on he looks at the cluster every now and then."""
        self._may_wipe = may_wipe
        self.world.after(LOOK_S, self._look)

    # -- what happens to him -------------------------------------------------------------------

    def lose(self) -> bool:
        """The nodes that have all of some shard are gone, where older copies of it are left."""
        world = self.world
        if self.away or world.store.late or not all(map(self._is_sound, world.nodes)):
            return False
        for shard, configuration in world.store.configurations.items():
            full = {member.node for member in complete_members(configuration) if self._has(member)}
            if full and configuration.last_full and self._leaves_copies(full):
                world.tell(f"{sorted(full)} are lost, with all of shard {shard}")
                for node in full:
                    self._take_away(node)
                return True
        return False

    def _is_sound(self, node: NodeId) -> bool:
        world, disk = self.world, self.world.disks[node]
        process = world.running[node]
        swaps = process is not None and any(r.swaps.pending for r in process.replicas.values())
        return disk.damaged is None and not disk.has_flips() and not swaps

    def _has(self, member: Member) -> bool:
        """Whether the disk that the configuration means is where it should be."""
        disk = self.world.disks[member.node]
        return disk.incarnation == member.incarnation and member.node not in self.away

    def _leaves_copies(self, gone: set[NodeId]) -> bool:
        """Whether each shard has a full member, or at least an older copy, that is not gone."""
        here = self._records(lambda node: node not in gone)
        for configuration in self.world.store.configurations.values():
            full = [
                m for m in complete_members(configuration) if m.node not in gone and self._has(m)
            ]
            if not full and not candidates(configuration, here):
                return False
        return True

    def _take_away(self, node: NodeId) -> None:
        world = self.world
        if world.running[node] is not None:
            world.crash(node)
        if self.random.random() < 0.5:
            world.wipe(node)
            world.after(self.random.random() * 3.0, self._start, node)
        else:
            self.away.add(node)

    def _start(self, node: NodeId) -> None:
        if self.world.running[node] is None:
            self.world.boot(node)

    # -- what he does --------------------------------------------------------------------------

    def _look(self) -> None:
        self.world.after(LOOK_S, self._look)
        for shard in list(self.world.store.configurations):
            if self._is_orphan(shard):
                self.recover(shard)
        if self.away and self.random.random() < 0.5:
            self._give_back()
        void = [process.id for process in self.world.processes() if self._has_void_copies(process)]
        if void and not self.away:
            self._empty_one_of(void)

    def _has_void_copies(self, process: Process) -> bool:
        """As `octad doctor`, or the node's log, would say."""
        configurations, incarnation = (
            self.world.store.configurations.values(),
            process.disk.incarnation,
        )
        given_up = any(
            configuration.has_given_up(process.id, incarnation) for configuration in configurations
        )
        return given_up or any(replica.void for replica in process.replicas.values())

    def _empty_one_of(self, nodes: list[NodeId]) -> None:
        """It is a new node then. Not while it has what no one else has."""
        for process in self.world.processes():
            process.disk.flush()  # Nodes do now and then: what was repaired is so for good.
        for node in nodes:
            if self._may_wipe(node):
                self.world.crash(node)
                self.world.wipe(node)
                self.world.boot(node)
                return

    def _is_orphan(self, shard: ShardId) -> bool:
        configuration = self.world.store.configurations[shard]
        return not any(map(self._has, complete_members(configuration)))

    def _records(self, here: Callable[[NodeId], bool]) -> dict[NodeId, NodeRecord]:
        disks = self.world.disks
        return {
            node: NodeRecord(node, disks[node].incarnation, "", "", "", 1.0, "", "")
            for node in self.world.nodes
            if here(node)
        }

    def recover(self, shard: ShardId) -> None:
        """As the coordinator's transaction: the configuration, and the fences of the absent."""
        world, store = self.world, self.world.store
        configuration = store.configurations[shard]
        live = self._records(lambda node: world.running[node] is not None)
        try:
            recovery = forced_recovery(configuration, live)
        except CannotRecover as error:
            world.tell(f"the operator cannot recover shard {shard}: {error}")
            return
        for member in configuration.members:
            if member.node not in live:
                store.fences[member.node] = (-world.next_number(), 0)
        self.recoveries += 1
        world.plans.pop(shard, None)
        for process in world.processes():
            if shard in process.replicas:
                process.replicas[shard].on_plan(None)
        self._forget(shard, recovery.configuration, recovery.chosen.upto)
        world.tell(f"the operator recovers shard {shard} with n{recovery.configuration.primary}")
        store.change(shard, recovery.configuration, forced=True)

    def _forget(self, shard: ShardId, configuration: ShardConfiguration, upto: Seq) -> None:
        """What was committed by the lost ones alone."""
        world = self.world
        for place in [p for p in world.committed if p[0] == shard and p[1] > upto]:
            del world.committed[place]
        known = world.committed_upto.get(shard, Seq(0))
        world.committed_upto[shard] = min(known, upto)
        self._awaited[shard] = (configuration.epoch, upto)

    def _give_back(self) -> None:
        """Those whose disks were only believed to be gone are there again."""
        for node in sorted(self.away):
            self.returned += 1
            self.world.tell(f"n{node} comes back with its disk after all")
            self._start(node)
        self.away.clear()

    # -- what follows --------------------------------------------------------------------------

    def on_committed(self, process: Process, replica: ShardReplica, entry: Entry) -> None:
        """The first barrier after a recovery: from here on its keys are what this node has."""
        awaited = self._awaited.get(replica.shard)
        if awaited is None or entry.kind is not RecordKind.BARRIER or entry.epoch <= awaited[0]:
            return
        del self._awaited[replica.shard]
        world = self.world
        if entry.seq <= awaited[1]:
            world.fail(
                f"shard {replica.shard} is recovered up to {entry.seq - 1}, not {awaited[1]}"
            )
        for key in KEYS:
            if replica.covers(key_hash(key)):
                value = world.clients.standing(process, key)
                for later in replica.log.entries:
                    if later.seq < entry.seq:
                        value = _after(later.operation, key, value)
                self.cuts.setdefault(key, []).append((world.time, value))


def _after(operation: Operation, key: bytes, value: str | None) -> str | None:
    """What `key` is after `operation`."""
    if isinstance(operation, PutObject) and operation.key == key:
        return operation.row.etag
    if isinstance(operation, DeleteObject) and operation.key == key:
        return None
    return value
