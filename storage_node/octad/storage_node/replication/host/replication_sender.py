"""Sends the replicas' messages to other nodes: one of each kind per node and tick.

Writes of many shards arrive within a tick, and one sync of the journal makes entries of many shards
durable: otherwise each would be sealed, sent, opened and parsed by itself. Messages may be lost,
doubled and reordered: the replicas send again what counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from octad.sharding.ids import NodeId, ShardId, shard_name
from octad.sharding.limits import ANNOUNCE_DELAY_S, KIB
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import (
    SendAck,
    SendCommit,
    SendJoin,
    SendLogEnd,
    SendNack,
    SendPrepare,
    SendSession,
)
from octad.storage_node.replication.replication_messages import (
    Ack,
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
from octad.storage_node.replication.shard_log import Entry
from octad.storage_node.rpc.messages import Message

PREPARES_BYTES_MAX = 64 * KIB  # Bytes of entries in one message; a larger entry is sent alone.

log = logging.getLogger(__name__)

_NONE: Mapping[ShardId, CommitPoint] = {}


class Outbox(Protocol):
    """What the host needs of the peers."""

    def send(self, node: NodeId, message: Message, body: bytes | memoryview = b"") -> bool: ...


@dataclass(slots=True)
class _Prepares:
    """This tick's Prepares to one node, and the data of each."""

    messages: list[Prepare] = field(default_factory=list)
    data: list[bytes | memoryview] = field(default_factory=list)
    bytes: int = 0


class ReplicationSender:
    """See the module. Every message carries the replica's epoch of the moment it is given here."""

    def __init__(
        self,
        outbox: Outbox,
        loop: asyncio.AbstractEventLoop,
        data_of: Callable[[Entry], bytes | memoryview],
    ) -> None:
        self._outbox = outbox
        self._loop = loop
        self._data_of = data_of
        self._prepares: dict[NodeId, _Prepares] = {}
        self._acks: dict[NodeId, dict[ShardId, Ack]] = {}
        self._nacks: dict[NodeId, list[Nack]] = {}
        self._points: dict[NodeId, dict[ShardId, CommitPoint]] = {}
        self._planned = False
        self._points_timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Nothing more is sent."""
        if self._points_timer is not None:
            self._points_timer.cancel()

    def prepare(self, replica: ShardReplica, action: SendPrepare) -> None:
        """A commit point that waits is older than the Prepare's own."""
        entry = action.entry
        shard = replica.shard
        data = entry.data
        if data is None:
            try:
                data = self._data_of(entry)
            except OSError as error:  # Its file could not be opened now: as if this were lost.
                log.warning("seq %d of %s is sent later: %s", entry.seq, shard_name(shard), error)
                return
        size = len(data)
        message: Prepare | None = None
        for node, session in action.targets:
            if message is None or message.session != session:
                message = Prepare(
                    shard,
                    replica.epoch,
                    entry.epoch,
                    entry.seq,
                    action.previous_epoch,
                    action.commit,
                    entry.kind,
                    entry.request_id,
                    entry.metadata,
                    size,
                    session,
                )
            batch = self._prepares.get(node)
            if batch is not None and batch.bytes + size > PREPARES_BYTES_MAX:
                self._send_prepares(node, self._prepares.pop(node))
                batch = None
            if batch is None:
                batch = self._prepares[node] = _Prepares()
                self._plan()
            batch.messages.append(message)
            batch.data.append(data)
            batch.bytes += size + len(entry.metadata)
            if node in self._points:
                self._points[node].pop(shard, None)

    def _send_prepares(self, node: NodeId, batch: _Prepares) -> None:
        data = batch.data
        body = data[0] if len(data) == 1 else b"".join(data)
        points = tuple(self._points.pop(node, _NONE).values())
        self._outbox.send(node, Prepares(batch.messages, points), body)

    def ack(self, replica: ShardReplica, action: SendAck) -> None:
        """A later one of the same tick says all that an earlier one did."""
        acks = self._acks.setdefault(action.node, {})
        acks[replica.shard] = Ack(
            replica.shard, replica.epoch, action.upto, action.session, action.complete
        )
        self._plan()

    def nack(self, replica: ShardReplica, action: SendNack) -> None:
        nack = Nack(replica.shard, replica.epoch, action.verified)
        self._nacks.setdefault(action.node, []).append(nack)
        self._plan()

    def log_end(self, replica: ShardReplica, action: SendLogEnd) -> None:
        verified = replica.log.verified
        nack = Nack(replica.shard, replica.epoch, verified, action.end, action.asks)
        self._nacks.setdefault(action.node, []).append(nack)
        self._plan()

    def commit_point(self, replica: ShardReplica, action: SendCommit) -> None:
        """Send it some milliseconds later, or with a Prepare: no one waits for it."""
        point = CommitPoint(replica.shard, replica.epoch, action.commit, action.commit_epoch)
        for node in action.nodes:
            self._points.setdefault(node, {})[replica.shard] = point
        if self._points_timer is None:
            self._points_timer = self._loop.call_later(ANNOUNCE_DELAY_S, self._send_points)

    def join(self, replica: ShardReplica, action: SendJoin) -> None:
        self._outbox.send(action.node, Join(replica.shard, replica.epoch, action.nonce))

    def session(self, replica: ShardReplica, action: SendSession) -> None:
        """Before the Prepares of the session, which follow on the same connection."""
        start = SessionStart(
            replica.shard,
            replica.epoch,
            action.nonce,
            action.session,
            action.start,
            action.start_epoch,
        )
        self._outbox.send(action.node, start)

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._planned = False
        send = self._outbox.send
        if self._prepares:
            prepares, self._prepares = self._prepares, {}
            for node, batch in prepares.items():
                self._send_prepares(node, batch)
        if self._acks:
            acks, self._acks = self._acks, {}
            for node, of_shards in acks.items():
                send(node, Acks(list(of_shards.values())))
        if self._nacks:
            nacks, self._nacks = self._nacks, {}
            for node, of_node in nacks.items():
                send(node, Nacks(of_node))

    def _send_points(self) -> None:
        self._points_timer = None
        points, self._points = self._points, {}
        for node, points_of in points.items():
            if points_of:
                self._outbox.send(node, CommitPoints(list(points_of.values())))
