"""What replicas say within one tick travels together, and arrives as it was said."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from octad.sharding.ids import BucketId, Epoch, NodeId, Seq, ShardId
from octad.sharding.limits import ANNOUNCE_DELAY_S
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import DeleteObject
from octad.storage_node.replication.host.replication_receiver import ReplicationReceiver
from octad.storage_node.replication.host.replication_sender import (
    PREPARES_BYTES_MAX,
    ReplicationSender,
)
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import SendCommit, SendPrepare
from octad.storage_node.replication.replication_messages import CommitPoints, Prepares
from octad.storage_node.replication.shard_log import Entry
from octad.storage_node.rpc.messages import BadMessage, Message

A, B = NodeId(2), NodeId(3)
EPOCH = Epoch(4)


class Sent:
    """An outbox that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[tuple[NodeId, Message, bytes]] = []

    def send(self, node: NodeId, message: Message, body: bytes | memoryview = b"") -> bool:
        self.messages.append((node, message, bytes(body)))
        return True


class Replica(ShardReplica):
    """Of which the mail asks only for its shard and epoch."""

    def __init__(self, shard: int) -> None:
        self.shard = ShardId(shard)

    @property
    def epoch(self) -> Epoch:
        return EPOCH


def say(mail: ReplicationSender, node: NodeId, shard: int, seq: int, data: bytes | None) -> None:
    operation = DeleteObject(BucketId(1), b"key")
    entry = Entry(EPOCH, Seq(seq), RecordKind.PUT_OBJECT, bytes(16), b"meta", data, operation, ())
    mail.prepare(Replica(shard), SendPrepare(((node, 0),), entry, EPOCH, Seq(seq - 1)))


def in_the_journal(_: Entry) -> bytes:
    raise AssertionError("the entry has its data")


async def test_an_entry_whose_file_cannot_be_opened_now_is_as_if_lost_and_others_are_sent() -> None:
    def no_file_left(_: Entry) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    outbox = Sent()
    mail = ReplicationSender(outbox, asyncio.get_running_loop(), no_file_left)
    say(mail, A, 7, 2, None)
    say(mail, A, 8, 5, b"here")
    await asyncio.sleep(0)
    ((_, message, body),) = outbox.messages
    assert isinstance(message, Prepares)
    assert [each.shard for each in message.prepares] == [8]
    assert body == b"here"


async def test_prepares_of_a_tick_are_one_message_a_node() -> None:
    outbox = Sent()
    mail = ReplicationSender(outbox, asyncio.get_running_loop(), in_the_journal)
    say(mail, A, 7, 2, b"one")
    say(mail, B, 7, 2, b"one")
    say(mail, A, 8, 5, b"")
    say(mail, A, 7, 3, b"three")
    assert outbox.messages == []
    await asyncio.sleep(0)
    (node, first, body), (_, second, other) = outbox.messages
    assert isinstance(first, Prepares)
    assert isinstance(second, Prepares)
    assert (node, body, other) == (A, b"onethree", b"one")
    assert [(each.shard, each.seq, each.data_bytes) for each in first.prepares] == [
        (7, 2, 3),
        (8, 5, 0),
        (7, 3, 5),
    ]
    assert first.points == ()


async def test_commit_points_travel_with_prepares_and_not_where_a_newer_one_does() -> None:
    outbox = Sent()
    mail = ReplicationSender(outbox, asyncio.get_running_loop(), in_the_journal)
    for shard in (7, 9):
        mail.commit_point(Replica(shard), SendCommit((A, B), Seq(1), EPOCH))
    say(mail, A, 7, 2, b"one")
    await asyncio.sleep(0)
    ((_, prepares, _),) = outbox.messages
    assert isinstance(prepares, Prepares)
    assert [(point.shard, point.commit) for point in prepares.points] == [(9, 1)]
    await asyncio.sleep(2 * ANNOUNCE_DELAY_S)
    (_, (node, alone, _)) = outbox.messages
    assert isinstance(alone, CommitPoints)
    assert (node, [point.shard for point in alone.points]) == (B, [7, 9])


async def test_a_message_of_prepares_does_not_grow_beyond_its_limit_and_keeps_their_order() -> None:
    outbox = Sent()
    mail = ReplicationSender(outbox, asyncio.get_running_loop(), in_the_journal)
    large = bytes(PREPARES_BYTES_MAX)
    for seq, data in enumerate((b"a", large, b"b", b"c"), start=1):
        say(mail, A, 7, seq, data)
    await asyncio.sleep(0)
    sent = [message for _, message, _ in outbox.messages]
    seqs = [
        [prepare.seq for prepare in each.prepares] for each in sent if isinstance(each, Prepares)
    ]
    assert seqs == [[1], [2], [3, 4]]
    assert [body for _, _, body in outbox.messages] == [b"a", large, b"bc"]


async def test_prepares_whose_lengths_do_not_fit_their_body_are_refused_as_a_whole() -> None:
    outbox = Sent()
    mail = ReplicationSender(outbox, asyncio.get_running_loop(), in_the_journal)
    say(mail, A, 7, 1, b"one")
    say(mail, A, 8, 1, b"two")
    await asyncio.sleep(0)
    ((_, message, body),) = outbox.messages
    inbox = ReplicationReceiver.__new__(
        ReplicationReceiver
    )  # It must not come to look at any of its parts.
    for cut in (body[:-1], body + b"x", b""):
        with pytest.raises(BadMessage):
            inbox.on_message(A, message, memoryview(cut))
