"""What the replicas of a shard tell each other. One-way; the meaning is in `shard_replica.py`.

Acknowledgements, refusals and commit points of many shards travel together, since one sync of a
journal makes entries of many shards durable at once.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.core.messages import Message, message


@message
class Prepare(Message, frozen=True, array_like=True, tag=16):
    """From the primary: have this entry durable. The entry's data is the body."""

    shard: ShardId
    epoch: Epoch
    entry_epoch: Epoch
    seq: Seq
    previous_epoch: Epoch
    commit: Seq
    kind: int
    request_id: bytes
    metadata: bytes
    session: int = 0  # Of a learner; 0 for a member.


class Ack(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything of `shard` up to `upto` is verified in `epoch` and durable here."""

    shard: ShardId
    epoch: Epoch
    upto: Seq
    session: int = 0
    whole: bool = True  # The history before it is here, too.


@message
class Acks(Message, frozen=True, array_like=True, tag=17):
    """To the primary of all these shards."""

    urgent: ClassVar[bool] = True

    acks: list[Ack]


class Nack(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Send what is above `verified` again."""

    shard: ShardId
    epoch: Epoch
    verified: Seq


@message
class Nacks(Message, frozen=True, array_like=True, tag=18):
    """To the primary of all these shards."""

    urgent: ClassVar[bool] = True

    nacks: list[Nack]


class CommitPoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything of `shard` up to `commit`, appended in `commit_epoch`, is committed."""

    shard: ShardId
    epoch: Epoch
    commit: Seq
    commit_epoch: Epoch


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
