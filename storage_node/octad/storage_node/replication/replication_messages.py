"""What the replicas of a shard tell each other. One-way; the meaning is in `shard_replica.py`.

Messages about many shards are sent together, because many writes arrive at once and one sync of a
journal makes many entries durable. Tag 16 was a single Prepare's.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.rpc.messages import Message, message


class Prepare(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Make this entry durable."""

    shard: ShardId
    epoch: Epoch
    entry_epoch: Epoch
    seq: Seq
    previous_epoch: Epoch
    commit: Seq
    kind: int
    request_id: bytes
    metadata: bytes
    data_bytes: int
    session: int = 0  # The learner's session; 0 for a member.


class Ack(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything of `shard` up to `upto` is verified in `epoch` and durable here."""

    shard: ShardId
    epoch: Epoch
    upto: Seq
    session: int = 0
    complete: bool = True  # The history before it is here, too.


@message
class Acks(Message, frozen=True, array_like=True, tag=17):
    """To the primary of all these shards."""

    urgent: ClassVar[bool] = True

    acks: list[Ack]


class Nack(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Send what is above `verified` again.

    Between members of which neither leads it says where a log ends (rule R23): the epoch and number
    of the last entry. An older version takes no notice of that.
    """

    shard: ShardId
    epoch: Epoch
    verified: Seq
    log_end: tuple[Epoch, Seq] | None = None
    asks: bool = False  # For the receiver's.


@message
class Nacks(Message, frozen=True, array_like=True, tag=18):
    """To the primary of all these shards, or to a member that may lead them next."""

    urgent: ClassVar[bool] = True

    nacks: list[Nack]


class CommitPoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything of `shard` up to `commit`, appended in `commit_epoch`, is committed."""

    shard: ShardId
    epoch: Epoch
    commit: Seq
    commit_epoch: Epoch


@message
class Prepares(Message, frozen=True, array_like=True, tag=22):
    """From the primary of all these shards. The body is the data of one entry after the other."""

    prepares: list[Prepare]
    points: tuple[CommitPoint, ...] = ()  # To be looked at after the entries.


@message
class CommitPoints(Message, frozen=True, array_like=True, tag=19):
    """From the primary of all these shards."""

    points: list[CommitPoint]


@message
class Join(Message, frozen=True, array_like=True, tag=20):
    """From a learner to the primary: start a session with me."""

    shard: ShardId
    epoch: Epoch
    nonce: int


@message
class SessionStart(Message, frozen=True, array_like=True, tag=21):
    """To a learner: your log begins behind `start`; Prepares of `session` follow."""

    shard: ShardId
    epoch: Epoch
    nonce: int
    session: int
    start: Seq
    start_epoch: Epoch
