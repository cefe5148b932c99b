"""Disks are lost together with the last full copy of a shard, and an operator makes the best of it.

He asks a coordinator to recover such shards by force (rule R19): an older copy takes the place of
what is gone for good. Some of what he believed to be gone comes back; its copies are void, and he
empties those disks. From the first barrier of a recovered shard on, the histories of its keys begin
anew with what that copy has: see `cuts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.cluster.clients.object_clients import KEYS

from octad.coordinator.recovery.forced_recovery import complete_members
from octad.coordinator.schema.recovery_messages import RecoverRequest
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.store.interface import StoreUnavailable
from octad.sharding.hashing import object_hash, shard_number
from octad.sharding.ids import Epoch, Seq, ShardId, number_of, shard_name
from octad.sharding.map.shard_map import FormerMember, Member, ShardConfiguration
from octad.storage_node.index.index_format import decode_object, object_key
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.shard_log import Entry

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.machine import SimulatedMachine
    from tests.simulation.cluster.machines.node_process import NodeProcess
    from tests.simulation.cluster.world import World

LOOK_S = 0.5
AWAY_S = 3.0


class Operator:
    """See the module. His choices come from a source of their own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = Random(f"operator {world.timeline.seed}")
        self.cuts: dict[bytes, list[tuple[float, str | None]]] = {}
        self.recoveries = self.returned = 0
        self._away: list[SimulatedMachine] = []  # Gone for good with their disks, as he believes.
        self._asks = False
        self._awaited: dict[ShardId, tuple[Epoch, Seq]] = {}  # Recovered, and not served since.

    @property
    def is_at_work(self) -> bool:
        """Whether something that was lost is not made good yet."""
        return bool(self._away or self._awaited)

    # -- what happens to him -----------------------------------------------------------------------

    def lose(self) -> None:
        """Whoever has all of some shard is gone, where older copies of it are left."""
        world = self.world
        if self.is_at_work or not self._is_calm():
            return
        for shard, configuration in world.invariants.configurations.items():
            full = self._with_all_of(configuration)
            if full and configuration.last_full and self._leaves_copies(full):
                hosts = [machine.host for machine in full]
                world.tell(f"{hosts} are lost, with all of shard {number_of(shard)}")
                world.faults["last_copy_lost"] += 1
                for machine in full:
                    self._take_away(machine)
                world.timeline.after(LOOK_S, self._look)
                return

    def _is_calm(self) -> bool:
        """No swap is under way, and the configurations are those that the nodes act by."""
        world = self.world
        replicas = (replica for each in world.processes() for replica in _replicas(each))
        return not (world.store.late or any(replica.swaps.pending for replica in replicas))

    def _with_all_of(self, configuration: ShardConfiguration) -> list[SimulatedMachine]:
        return [
            machine
            for member in complete_members(configuration)
            if (machine := self._disk_of(member)) is not None
        ]

    def _disk_of(self, member: Member | FormerMember) -> SimulatedMachine | None:
        machine = self.world.machine_of(member.node, member.incarnation)
        return None if machine in self._away else machine

    def _leaves_copies(self, gone: list[SimulatedMachine]) -> bool:
        """Whether each shard has a full member, or at least an older copy, that is not gone."""
        for configuration in self.world.invariants.configurations.values():
            former = [
                self._disk_of(each)
                for each in configuration.last_full
                if not configuration.has_given_up(each.node, each.incarnation)
            ]
            have = [*self._with_all_of(configuration), *former]
            if all(machine is None or machine in gone for machine in have):
                return False
        return True

    def _take_away(self, machine: SimulatedMachine) -> None:
        world = self.world
        if machine.process is not None:
            world.kill(machine, power=True)
        self._away.append(machine)
        if self.random.random() < 0.5:
            machine.new_disk()

    # -- what he does ------------------------------------------------------------------------------

    def _look(self) -> None:
        world = self.world
        world.timeline.after(LOOK_S, self._look)
        for machine in self._away:
            if machine.process is not None:  # Whoever starts processes did not know.
                world.kill(machine, power=True)
        orphans = list(self._orphans())
        if orphans and not self._asks and world.coordinator is not None:
            self._asks = True
            asked = self._recover(world.coordinator, orphans[0])
            world.coordinator_loop.spawn(asked, "a recovery by force")
        if not orphans and not self._awaited:
            self._give_back()
            self._empty_a_void_one()

    def _orphans(self) -> Iterator[ShardId]:
        for shard, configuration in self.world.invariants.configurations.items():
            if not self._with_all_of(configuration):
                yield shard

    async def _recover(self, coordinator: Coordinator, shard: ShardId) -> None:
        """Refused as long as the store takes one that is lost for alive."""
        try:
            request = RecoverRequest((shard_name(shard),), dry_run=False)
            answer = await coordinator.recovery.recover(request)
            for refused in answer.refused:
                self.world.tell(f"shard {refused.name} is not recovered: {refused.reason}")
        except StoreUnavailable as error:
            self.world.tell(f"shard {number_of(shard)} is not recovered: {error}")
        finally:
            self._asks = False

    def _give_back(self) -> None:
        """Those whose disks were only believed to be gone are there again, the others empty."""
        for machine in self._away:
            self.returned += bool(machine.node_id)
            self.world.tell(f"{machine.host} comes back")
            delay = self.random.random() * AWAY_S
            self.world.timeline.after(delay, self.world.boot, machine)
        self._away.clear()

    def _empty_a_void_one(self) -> None:
        """As the node's log or `octad doctor` would say. It is a new node then."""
        world = self.world
        for process in world.processes():
            machine = process.machine
            of = machine.node_id, machine.incarnation
            configurations = world.invariants.configurations.values()
            given_up = any(each.has_given_up(*of) for each in configurations)
            void = given_up or any(replica.void for replica in _replicas(process))
            if void and world.may_lose(machine):
                world.kill(machine, power=True)
                world.tell(f"{machine.host} is emptied: its copies are void")
                machine.new_disk()
                world.timeline.after(LOOK_S, world.boot, machine)
                return

    # -- what follows ------------------------------------------------------------------------------

    def on_recovered(
        self, shard: ShardId, before: ShardConfiguration, now: ShardConfiguration
    ) -> None:
        """The transaction has landed."""
        upto = next(each.upto for each in before.last_full if each.node == now.primary)
        self.recoveries += 1
        self._awaited[shard] = now.epoch, upto
        self.world.invariants.forget(shard, upto)

    def on_committed(self, process: NodeProcess, replica: ShardReplica, entry: Entry) -> None:
        """The first barrier after a recovery: from here on its keys are what this node has."""
        world, shard = self.world, replica.shard
        epoch, upto = self._awaited.get(shard, (None, Seq(0)))
        if epoch is None or entry.kind is not RecordKind.BARRIER or entry.epoch <= epoch:
            return
        del self._awaited[shard]
        if entry.seq <= upto:
            world.fail(f"shard {shard} is recovered up to {entry.seq - 1}, not {upto}")
        assert replica.configuration is not None
        assert process.parts is not None
        rows, bucket = (
            PreparedRows(shard, replica.log, process.parts.engine.index),
            world.clients.bucket_id,
        )
        for key in KEYS:
            hash_ = object_hash(bucket, key)
            if shard_number(hash_, replica.configuration.depth) == number_of(shard):
                value = rows.get(object_key(bucket, key))
                stands = None if value is None else decode_object(value).row.etag
                self.cuts.setdefault(key, []).append((world.timeline.time, stands))


def _replicas(process: NodeProcess) -> list[ShardReplica]:
    parts = process.parts
    return [] if parts is None else list(parts.replication.host.replicas.values())
