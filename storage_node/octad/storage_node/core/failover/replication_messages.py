"""What the replicas of a shard tell each other. One-way; the meaning is in `shard_replica.py`.

Only what differs from `core/replication_messages.py`, under the same tags: fields appended with
defaults, as a newer version of the same message. `Nacks` and `CommitPoints` are those. None is
registered before the shell is switched over, since a tag belongs to one type.
"""

from __future__ import annotations

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.core import replication_messages as running
from octad.storage_node.core.messages import Message
from octad.storage_node.core.replication_messages import (
    CommitPoint,
    CommitPoints,
    Nack,
    Nacks,
)

__all__ = [
    "Ack",
    "Acks",
    "CommitPoint",
    "CommitPoints",
    "Join",
    "Nack",
    "Nacks",
    "Prepare",
    "SessionStart",
]


class Prepare(running.Prepare, frozen=True, array_like=True, tag=16):
    """From the primary: have this entry durable. The entry's data is the body."""

    session: int = 0  # Of a learner; 0 for a member.


class Ack(running.Ack, frozen=True, array_like=True, gc=False):
    """Everything of `shard` up to `upto` is verified in `epoch` and durable here."""

    session: int = 0
    whole: bool = True  # The history before it is here, too.


class Acks(Message, frozen=True, array_like=True, tag=17):
    """To the primary of all these shards."""

    acks: list[Ack]


class Join(Message, frozen=True, array_like=True, tag=20):
    """From a learner to the primary: start a session with me."""

    shard: ShardId
    epoch: Epoch
    nonce: int


class SessionStart(Message, frozen=True, array_like=True, tag=21):
    """To a learner: your log begins behind `start`; Prepares of `session` follow."""

    shard: ShardId
    epoch: Epoch
    nonce: int
    session: int
    start: Seq
    start_epoch: Epoch
