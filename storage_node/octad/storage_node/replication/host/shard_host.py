"""All of a node's shard replicas: what happens to them, and what they want done.

It performs what the replicas decide and decides nothing itself. `log_writer.py` has the way to
the journal, `index_applier.py` that to the index and back to those who wait, `replication_mail.py`
and `replica_inbox.py` those to the other nodes and from them, `node_beats.py` the beats,
`row_changes.py` the way to the configuration store, `history_copier.py` that of old rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVarTuple

from octad.sharding import limits
from octad.sharding.ids import Epoch, NodeId, Seq, ShardId, node_name, shard_name
from octad.sharding.map.shard_map import ShardRow
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexFailed
from octad.storage_node.index.operations import Operation
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import JournalFull
from octad.storage_node.journal.record_format import FREEING_KINDS, Position, RecordKind
from octad.storage_node.replication.host.index_applier import IndexApplier, WriteFailed, state_entry
from octad.storage_node.replication.host.index_catch_up import CatchUp
from octad.storage_node.replication.host.log_writer import LogWriter
from octad.storage_node.replication.host.node_beats import NodeBeats, now
from octad.storage_node.replication.host.replica_inbox import ReplicaInbox
from octad.storage_node.replication.host.replica_recovery import recover_states, replay
from octad.storage_node.replication.host.replica_table import ClusterFacts, ReplicaTable
from octad.storage_node.replication.host.replication_mail import Outbox, ReplicationMail
from octad.storage_node.replication.host.request_ids import RequestIds
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica_actions import (
    Abandon,
    Action,
    AlreadyOrdered,
    Append,
    Apply,
    Copy,
    FlushIndex,
    NotPrimary,
    NotServing,
    Propose,
    Refetch,
    SendAck,
    SendCommit,
    SendJoin,
    SendNack,
    SendPrepare,
    SendSession,
    SplitLog,
    StartLog,
    Swap,
)
from octad.storage_node.replication.replica_state import ReadTicket
from octad.storage_node.replication.shard_log import Entry
from octad.storage_node.replication.shard_primary import ANY_EPOCH
from octad.storage_node.replication.shard_replica import ShardReplica
from octad.storage_node.rpc.messages import Message

log = logging.getLogger(__name__)


Event = TypeVarTuple("Event")
BeginCopy: TypeAlias = Callable[[ShardReplica, Seq, tuple[NodeId, ...]], None]


class ShardHost:
    """See the module. Make it inside the running loop; `recover`, then feed it."""

    def __init__(
        self,
        node: NodeId,
        incarnation: str,
        journal: Journal,
        index: CountedIndex,
        outbox: Outbox,
        boot: int,
        facts: ClusterFacts,
        begin_copy: BeginCopy,
        end_copy: Callable[[ShardId], None],
        on_whole: Callable[[ShardId, Seq], None],
        on_swap: Callable[[ShardId, Swap], None],
        on_refetch: Callable[[ShardId], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.journal = journal
        self.index = index
        self.outbox = outbox
        self.leases = PairLeases(node, boot, now())
        self.leases.dead = facts.dead
        self._table = ReplicaTable(node, incarnation, self.leases, facts, on_refetch)
        self.replicas = self._table.replicas
        self._begin_copy = begin_copy
        self._end_copy = end_copy
        self._on_whole = on_whole
        self._on_swap = on_swap
        self._on_refetch = on_refetch
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._beats = NodeBeats(self.leases, outbox, self._loop, journal.room.is_full)
        self.full_disks = self._beats.disks
        self._logs = LogWriter(journal)
        self._mail = mail = ReplicationMail(outbox, self._loop, self._logs.data_of)
        self._request_ids = RequestIds(index)
        self.applier = IndexApplier(
            index,
            self._logs.replay_from,
            self._request_ids,
            self._perform,
            self._make_half,
            self._whole,
            self._index_failed,
            now,
        )
        self._inbox = ReplicaInbox(self._table, journal, self._beats, self._tell)
        performers: list[tuple[type[Action], Callable[[ShardReplica, Any], None]]] = [
            (Append, self._logs.append),
            (Apply, self._apply),
            (SendPrepare, mail.prepare),
            (SendAck, mail.ack),
            (SendCommit, mail.commit_point),
            (SendNack, mail.nack),
            (SendJoin, mail.join),
            (SendSession, mail.session),
        ]
        self._performers = defaultdict(lambda: self._perform_rare, performers)
        self._sweep: asyncio.TimerHandle | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._recovering = True
        self._became_whole: list[ShardId] = []  # During the recovery.

    # -- life ----------------------------------------------------------------------------------

    def recover(self) -> list[ShardId]:
        """Read the shards' states from the index, replay, start the journal and the clock.

        Gives the shards that turned out to have all of history: a copy had just been finished.
        """
        self._became_whole = recover_states(self._table, self.index, self._request_ids, now())
        replay(self._table, self.journal, self.index, self._request_ids, self._replay, now())
        replicas = list(self.replicas.values())
        self._logs.recovered([entry for each in replicas for entry in each.log.entries])
        self.applier.recovered()
        self.journal.start(self.on_durable, self._on_failed)
        for replica in replicas:
            self._perform(replica, replica.recovered())
        self.applier.apply_all()
        self._recovering = False
        self._sweep_overdue()
        self._tick()
        return self._became_whole

    def _whole(self, shard: ShardId, applied: Seq) -> None:
        """Its replica has all of history now. Nobody copies yet while the node recovers."""
        if self._recovering:
            self._became_whole.append(shard)
        else:
            self._on_whole(shard, applied)

    def _replay(self, replica: ShardReplica, actions: list[Action]) -> None:
        """Before the next record is looked at."""
        self._perform(replica, actions)
        self.applier.apply_all()

    def before_flush(self) -> None:
        """The index is about to be flushed."""
        self._request_ids.save(self._logs.replay_from())

    def close(self) -> None:
        """Fail what waits; nothing is performed any more."""
        for timer in (self._sweep, self._beating):
            if timer is not None:
                timer.cancel()
        self.applier.close()
        self._mail.close()
        if not self._recovering and self.index.failure is None:
            # Else how far the rows go is not known.
            self.before_flush()

    # -- the configuration store ---------------------------------------------------------------

    def on_row(self, shard: ShardId, row: ShardRow) -> None:
        """The configuration store has this row."""
        replica = self._table.concerned(shard, row)
        if replica is None:
            return
        self._table.tell_facts(replica, row)
        was_void = replica.void
        self._tell(replica, replica.on_row, row, now())
        if replica.void and not was_void:
            recovery = row.recovered[-1]
            log.warning(
                "shard %s was recovered with %s, complete up to seq %d, without this node: what is"
                " here up to seq %d is void; octad doctor tells how it takes the shard again",
                *(shard_name(shard), node_name(recovery.node), recovery.upto, replica.log.commit),
            )
        for half, held in self._table.released():
            self.on_row(half, held)

    def on_swap_outcome(self, shard: ShardId, swap: Swap, row: ShardRow) -> None:
        """What the store holds, now that `swap` has happened or can never happen."""
        self.applier.apply_all()  # What the shard applies from now on comes after it.
        replica = self._table.replica(shard)
        self._table.tell_facts(replica, row)
        self._tell(replica, replica.on_swap_outcome, swap, row, now())

    def on_plan(self, shard: ShardId) -> None:
        """The plan of `shard` has changed: its primary need not wait for the next beat."""
        replica = self.replicas.get(shard)
        if replica is not None and replica.row is not None:
            self._table.tell_facts(replica, replica.row)
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
        if replica.failed:
            return
        try:
            actions = event(*what)
            if actions:
                self._perform(replica, actions)
        except Exception:
            self._fail_replica(replica)

    def _fail_replica(self, replica: ShardReplica) -> None:
        """One replica met a bug: the beats, and with them all other shards, must not.

        What it decided may have been done in part: its log may be ahead of the journal.
        """
        name = shard_name(replica.shard)
        log.exception("shard %s met a bug: this node takes no part in it until it restarts", name)
        try:
            self._end_copy(replica.shard)
            self._perform(replica, replica.fail())
        except Exception as error:
            self._on_failed(error)

    def _index_failed(self, error: Exception) -> None:
        """Its rows are older than the replicas believe: nobody reads them here any more."""
        for replica in self.replicas.values():
            if not replica.failed:
                self._perform(replica, replica.fail())
        self._on_failed(error)

    def go_on_with(self, successor: CatchUp) -> bool:
        """Take what was made of a damaged index, once it shows all that the replicas have applied.

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
            self._end_copy(replica.shard)
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
        self.keep_state(replica)
        if replica.whole is None:
            self._whole(shard, replica.log.applied)
        self._perform(replica, actions)

    def keep_state(self, replica: ShardReplica) -> None:
        """Write how far the rows of a shard go, and what they amount to."""
        self.index.write([state_entry(replica, self.index.digests)])

    # -- clients -------------------------------------------------------------------------------

    def propose(
        self,
        shard: ShardId,
        kind: RecordKind,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
        operation: Operation,
        asked_in: Epoch = ANY_EPOCH,
    ) -> asyncio.Future[None]:
        """Order a write; the future ends when it is committed and in the index.

        Raises at once, and nothing has happened: JournalFull, or WriteFailed when this node is not
        serving the shard, or began to after `asked_in`; or AlreadyRefused. The future raises
        WriteFailed when that cannot be said in time. A request that was ordered before is not
        ordered again (rule R16).
        """
        replica = self.replicas.get(shard)
        if replica is None or replica.row is None:
            raise WriteFailed(f"shard {shard_name(shard)} is not known here")
        if self.full_disks.now and kind not in FREEING_KINDS:
            self._require_room(replica.row)
        self.journal.make_room(len(metadata), len(data), kind)
        try:
            entry, actions = replica.propose(kind, request_id, metadata, data, operation, asked_in)
        except (NotPrimary, NotServing) as error:
            raise WriteFailed(str(error)) from error
        except AlreadyOrdered as known:
            return self._outcome_of(known.entry)
        future = self.applier.wait_for(entry)
        try:
            self._perform(replica, actions)
        except Exception:
            self._fail_replica(replica)  # The future ends with it.
        return future

    def _require_room(self, row: ShardRow) -> None:
        """Raises JournalFull. What a member has no room for would hold up the shard."""
        full = self.full_disks.first_of(member.node for member in row.members)
        if full is not None:
            raise JournalFull(f"the disk of {node_name(full)} is full: only deletes are taken")

    def made_before(
        self, shard: ShardId, request_id: bytes, age_s: float
    ) -> asyncio.Future[None] | None:
        """The outcome of a request first made `age_s` ago; None: it was not ordered (rule R16).

        Raises WriteFailed when this node does not serve the shard, AlreadyRefused, OutcomeUnknown.
        """
        replica = self.replicas.get(shard)
        if replica is None:
            raise WriteFailed(f"shard {shard_name(shard)} is not known here")
        try:
            replica.check_retry(request_id, age_s, now())
        except (NotPrimary, NotServing) as error:
            raise WriteFailed(str(error)) from error
        except AlreadyOrdered as known:
            return self._outcome_of(known.entry)
        return None

    def _outcome_of(self, entry: Entry | None) -> asyncio.Future[None]:
        if entry is not None:
            return self.applier.wait_for(entry)
        done: asyncio.Future[None] = self._loop.create_future()
        done.set_result(None)
        return done

    def refuse(self, shard: ShardId, request_id: bytes) -> bool:
        """Whether a refusal that the index gives reason for now may be answered (rule R3).

        Then no try of the request is executed any more. Nothing that is prepared may touch what the
        refusal is about.
        """
        replica = self.replicas[shard]
        ticket = ReadTicket(replica.epoch, Seq(0))
        return replica.refuse_request(request_id, ticket, now())

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

    def is_dirty(self, shard: ShardId, index_key: bytes) -> bool:
        """Whether an entry that touches `index_key` is prepared and not applied."""
        replica = self.replicas.get(shard)
        return replica is not None and index_key in replica.log.dirty

    def settled(self, shard: ShardId, index_key: bytes) -> bool:
        """Whether this node serves the shard and nothing prepared touches `index_key`."""
        return self.serves(shard) and index_key not in self.replicas[shard].log.dirty

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
        """Shards whose replica here met a bug."""
        return [shard for shard, replica in self.replicas.items() if replica.failed]

    # -- actions -------------------------------------------------------------------------------

    def _perform(self, replica: ShardReplica, actions: list[Action]) -> None:
        performers = self._performers
        try:
            for action in actions:
                performers[type(action)](replica, action)
        except JournalFull as error:  # Not of a client's write: for those, room is made first.
            self._on_failed(error)  # The replica is ahead of its disk: the node must not go on.
        except IndexFailed as error:
            self._index_failed(error)
        if self.leases.beat_soon:
            self._beats.send_news()

    def _apply(self, replica: ShardReplica, action: Apply) -> None:
        self.applier.plan(replica, action.entries)

    def _perform_rare(self, replica: ShardReplica, action: Action) -> None:
        match action:
            case StartLog():
                self._logs.start_anew(replica, action)
                self.keep_state(replica)
            case SplitLog():
                self._split_log(replica, action)
            case FlushIndex():
                self.keep_state(replica)
                if self.index.damage is None:
                    self.before_flush()  # Once in a recovery by force: all may wait for it.
                    self.index.flush()
            case Copy(start=start, sources=sources):
                self._begin_copy(replica, start, sources)
            case Propose(swap=swap):
                self._on_swap(replica.shard, swap)
            case Refetch():
                self._on_refetch(replica.shard)
            case Abandon(entries=entries):
                self.applier.fail(list(entries), "the shard's configuration changed")
            case _:
                raise AssertionError(action)

    def _make_half(self, replica: ShardReplica, action: SplitLog) -> ShardReplica:
        """Rule R18: a record before any later one of either half; the states of both at once."""
        if action.sibling not in self.replicas:
            log.info("shard %s is split here behind %d", shard_name(replica.shard), action.seq)
            self.index.digests.split(replica.shard, action.sibling)
            if not self._recovering:
                self._end_copy(replica.shard)
                self._logs.split(replica, action)
        return self._table.split(action)

    def _split_log(self, replica: ShardReplica, action: SplitLog) -> None:
        sibling = self._make_half(replica, action)
        digests = self.index.digests
        self.index.write([state_entry(replica, digests), state_entry(sibling, digests)])
        if self._recovering:
            return
        row = self._table.row_of_half(action)
        if row is None:
            self._on_refetch(sibling.shard)
        else:
            self.on_row(sibling.shard, row)
