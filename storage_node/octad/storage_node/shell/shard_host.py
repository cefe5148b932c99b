"""All of a node's shard replicas, with the journal, the index and the peers that they act through.

It performs what the replicas decide and decides nothing itself. Within one tick of the event loop,
index changes of all shards are gathered into one batch and acknowledgements into one message a
node. Waiting proposals are answered only after their changes are in the index, so that whoever is
told of a write also reads it. At a backup, where nobody waits, a batch gathers for some
milliseconds.

It is past 500 lines because events, actions and the one batch a tick share all of its state.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from octad.sharding import limits
from octad.sharding.ids import Epoch, NodeId, Seq, ShardId, shard_name
from octad.sharding.shard_map import ShardRow
from octad.storage_node.core.index_format import (
    POSITION_KEY,
    SHARD_STATES,
    ShardState,
    decode_shard_state,
    decode_shard_state_key,
    encode_position,
    encode_value,
    shard_state_key,
)
from octad.storage_node.core.listing import past
from octad.storage_node.core.messages import Message
from octad.storage_node.core.operations import IndexChanges, Operation, decode_operation, touched
from octad.storage_node.core.record_format import Position, RecordKind, start_of
from octad.storage_node.core.replication_messages import (
    Ack,
    Acks,
    CommitPoint,
    CommitPoints,
    Nack,
    Nacks,
    Prepare,
)
from octad.storage_node.core.shard_replica import (
    Abandon,
    Action,
    Append,
    Apply,
    Entry,
    Lead,
    NotPrimary,
    NotServing,
    Refetch,
    SendAck,
    SendCommit,
    SendNack,
    SendPrepare,
    ShardReplica,
)
from octad.storage_node.shell.index import Index
from octad.storage_node.shell.journal import Journal
from octad.storage_node.shell.journal_errors import JournalFull

log = logging.getLogger(__name__)


class Outbox(Protocol):
    """What the host needs of the peers."""

    def send(self, node: NodeId, message: Message, body: bytes | memoryview = b"") -> bool: ...

    def connected(self, node: NodeId) -> bool: ...


class ProposalFailed(Exception):
    """The write was not committed in time or cannot be now: unknown outcome."""


class ShardHost:
    """See the module. Make it inside the running loop; `recover`, then feed it."""

    def __init__(
        self,
        node: NodeId,
        incarnation: str,
        journal: Journal,
        index: Index,
        outbox: Outbox,
        on_lead: Callable[[ShardId, ShardRow], None],
        on_refetch: Callable[[], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.journal = journal
        self.index = index
        self.outbox = outbox
        self.replicas: dict[ShardId, ShardReplica] = {}
        self._on_lead = on_lead
        self._on_refetch = on_refetch
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._syncing: deque[tuple[Position, ShardReplica, Entry]] = deque()  # lsn, …
        self._unsettled: deque[Entry] = deque()  # In the journal's order; see _replay_from.
        self._waiting: dict[Entry, tuple[asyncio.Future[None], float]] = {}
        self._applying: list[tuple[ShardReplica, tuple[Entry, ...]]] = []
        self._applying_soon: list[tuple[ShardReplica, tuple[Entry, ...]]] = []  # Nobody waits.
        self._soon: asyncio.TimerHandle | None = None
        self._acks: dict[NodeId, dict[ShardId, Ack]] = {}
        self._nacks: dict[NodeId, list[Nack]] = {}
        self._to_announce: dict[ShardId, ShardReplica] = {}
        self._without_room: set[ShardReplica] = set()  # A Prepare was dropped: the disk is full.
        self._next_applied: asyncio.Future[None] | None = None
        self._flush_planned = False
        self._announcement: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._plan_sweep()

    # -- life ----------------------------------------------------------------------------------

    def recover(self) -> None:
        """Read the shards' states from the index, replay and start the journal."""
        for key, value in self.index.scan(SHARD_STATES, past(SHARD_STATES)):
            shard, state = decode_shard_state_key(key), decode_shard_state(value)
            self.replicas[shard] = ShardReplica(
                shard, self.node, self.incarnation, state.applied, state.applied_epoch
            )
        for location, record in self.journal.replay(self.index.position()):
            operation = decode_operation(record.kind, record.metadata)
            entry = Entry(
                record.epoch,
                record.seq,
                record.kind,
                record.request_id,
                bytes(record.metadata),
                None,
                operation,
                touched(operation),
                location,
            )
            self.replica(record.shard).recover(entry, record.commit)
        held = [entry for replica in self.replicas.values() for entry in replica.entries]
        self._unsettled.extend(sorted(held, key=_place))
        self.journal.start(self.on_durable, self._on_failed)
        for replica in self.replicas.values():
            self._perform(replica, replica.recovered())
        self._apply_soon()

    def close(self) -> None:
        """Fail what waits; nothing is performed any more."""
        for timer in (self._sweep, self._announcement, self._soon):
            if timer is not None:
                timer.cancel()
        self._fail(list(self._waiting), "the node is stopping")

    def replica(self, shard: ShardId) -> ShardReplica:
        """This node's replica of `shard`, made when it is first spoken of."""
        replica = self.replicas.get(shard)
        if replica is None:
            replica = self.replicas[shard] = ShardReplica(
                shard, self.node, self.incarnation, Seq(0), Epoch(0)
            )
        return replica

    # -- events --------------------------------------------------------------------------------

    def on_row(self, shard: ShardId, row: ShardRow) -> None:
        """The configuration store has this row."""
        if row.member(self.node) is not None or shard in self.replicas:
            replica = self.replica(shard)
            self._perform(replica, replica.on_row(row))

    def lead(self, shard: ShardId, row: ShardRow) -> None:
        """Our swap to this row succeeded."""
        self._apply_soon()  # What the shard applies from now on comes after it.
        replica = self.replica(shard)
        self._perform(replica, replica.lead(row))

    def on_connected(self, node: NodeId) -> None:
        """Messages to and from `node` travel again."""
        for replica in self.replicas.values():
            self._perform(replica, replica.on_connected(node))

    def on_message(self, sender: NodeId, message: Message, body: memoryview) -> None:
        """A one-way message of another node."""
        if type(message) is Prepare:
            self._on_prepare(sender, message, body)
        elif type(message) is Acks:
            for ack in message.acks:
                if (replica := self.replicas.get(ack.shard)) is not None:
                    self._perform(replica, replica.on_ack(sender, ack.epoch, ack.upto))
        elif type(message) is Nacks:
            for nack in message.nacks:
                if (replica := self.replicas.get(nack.shard)) is not None:
                    self._perform(replica, replica.on_nack(sender, nack.epoch))
        elif type(message) is CommitPoints:
            for point in message.points:
                if (replica := self.replicas.get(point.shard)) is not None:
                    actions = replica.on_commit(
                        sender, point.epoch, point.commit, point.commit_epoch
                    )
                    self._perform(replica, actions)
        else:
            log.warning("%s is no one-way message", type(message).__name__)

    def _on_prepare(self, sender: NodeId, message: Prepare, body: memoryview) -> None:
        replica = self.replica(message.shard)
        try:
            self.journal.make_room(len(message.metadata), len(body), RecordKind(message.kind))
        except JournalFull:
            self._without_room.add(replica)  # Not acknowledged; asked for again in a while.
            return
        entry = (
            message.entry_epoch,
            message.seq,
            RecordKind(message.kind),
            message.request_id,
            message.metadata,
            body,
        )
        actions = replica.on_prepare(
            sender, message.epoch, entry, message.previous_epoch, message.commit
        )
        self._perform(replica, actions)

    def on_durable(self, lsn: Position) -> None:
        """The journal has synced every record up to `lsn`."""
        syncing = self._syncing
        while syncing and syncing[0][0] <= lsn:
            _, replica, entry = syncing.popleft()
            self._perform(replica, replica.on_durable(entry))

    # -- proposals -----------------------------------------------------------------------------

    def propose(
        self,
        shard: ShardId,
        kind: RecordKind,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
        operation: Operation,
    ) -> asyncio.Future[None]:
        """Order a write; the future ends when it is committed and in the index.

        Raises at once, and nothing has happened: JournalFull, or ProposalFailed when this node is
        not serving the shard or a member cannot be reached. The future raises ProposalFailed when
        the members do not all answer in time.
        """
        replica = self.replicas.get(shard)
        if replica is None or replica.row is None:
            raise ProposalFailed(f"shard {shard_name(shard)} is not known here")
        for member in replica.row.members:
            if member.node != self.node and not self.outbox.connected(member.node):
                raise ProposalFailed(f"shard {shard_name(shard)}: n{member.node} is not reachable")
        self.journal.make_room(len(metadata), len(data), kind)
        try:
            entry, actions = replica.propose(kind, request_id, metadata, data, operation)
        except (NotPrimary, NotServing) as error:
            raise ProposalFailed(str(error)) from error
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting[entry] = (future, self._loop.time() + limits.WRITE_TIMEOUT_S)
        self._perform(replica, actions)
        return future

    def serves(self, shard: ShardId) -> bool:
        """Whether this node is the shard's primary and past its barrier."""
        replica = self.replicas.get(shard)
        return replica is not None and replica.leading and replica.commit >= replica.barrier

    def knows(self, shard: ShardId, index_key: bytes) -> bool:
        """Whether the index's state of `index_key` here is the committed one (rule R3).

        True at the serving primary, and at a member for a key that nothing prepared touches.
        """
        replica = self.replicas.get(shard)
        if replica is None or replica.row is None or replica.row.member(self.node) is None:
            return False
        if replica.leading and replica.commit >= replica.barrier:
            return True
        return index_key not in replica.dirty

    def is_dirty(self, shard: ShardId, index_key: bytes) -> bool:
        """Whether an entry that touches `index_key` is prepared and not applied."""
        replica = self.replicas.get(shard)
        return replica is not None and index_key in replica.dirty

    def settled(self, shard: ShardId, index_key: bytes) -> bool:
        """Whether this node serves the shard and nothing prepared touches `index_key`."""
        return self.serves(shard) and index_key not in self.replicas[shard].dirty

    async def applied(self) -> None:
        """Returns when the index has changed the next time, or after a short while."""
        if self._next_applied is None or self._next_applied.done():
            self._next_applied = self._loop.create_future()
        await asyncio.wait([self._next_applied], timeout=limits.WRITE_TIMEOUT_SWEEP_S)

    async def drained(self) -> None:
        """Every proposal that waits now has been answered, one way or the other."""
        if self._waiting:
            await asyncio.wait([future for future, _ in self._waiting.values()])

    # -- actions -------------------------------------------------------------------------------

    def _perform(self, replica: ShardReplica, actions: list[Action]) -> None:
        for action in actions:
            kind = type(action)
            if kind is Append:
                assert isinstance(action, Append)
                self._append(replica, action)
            elif kind is SendPrepare:
                assert isinstance(action, SendPrepare)
                self._send_prepare(replica, action)
            elif kind is Apply:
                assert isinstance(action, Apply)
                self._plan_apply(replica, action.entries)
            elif kind is SendAck:
                assert isinstance(action, SendAck)
                assert replica.row is not None
                acks = self._acks.setdefault(action.node, {})
                acks[replica.shard] = Ack(replica.shard, replica.row.epoch, action.upto)
                self._plan_flush()
            else:
                self._perform_rare(replica, action)

    def _perform_rare(self, replica: ShardReplica, action: Action) -> None:
        match action:
            case SendNack(node=node, verified=verified):
                assert replica.row is not None
                nack = Nack(replica.shard, replica.row.epoch, verified)
                self._nacks.setdefault(node, []).append(nack)
                self._plan_flush()
            case SendCommit():
                assert replica.row is not None
                point = _commit_point(replica, action)
                self.outbox.send(action.node, CommitPoints([point]))
            case Lead(row=row):
                self._on_lead(replica.shard, row)
            case Refetch():
                self._on_refetch()
            case Abandon(entries=entries):
                self._fail(list(entries), "the shard's configuration changed")

    def _append(self, replica: ShardReplica, action: Append) -> None:
        entry = action.entry
        appended = self.journal.append(
            entry.kind,
            replica.shard,
            entry.epoch,
            entry.seq,
            action.commit,
            entry.request_id,
            entry.metadata,
            self._data_of(entry),
        )
        entry.location = appended.location
        self._syncing.append((appended.lsn, replica, entry))
        self._unsettled.append(entry)

    def _send_prepare(self, replica: ShardReplica, action: SendPrepare) -> None:
        entry = action.entry
        assert replica.row is not None
        message = Prepare(
            replica.shard,
            replica.row.epoch,
            entry.epoch,
            entry.seq,
            action.previous_epoch,
            action.commit,
            entry.kind,
            entry.request_id,
            entry.metadata,
        )
        self.outbox.send(action.node, message, self._data_of(entry))

    def _data_of(self, entry: Entry) -> bytes | memoryview:
        """The entry's bytes, which stay in the journal alone when it was replayed."""
        if entry.data is not None:
            return entry.data
        assert entry.location is not None
        return self.journal.read(entry.location).data

    # -- once a tick ---------------------------------------------------------------------------

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._applying:
            applying, self._applying = self._applying, []
            self._apply(applying)
        if self._acks:
            acks, self._acks = self._acks, {}
            for node, of_shards in acks.items():
                self.outbox.send(node, Acks(list(of_shards.values())))
        if self._nacks:
            nacks, self._nacks = self._nacks, {}
            for node, of_node in nacks.items():
                self.outbox.send(node, Nacks(of_node))

    def _plan_apply(self, replica: ShardReplica, entries: tuple[Entry, ...]) -> None:
        """At the primary a client waits for it; elsewhere a few milliseconds make larger batches.

        Until then the keys are dirty, so a read of them asks the primary.
        """
        if replica.leading:
            self._applying.append((replica, entries))
            self._plan_flush()
            return
        self._applying_soon.append((replica, entries))
        if self._soon is None:
            self._soon = self._loop.call_later(limits.ANNOUNCE_DELAY_S, self._apply_soon)

    def _apply_soon(self) -> None:
        """What waits for a larger batch, now."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._applying_soon:
            applying, self._applying_soon = self._applying_soon, []
            self._apply(applying)

    def _apply(self, applying: list[tuple[ShardReplica, tuple[Entry, ...]]]) -> None:
        """Write what is committed to the index, with the states that say so, in one batch."""
        index_changes = IndexChanges()
        changed: dict[ShardId, ShardReplica] = {}
        for replica, entries in applying:
            for entry in entries:
                assert entry.location is not None
                index_changes.apply(entry.operation, entry.location, entry.epoch, entry.seq)
            replica.on_applied(entries[-1].seq)
            changed[replica.shard] = replica
        puts, deletes = index_changes.split()
        for replica in changed.values():
            puts.append((shard_state_key(replica.shard), encode_value(_state(replica))))
            if replica.leading:
                self._to_announce[replica.shard] = replica
        puts.append((POSITION_KEY, encode_position(self._replay_from())))
        self.index.write(puts, deletes)
        waiting = self._waiting
        for _, entries in applying:
            for entry in entries:
                waiter = waiting.pop(entry, None)
                if waiter is not None and not waiter[0].done():
                    waiter[0].set_result(None)
        if self._next_applied is not None and not self._next_applied.done():
            self._next_applied.set_result(None)
        if self._to_announce and self._announcement is None:
            self._announcement = self._loop.call_later(limits.ANNOUNCE_DELAY_S, self._announce)

    def _replay_from(self) -> Position:
        """The lowest journal position that is not applied yet: where a replay has to begin."""
        unsettled = self._unsettled
        while unsettled and unsettled[0].settled:
            unsettled.popleft()
        if not unsettled:
            return self.journal.position()
        return _place(unsettled[0])

    def _announce(self) -> None:
        """Tell members of commit points that no Prepare carried: their keys become clean."""
        self._announcement = None
        points: dict[NodeId, list[CommitPoint]] = {}
        for replica in self._to_announce.values():
            for action in replica.announcement():
                assert isinstance(action, SendCommit)
                points.setdefault(action.node, []).append(_commit_point(replica, action))
        self._to_announce.clear()
        for node, of_node in points.items():
            self.outbox.send(node, CommitPoints(of_node))

    def _plan_sweep(self) -> None:
        self._sweep = self._loop.call_later(limits.WRITE_TIMEOUT_SWEEP_S, self._fail_overdue)

    def _fail_overdue(self) -> None:
        now = self._loop.time()
        overdue = [entry for entry, (_, deadline) in self._waiting.items() if deadline < now]
        self._fail(overdue, "not all members answered in time")
        self._ask_again()
        self._plan_sweep()

    def _ask_again(self) -> None:
        """There may be room by now for what was dropped."""
        without_room, self._without_room = self._without_room, set()
        for replica in without_room:
            if replica.row is not None:
                self._perform(replica, replica.on_connected(replica.row.primary))

    def _fail(self, entries: list[Entry], why: str) -> None:
        for entry in entries:
            waiter = self._waiting.pop(entry, None)
            if waiter is not None and not waiter[0].done():
                waiter[0].set_exception(ProposalFailed(why))


def _commit_point(replica: ShardReplica, action: SendCommit) -> CommitPoint:
    assert replica.row is not None
    return CommitPoint(replica.shard, replica.row.epoch, action.commit, action.commit_epoch)


def _state(replica: ShardReplica) -> ShardState:
    view = replica.row.epoch if replica.row is not None else Epoch(0)
    return ShardState(Seq(replica.applied), replica.applied_epoch, view)


def _place(entry: Entry) -> Position:
    assert entry.location is not None
    return start_of(entry.location)
