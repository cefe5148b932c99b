"""All of a node's shard replicas: what happens to them, and what clients ask of them.

It decides nothing itself: `action_performer.py` performs what the replicas decide. What happens
comes from the other nodes by `replication_receiver.py` and `node_beats.py`, from the configuration
store by `configuration_changes.py`, from those who copy old rows by `history_copier.py`, and from
the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVarTuple

from octad.client.runtime.steady_clock import now
from octad.sharding import limits
from octad.sharding.hashing import shard_number
from octad.sharding.ids import Epoch, NodeId, Seq, ShardId, node_name, pool_of, shard_id, shard_name
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import hash_of_row
from octad.storage_node.journal.disk_reserve import FREEING_KINDS
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import JournalFailed, JournalFull
from octad.storage_node.journal.record_format import Position, RecordKind
from octad.storage_node.journal.several_records import Several
from octad.storage_node.operations.conditions import Version
from octad.storage_node.operations.index_changes import hashes_of
from octad.storage_node.operations.registry import kinds_above
from octad.storage_node.replication.host.action_performer import ActionPerformer
from octad.storage_node.replication.host.index_applier import (
    WriteFailed,
    keep_state,
)
from octad.storage_node.replication.host.index_catch_up import CatchUp
from octad.storage_node.replication.host.node_beats import NodeBeats
from octad.storage_node.replication.host.replica_recovery import recover_states, replay
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.host.replication_receiver import ReplicationReceiver
from octad.storage_node.replication.host.replication_sender import Outbox
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import (
    Action,
    AlreadyOrdered,
    AlreadyRefused,
    NotPrimary,
    NotServing,
    Swap,
)
from octad.storage_node.replication.replica_state import ReadTicket
from octad.storage_node.replication.shard_log import Entry
from octad.storage_node.replication.shard_ports import Configurations, Histories
from octad.storage_node.replication.writes import Write
from octad.storage_node.rpc.messages import Message

log = logging.getLogger(__name__)

Event = TypeVarTuple("Event")


class ShardHost:
    """See the module. Make it inside the running loop; `recover`, then feed it."""

    def __init__(
        self,
        table: ReplicaTable,
        journal: Journal,
        index: CountedIndex,
        outbox: Outbox,
        configurations: Configurations,
        histories: Histories,
        on_failed: Callable[[Exception], None],
    ) -> None:
        self.node = table.node
        self.replicas = table.replicas
        self.leases = table.leases
        self.journal = journal
        self.index = index
        self._table = table
        self._histories = histories
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._beats = NodeBeats(self.leases, outbox, self._loop, journal.room.is_full)
        self.full_disks = self._beats.disks
        self._performer = ActionPerformer(
            table, journal, index, outbox, self._beats, configurations, histories, self, on_failed
        )
        self.applier = self._performer.applier
        self._perform = self._performer.perform
        self._logs = self._performer.logs
        self._request_ids = self._performer.request_ids
        self._inbox = ReplicationReceiver(table, journal, self._beats, self._tell)
        self._sweep: asyncio.TimerHandle | None = None
        self._beating: asyncio.TimerHandle | None = None
        self.level = 1  # The format level in use: see `use_level`.
        # Kinds of records that may not be ordered yet.
        self.kinds_too_new = kinds_above(self.level)

    # -- life ----------------------------------------------------------------------------------

    def recover(self) -> list[ShardId]:
        """Read the shards' states from the index, replay, start the journal and the clock.

        Returns the shards that turned out to have all of history: a copy had just been finished.
        """
        performer = self._performer
        complete = recover_states(self._table, self.index, self._request_ids, now())
        replay(self._table, self.journal, self.index, self._request_ids, self._replay, now())
        replicas = list(self.replicas.values())
        performer.recovered(replicas)
        self.journal.start(self.on_durable, performer.cannot_go_on)
        for replica in replicas:
            self._perform(replica, replica.recovered())
        self.applier.apply_all()
        complete += performer.end_recovery()
        self._sweep_overdue()
        self._tick()
        return complete

    def _replay(self, replica: ShardReplica, actions: list[Action]) -> None:
        """Perform what follows from one record before the next is read."""
        self._perform(replica, actions)
        self.applier.apply_all()

    def before_flush(self) -> None:
        """The index is about to be flushed."""
        self._performer.before_flush()

    def close(self) -> None:
        """Fail what waits; nothing is performed any more."""
        for timer in (self._sweep, self._beating):
            if timer is not None:
                timer.cancel()
        self._performer.close()

    # -- the configuration store ---------------------------------------------------------------

    def on_configuration(self, shard: ShardId, configuration: ShardConfiguration) -> None:
        """The configuration store has this configuration."""
        replica = self._table.concerned(shard, configuration)
        if replica is None:
            return
        self._table.tell_facts(replica, configuration)
        was_void = replica.void
        self._tell(replica, replica.on_configuration, configuration, now())
        if replica.void and not was_void:
            recovery = configuration.recovered[-1]
            log.warning(
                "shard %s was recovered with %s, complete up to seq %d, without this node: what is"
                " here up to seq %d is void; octad doctor says how this node gets the shard back",
                *(shard_name(shard), node_name(recovery.node), recovery.upto, replica.log.commit),
            )
        for half, held in self._table.released():
            self.on_configuration(half, held)

    def on_swap_outcome(
        self, shard: ShardId, swap: Swap, configuration: ShardConfiguration
    ) -> None:
        """What the store holds, now that `swap` has happened or can never happen."""
        self.applier.apply_all()  # What the shard applies from now on comes after it.
        replica = self._table.replica(shard)
        self._table.tell_facts(replica, configuration)
        self._tell(replica, replica.on_swap_outcome, swap, configuration, now())

    def on_plan(self, shard: ShardId) -> None:
        """The plan of `shard` has changed: its primary need not wait for the next beat."""
        replica = self.replicas.get(shard)
        if replica is not None and replica.configuration is not None:
            self._table.tell_facts(replica, replica.configuration)
            self._tell(replica, replica.on_timer, now())

    # -- time ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Four times a second: what silence means for the shards, then the beats."""
        self._beating = self._loop.call_later(limits.BEAT_S, self._tick)
        self.look_around()
        self._beats.send()

    def look_around(self) -> None:
        """Time has passed, or a node is known to be dead: what follows for each shard."""
        moment = now()
        for replica in list(self.replicas.values()):
            self._tell(replica, replica.on_timer, moment)

    def _tell(
        self, replica: ShardReplica, event: Callable[[*Event], list[Action]], *what: *Event
    ) -> None:
        """Something has happened to `replica`: perform what follows. A bug in it is its own."""
        if replica.place.failed:
            return
        try:
            actions = event(*what)
            if actions:
                self._perform(replica, actions)
        except Exception:
            self._fail_replica(replica)

    def _fail_replica(self, replica: ShardReplica) -> None:
        """One replica hit a bug; the beats, and so all other shards, go on without it.

        What it decided may have been done in part: its log may be ahead of the journal.
        """
        name = shard_name(replica.shard)
        log.exception("shard %s hit a bug: this node takes no part in it until it restarts", name)
        try:
            self._histories.cancel(replica.shard)
            self._perform(replica, replica.fail())
        except Exception as error:
            self._on_failed(error)

    def go_on_with(self, successor: CatchUp) -> bool:
        """Use the index made in a damaged one's place, once it shows all that is applied.

        False: not yet, let it catch up once more.
        """
        self.applier.apply_all()
        place = self._logs.replay_from()
        if not successor.complete(self.replicas.values(), place):
            return False
        self.index.succeed(successor.index)
        self._request_ids.begin_anew(
            (shard, each.log.requests.pairs()) for shard, each in self.replicas.items()
        )
        self._table.rowless = False
        for replica in list(self.replicas.values()):
            self._tell(replica, replica.regain_rows)
        return True

    def lose_rows(self) -> None:
        """The index is damaged. The journal is not, so entries are acknowledged as before."""
        self._table.rowless = True
        for replica in list(self.replicas.values()):
            self._histories.cancel(replica.shard)
            self._tell(replica, replica.lose_rows)
        self.look_around()

    def _sweep_overdue(self) -> None:
        self._sweep = self._loop.call_later(limits.WRITE_TIMEOUT_SWEEP_S, self._sweep_overdue)
        self.applier.fail_overdue()
        self._inbox.ask_for_what_was_dropped()

    # -- other nodes ---------------------------------------------------------------------------

    def on_connected(self, node: NodeId) -> None:
        """Messages to and from `node` travel again."""
        for replica in list(self.replicas.values()):
            self._tell(replica, replica.on_connected, node)

    def on_message(self, sender: NodeId, message: Message, body: memoryview) -> None:
        """A one-way message of another node."""
        self._inbox.on_message(sender, message, body)

    # -- the disk ------------------------------------------------------------------------------

    def on_durable(self, lsn: Position) -> None:
        """The journal has synced every record up to `lsn`."""
        for replica, entry in self._logs.durable(lsn):
            self._tell(replica, replica.on_durable, entry)

    def wants_copy(self, shard: ShardId, start: Seq) -> bool:
        """Whether history up to `start` is still missing here."""
        replica = self.replicas.get(shard)
        return replica is not None and replica.wants_copy(start)

    def on_copied(
        self, shard: ShardId, start: Seq, as_of: Seq, request_ids: list[tuple[bytes, Seq]]
    ) -> None:
        """History up to `as_of` is durable here."""
        replica = self._table.replica(shard)
        self._request_ids.note_copied(shard, request_ids)
        actions = replica.on_copied(start, as_of, request_ids, now())
        keep_state(self.index, replica)
        if replica.complete_to is None:
            self._performer.on_complete(shard, replica.log.applied)
        self._perform(replica, actions)

    def use_level(self, level: int) -> None:
        """Every node of the cluster knows this format level, for good: its kinds may be ordered."""
        self.level = max(self.level, level)
        self.kinds_too_new = kinds_above(self.level)

    # -- clients -------------------------------------------------------------------------------

    def propose(self, shard: ShardId, write: Write) -> asyncio.Future[Version]:
        """Order a write; the future ends when it is committed and in the index: as that version.

        Raises at once, having done nothing: GuardRefuses or AlreadyRefused; JournalFull; or
        WriteFailed if this node does not serve the shard, or began to after this try was sent. The
        future raises WriteFailed if the outcome is not known in time, AlreadyRefused if it is a
        refusal. A request that was ordered before is not ordered again (rule R16). Nothing is
        awaited between the guard's read of the rows and the order (rule R21).
        """
        replica = self.replicas.get(shard)
        configuration = None if replica is None else replica.place.configuration
        if replica is None or configuration is None:
            raise WriteFailed(f"shard {shard_name(shard)} is not known here")
        try:
            if write.guard is not None:
                known = RecordKind.REFUSED not in self.kinds_too_new
                write = replica.decide(write, self.index, now(), may_write_refusals=known)
            self._require_known(replica, write)
            if self.full_disks.now and write.kind not in FREEING_KINDS:
                self._require_room(configuration)
            self.journal.make_room(len(write.metadata), len(write.data), write.kind)
            entry, actions = replica.propose(write)
        except (NotPrimary, NotServing, JournalFailed) as error:
            raise WriteFailed(str(error)) from error
        except AlreadyOrdered as known:
            return self._outcome_of(known)
        future = self.applier.wait_for(entry)
        try:
            self._perform(replica, actions)
        except Exception:
            self._fail_replica(replica)  # The future ends with it.
        return future

    def _require_known(self, replica: ShardReplica, write: Write) -> None:
        """Raises WriteFailed where not all may read the entry, or its shard may not have it."""
        if write.kind in self.kinds_too_new:
            raise WriteFailed(f"not every node of the cluster knows {write.kind.name} records yet")
        several = write.operation
        if not isinstance(several, Several):
            return
        if any(each.kind in self.kinds_too_new for each in several.records):
            raise WriteFailed("not every node of the cluster knows what is inside this entry yet")
        if not all(map(replica.covers, hashes_of(several))):  # Rule R18.
            name = shard_name(replica.shard)
            raise WriteFailed(f"shard {name} does not have all of these rows any more")

    def _require_room(self, configuration: ShardConfiguration) -> None:
        """Raises JournalFull. What a member has no room for would hold up the shard."""
        full = self.full_disks.first_of(member.node for member in configuration.members)
        if full is not None:
            raise JournalFull(f"the disk of {node_name(full)} is full: only deletes are taken")

    def made_before(
        self, shard: ShardId, request_id: bytes, age_s: float
    ) -> asyncio.Future[Version] | None:
        """The outcome of a request first made `age_s` ago; None: it was not ordered (rule R16).

        Raises WriteFailed when this node does not serve the shard, or OutcomeUnknown.
        """
        replica = self.replicas.get(shard)
        if replica is None:
            raise WriteFailed(f"shard {shard_name(shard)} is not known here")
        try:
            replica.check_retry(request_id, age_s, now())
        except (NotPrimary, NotServing) as error:
            raise WriteFailed(str(error)) from error
        except AlreadyOrdered as known:
            return self._outcome_of(known)
        return None

    def _outcome_of(self, known: AlreadyOrdered) -> asyncio.Future[Version]:
        """An applied entry's epoch is not remembered: it is returned as 0."""
        if known.entry is not None:
            return self.applier.wait_for(known.entry)
        done: asyncio.Future[Version] = self._loop.create_future()
        if known.refusal:
            done.set_exception(AlreadyRefused(known.refusal))
        else:
            done.set_result((Epoch(0), known.seq))
        return done

    def reason_of(self, shard: ShardId, ticket: ReadTicket) -> asyncio.Future[Version] | None:
        """Ends when all that a refusal saw is committed; None: it is."""
        log, newest = self.replicas[shard].log, ticket.wait_for
        return self.applier.wait_for(log.at(newest)) if newest > log.commit else None

    def refuse(self, shard: ShardId, request_id: bytes, ticket: ReadTicket, code: int) -> bool:
        """Whether a refusal may be sent now; if so, this process executes no try of the request."""
        return self.replicas[shard].refuse_request(request_id, ticket, code, now())

    def serves(self, shard: ShardId) -> bool:
        """Whether this node is the shard's primary, past its barrier and under its lease (R3)."""
        replica = self.replicas.get(shard)
        return replica is not None and replica.serves() and replica.has_lease(now())

    def covers(self, shard: ShardId, hash_: int) -> bool:
        """Whether a key of this hash is in `shard`, as far as this node knows it (rule R18)."""
        replica = self.replicas.get(shard)
        return replica is not None and replica.covers(hash_)

    def begin_read(self, shard: ShardId, index_key: bytes) -> ReadTicket | None:
        """Before the index is read (rule R3); None: ask the primary."""
        replica = self.replicas.get(shard)
        return None if replica is None else replica.begin_read(index_key, now())

    def read_holds(self, shard: ShardId, ticket: ReadTicket) -> bool:
        """After it was read, before it is answered."""
        return self.replicas[shard].read_holds(ticket, now())

    def holds_all(self, moment: float) -> bool:
        """Whether this node has a lease of every shard that it leads, and can read its rows.

        False only means that each shard must be checked by itself.
        """
        return not self._table.rowless and self.leases.holds_all(moment)

    def is_dirty(self, shard: ShardId, index_key: bytes) -> bool:
        """Whether an entry that changes the row `index_key` is prepared and not applied.

        `shard` is where the row's record was ordered: it may have been split since.
        """
        pool, hash_ = pool_of(shard), hash_of_row(index_key)
        for depth in range(limits.SHARD_DEPTH_MAX + 1):
            replica = self.replicas.get(shard_id(pool, shard_number(hash_, depth)))
            if replica is not None and replica.log.changes_row(index_key):
                return True
        return False

    def settled(self, shard: ShardId, index_key: bytes) -> bool:
        """Whether this node serves the shard and nothing prepared touches `index_key`."""
        return self.serves(shard) and index_key not in self.replicas[shard].log.dirty

    def newest(self, shard: ShardId, index_key: bytes) -> Entry | None:
        """The last entry of `shard` that touches `index_key` and is not applied here, if any."""
        replica = self.replicas.get(shard)
        return None if replica is None else replica.log.newest(index_key)

    def copies_heard(self) -> list[tuple[ShardId, Epoch, list[NodeId]]]:
        """Of every shard that this node leads: who has a copy of it, and was heard just now."""
        moment = now()
        return [
            (shard, replica.epoch, replica.copies_heard(moment))
            for shard, replica in self.replicas.items()
            if replica.leading
        ]

    def void_copies(self) -> list[ShardId]:
        """Shards that were recovered by force without what is here (rule R19)."""
        return [shard for shard, replica in self.replicas.items() if replica.void]

    def failed_copies(self) -> list[ShardId]:
        """Shards whose replica here hit a bug."""
        return [shard for shard, replica in self.replicas.items() if replica.failed]
