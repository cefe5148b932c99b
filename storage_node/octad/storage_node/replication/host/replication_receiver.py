"""Passes other nodes' messages to the replicas that they are about.

The other direction is `replication_sender.py`. Prepares that do not fit on the disk are dropped
here, and asked for again later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVarTuple

from octad.client.runtime.logs.seldom_log import SeldomLog
from octad.client.runtime.steady_clock import now
from octad.sharding.ids import NodeId, shard_name
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import JournalFailed, JournalFull
from octad.storage_node.journal.record_format import RECORD_KINDS, NewerRecord
from octad.storage_node.operations.registry import SEVERAL, decode_operation
from octad.storage_node.replication.host.node_beats import NodeBeats
from octad.storage_node.replication.host.replica_table import ReplicaTable
from octad.storage_node.replication.lease_messages import Beat, BeatAnswer
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Actions
from octad.storage_node.replication.replication_messages import (
    Acks,
    CommitPoint,
    CommitPoints,
    Join,
    Nack,
    Nacks,
    Prepare,
    Prepares,
    SessionStart,
)
from octad.storage_node.rpc.messages import BadMessage, Message

Event = TypeVarTuple("Event")

log = logging.getLogger(__name__)


class Tell(Protocol):
    """Something has happened to a replica: what follows is performed."""

    def __call__(
        self, replica: ShardReplica, event: Callable[[*Event], Actions], *what: *Event
    ) -> None: ...


class ReplicationReceiver:
    """See the module."""

    def __init__(self, table: ReplicaTable, journal: Journal, beats: NodeBeats, tell: Tell) -> None:
        self._table = table
        self._replicas = table.replicas
        self._journal = journal
        self._beats = beats
        self._tell = tell
        self._newer_log = SeldomLog(log)
        self._without_room: dict[
            ShardReplica, None
        ] = {}  # A Prepare was dropped: the disk is full.

    def ask_for_what_was_dropped(self) -> None:
        """There may be room by now."""
        without_room, self._without_room = self._without_room, {}
        for replica in without_room:
            if replica.configuration is not None:
                self._tell(replica, replica.on_connected, replica.configuration.primary)

    def on_message(self, sender: NodeId, message: Message, body: memoryview) -> None:
        """A one-way message of another node."""
        kind = type(message)
        if kind is Prepares:
            assert isinstance(message, Prepares)
            self._on_prepares(sender, message.prepares, body)
            if message.points:
                self._on_points(sender, message.points)
        elif kind is Acks:
            assert isinstance(message, Acks)
            for ack in message.acks:
                if (replica := self._replicas.get(ack.shard)) is not None:
                    on_ack = replica.on_ack
                    upto, session, complete = ack.upto, ack.session, ack.complete
                    self._tell(replica, on_ack, sender, ack.epoch, upto, session, complete)
        else:
            self._on_rare_message(sender, message)

    def _on_rare_message(self, sender: NodeId, message: Message) -> None:
        match message:
            case CommitPoints(points=points):
                self._on_points(sender, points)
            case Nacks(nacks=nacks):
                for nack in nacks:
                    self._on_shard_message(sender, nack)
            case Join() | SessionStart():
                self._on_shard_message(sender, message)
            case Beat():
                self._beats.on_beat(sender, message)
            case BeatAnswer():
                self._beats.on_answer(sender, message)
            case _:
                log.warning("%s is not a one-way message", type(message).__name__)

    def _on_points(self, sender: NodeId, points: Iterable[CommitPoint]) -> None:
        for point in points:
            replica = self._table.addressed(point.shard)
            if replica is not None:
                commit, commit_epoch = point.commit, point.commit_epoch
                self._tell(replica, replica.on_commit, sender, point.epoch, commit, commit_epoch)

    def _on_shard_message(self, sender: NodeId, message: Nack | Join | SessionStart) -> None:
        replica = self._table.addressed(message.shard)
        if replica is None:
            return
        epoch = message.epoch
        match message:
            case Nack(log_end=end, asks=asks):
                if end is None:
                    self._tell(replica, replica.on_nack, sender, epoch)
                else:
                    self._tell(replica, replica.on_log_end, sender, epoch, end, asks, now())
            case Join(nonce=nonce):
                self._tell(replica, replica.on_join, sender, epoch, nonce)
            case SessionStart(nonce=nonce, session=session, start=start, start_epoch=first):
                self._tell(replica, replica.on_session, sender, epoch, nonce, session, start, first)

    def _on_prepares(self, sender: NodeId, prepares: list[Prepare], body: memoryview) -> None:
        if sum([prepare.data_bytes for prepare in prepares]) != len(body):
            raise BadMessage(f"Prepares of other lengths than their {len(body)} bytes")
        tell, addressed, make_room = self._tell, self._table.addressed, self._journal.make_room
        end = 0
        for each in prepares:
            start, end = end, end + each.data_bytes
            replica = addressed(each.shard)
            if replica is None:
                continue
            metadata = each.metadata
            try:
                kind = RECORD_KINDS[each.kind]
                if kind in SEVERAL:
                    decode_operation(kind, metadata)
            except NewerRecord as error:  # Not acknowledged: the others go on without this node.
                name = shard_name(each.shard)
                self._newer_log.warning("an entry of shard %s is not taken: %s", name, error)
                continue
            try:
                make_room(len(metadata), each.data_bytes, kind, ordered=True)
            except JournalFull:
                self._without_room[replica] = None  # Not acknowledged; asked for again in a while.
                continue
            except JournalFailed:
                return  # The node is about to end.
            sent = (each.entry_epoch, each.seq, kind, each.request_id, metadata, body[start:end])
            before, commit = each.previous_epoch, each.commit
            tell(
                replica, replica.on_prepare, sender, each.epoch, each.session, sent, before, commit
            )
