"""What must hold at every moment, looked at from outside of all nodes: the truth on their disks,
what each of them commits, who may answer, and what the store says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.records import FormatLevelRecord, StoreKeys
from octad.coordinator.store.keyspace import Change
from octad.sharding.ids import Epoch, Seq, ShardId, number_of
from octad.sharding.map.shard_map import Member, ShardConfiguration, decode_configuration
from octad.storage_node.journal.record_format import FIRST_LOCAL_KIND, RecordKind
from octad.storage_node.journal.several_records import request_ids
from octad.storage_node.operations.registry import kinds_above
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.shard_log import Entry

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.machine import SimulatedMachine
    from tests.simulation.cluster.machines.node_process import NodeProcess
    from tests.simulation.cluster.world import World

LOOK_S = 0.025
DEPTH_MAX = 3  # To which a run splits shards: hashes are told apart by so many bits.

Name = tuple[Epoch, int, tuple[bytes, ...]]  # Of an entry: its epoch, kind, requests.


class Invariants:
    """See the module. What does not hold fails the run at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys = StoreKeys(world.token.cluster)
        self.configurations: dict[ShardId, ShardConfiguration] = {}  # Of the store, now.
        self.changes = self.splits = self.joint_deletions = 0
        self._committed: dict[tuple[ShardId, Seq], Name] = {}
        self._committed_upto: dict[ShardId, Seq] = {}  # By a primary: it may have answered.
        self._epochs: dict[tuple[NodeProcess, ShardId], Epoch] = {}
        self._led: dict[NodeProcess, tuple[int, dict[ShardId, Epoch]]] = {}  # At which tick.
        world.timeline.after(LOOK_S, self._look)

    def watch(self, process: NodeProcess) -> None:
        """See what its journal is given and what it commits, from its start on."""
        assert process.parts is not None
        machine, journal = process.machine, process.parts.engine.journal
        host = process.parts.replication.host
        append, plan = journal.append, host.applier.plan
        too_new = kinds_above(process.format_level)

        def append_seen(kind: Any, shard: ShardId, epoch: Epoch, seq: Seq, *rest: Any) -> Any:
            if kind in too_new:
                self.fail(f"{process} is given {kind!r}, which its version cannot read")
            appended = append(kind, shard, epoch, seq, *rest)
            if kind < FIRST_LOCAL_KIND:  # Else a row that was copied, or moved.
                machine.entries[shard, seq] = epoch, appended.location
            return appended

        def plan_seen(replica: ShardReplica, entries: tuple[Entry, ...]) -> None:
            self._check_committed(process, replica, entries)
            plan(replica, entries)

        journal.append = append_seen  # type: ignore[method-assign, assignment]
        host.applier.plan = plan_seen  # type: ignore[method-assign]

    # -- what is committed -------------------------------------------------------------------------

    def _check_committed(
        self, process: NodeProcess, replica: ShardReplica, entries: tuple[Entry, ...]
    ) -> None:
        """Equal committed prefixes, durable on every member; epochs of a process only grow."""
        shard, configuration = replica.shard, replica.configuration
        stored = self.configurations.get(shard)
        replays = not (process.is_serving or replica.leading)
        if stored is not None and stored.recovered and replays:
            return  # What an operator may have given up meanwhile.
        for entry in entries:
            ids = request_ids(entry.operation, entry.request_id)
            name = entry.epoch, int(entry.kind), ids
            if not self.world.operator.recoveries:  # Which may give up that it was refused.
                self.world.clients.check_not_refused(entry.kind, ids)
            known = self._committed.setdefault((shard, entry.seq), name)
            if known != name:
                self.fail(f"{process} commits {name} as {entry.seq} of {shard}, not {known}")
            if replica.leading:
                self.joint_deletions += entry.kind is RecordKind.DELETE_OBJECTS
                upto = self._committed_upto.get(shard, Seq(0))
                self._committed_upto[shard] = max(upto, entry.seq)
                self._check_durable(process, replica, entry)
                self.world.operator.on_committed(process, replica, entry)
        if configuration is not None:
            epoch = self._epochs.get((process, shard), Epoch(0))
            if configuration.epoch < epoch:
                self.fail(f"{process} went back to epoch {configuration.epoch} of {shard}")
            self._epochs[process, shard] = configuration.epoch

    def _check_durable(self, process: NodeProcess, replica: ShardReplica, entry: Entry) -> None:
        """What is committed, or acknowledged, is on the disk of every member that is left."""
        shard, stored = replica.shard, self.configurations.get(replica.shard)
        if stored is not None and stored.recovered and replica.epoch < stored.epoch:
            return  # By acknowledgements of before: what they were of may be given up meanwhile.
        members: dict[Member, None] = {}
        for configuration in (replica.configuration, stored):
            members |= dict.fromkeys(() if configuration is None else configuration.members)
        for member in members:
            machine = self.world.machine_of(member.node, member.incarnation)
            if machine is None or member.base > entry.seq:
                continue
            if not holds(machine, shard, entry.epoch, entry.seq):
                self.fail(
                    f"{entry.seq} of {shard} is committed by {process}, and {machine.host} may"
                    " lose it"
                )

    def forget(self, shard: ShardId, upto: Seq) -> None:
        """What was committed behind `upto` is given up."""
        for place in [each for each in self._committed if each[0] == shard and each[1] > upto]:
            del self._committed[place]
        self._committed_upto[shard] = min(upto, self._committed_upto.get(shard, Seq(0)))

    # -- who may answer ----------------------------------------------------------------------------

    def _look(self) -> None:
        """At most one primary of any key may answer at any moment, whatever its shard is."""
        world = self.world
        world.timeline.after(LOOK_S, self._look)
        leading: dict[int, list[tuple[NodeProcess, ShardReplica]]] = {}
        for process in world.processes():
            self._check_memory(process)
            for replica in self._led_by(process):
                assert replica.configuration is not None
                step = 1 << replica.configuration.depth
                for hash_ in range(number_of(replica.shard), 1 << DEPTH_MAX, step):
                    leading.setdefault(hash_, []).append((process, replica))
        for hash_, several in leading.items():
            if len(several) > 1:
                names = [
                    f"{process} in shard {number_of(replica.shard)}"
                    for process, replica in several
                    if replica.serves() and replica.has_lease(process.loop.time())
                ]
                if len(names) > 1:
                    self.fail(f"{names} all have a valid primary lease of hash {hash_}")

    def _check_memory(self, process: NodeProcess) -> None:
        """Bytes in flight are within their budget: no body of the clients is larger."""
        if process.parts is not None:
            budget = process.parts.objects.budget
            for share in (budget.small.share, budget.large.share):
                if share.used > share.bytes_max:
                    self.fail(f"{process} holds {share.used} bytes of bodies")

    def _led_by(self, process: NodeProcess) -> list[ShardReplica]:
        """What a node says of all the shards that it leads at once is so of each (rule R3)."""
        if process.parts is None:
            return []
        host, now = process.parts.replication.host, process.loop.time()
        led = [each for each in host.replicas.values() if each.leading and each.configuration]
        epochs = {replica.shard: replica.epoch for replica in led}
        tick, known = self._led.get(process, (host.leases.tick, epochs))
        if tick == host.leases.tick and known != epochs:
            self.fail(f"{process} leads {epochs}, and has not noticed that it was {known}")
        self._led[process] = host.leases.tick, epochs
        if host.holds_all(now):
            for replica in led:
                past_barrier = replica.log.commit >= replica.primary.barrier
                if past_barrier and replica.begin_list(replica.epoch, now) is None:
                    self.fail(f"{process} lists shard {replica.shard} only with all the others")
        return led

    # -- what the store says -----------------------------------------------------------------------

    def on_change(self, change: Change) -> None:
        """A transaction has changed the store."""
        for event in change.events:
            if event.key == self.keys.format_level and event.entry is not None:
                self._on_level(decode_record(event.entry, FormatLevelRecord).level)
            if event.key.startswith(self.keys.shards) and event.entry is not None:
                shard = self.keys.shard_of_key(event.key)
                self._on_configuration(shard, decode_configuration(event.entry.value))

    def _on_level(self, level: int) -> None:
        for process in self.world.processes():
            if process.node is not None and process.format_level < level:
                self.fail(f"format level {level} is in use, and {process} does not know it")

    def _on_configuration(self, shard: ShardId, configuration: ShardConfiguration) -> None:
        before = self.configurations.get(shard)
        self.configurations[shard] = configuration
        self.world.tell(f"store: shard {number_of(shard)} {shown(configuration)}")
        self.changes += 1
        if before is None:
            self.splits += len(configuration.split_points()) > 0
            return
        if configuration.epoch <= before.epoch:
            self.fail(f"shard {shard} goes from epoch {before.epoch} to {configuration.epoch}")
        if len(configuration.recovered) > len(before.recovered):
            self.world.operator.on_recovered(shard, before, configuration)
            return
        for member in configuration.members:
            self._check_promoted(shard, before.member(member.node), member)

    def _check_promoted(self, shard: ShardId, before: Member | None, member: Member) -> None:
        """Whoever becomes a full member has all of history on its disk, a recruit all to come."""
        known = before if before is not None and before.incarnation == member.incarnation else None
        upto = self._committed_upto.get(shard, 0)
        if known is None and 0 < member.base <= upto:
            self.fail(
                f"n{member.node} is to have everything of {shard} from {member.base} on, and {upto}"
                " is committed without it"
            )
        if member.base or (known is not None and known.base == 0):
            return
        machine = self.world.machine_of(member.node, member.incarnation)
        if machine is not None and not has_history(machine, shard):
            self.fail(f"n{member.node} is a full member of {shard} and lacks history")

    def fail(self, what: str) -> None:
        self.world.fail(what)


def has_history(machine: SimulatedMachine, shard: ShardId) -> bool:
    """Whether everything from the shard's beginning on survives anything.

    What its index says of an older log than its node has now counts for nothing; of a node that
    has just ended the index alone is asked.
    """
    state, copy = machine.flushed_state(shard), machine.flushed_copy(shard)
    begins = _log_begins(machine, shard)
    if begins is None:
        begins = Seq(0) if state is None else state.start
    elif begins == 0:
        return True  # All of it is in the journal.
    if copy is not None and copy.start >= begins:
        return True
    return state is not None and state.start >= begins and state.complete_to is None


def _log_begins(machine: SimulatedMachine, shard: ShardId) -> Seq | None:
    """In the node that runs there."""
    process = machine.process
    if process is None or process.parts is None:
        return None
    replica = process.parts.replication.host.replicas.get(shard)
    return None if replica is None else replica.log.start


def holds(machine: SimulatedMachine, shard: ShardId, epoch: Epoch, seq: Seq) -> bool:
    """Whether the entry survives anything, in the index or in the journal."""
    state = machine.flushed_state(shard)
    if state is not None:
        complete = state.complete_to is None or seq > state.start
        if state.applied >= seq and complete:
            return True
    copy = machine.flushed_copy(shard)
    if copy is not None and copy.as_of >= seq:
        return True
    known = machine.entries.get((shard, seq))
    return known is not None and known[0] == epoch and machine.is_durable(known[1])


def shown(configuration: ShardConfiguration) -> str:
    """A configuration in a line of the story."""
    members = ",".join(
        f"n{member.node}" + (f"+{member.base}" if member.base else "")
        for member in configuration.members
    )
    learners = ",".join(f"n{learner.node}" for learner in configuration.learners)
    former = ",".join(f"n{former.node}≤{former.upto}" for former in configuration.last_full)
    leader = f"e{configuration.epoch} d{configuration.depth} primary n{configuration.primary}"
    return f"{leader} [{members}] learners [{learners}] former [{former}]"
