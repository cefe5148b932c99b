"""What two nodes tell each other four times a second. One-way; the meaning is in `pair_leases.py`.

A beat is worthless when it is late, so neither is ever sent again.
"""

from __future__ import annotations

from typing import ClassVar

from octad.sharding.ids import Epoch, NodeId, ShardId
from octad.storage_node.rpc.messages import Message, message


@message
class Beat(Message, frozen=True, array_like=True, tag=24):
    """Asks for a promise and for read grants."""

    urgent: ClassVar[bool] = True

    boot: int  # The sender's boot; each starts the numbers again.
    number: int
    leads_digest: int  # Of each (shard, epoch) that the sender leads with the receiver.
    follows_digest: int  # The same where the sender follows the receiver.
    leads: tuple[tuple[ShardId, Epoch], ...] | None = None  # The full list, when asked for.
    disk_full: bool = False  # The sender's disk is full: it accepts only what frees space.


@message
class BeatAnswer(Message, frozen=True, array_like=True, tag=25):
    """Answers the beat of this boot and number."""

    urgent: ClassVar[bool] = True

    boot: int
    number: int
    promised: tuple[tuple[ShardId, Epoch], ...] | None  # None: all that the beat's digest covers.
    wants_list: bool = False
    remaining: tuple[tuple[NodeId, float], ...] = ()  # Seconds left of each peer's promise to us.
    excluded: tuple[ShardId, ...] = ()  # Led by us, but not to be read alone now.
    granted: tuple[tuple[ShardId, Epoch], ...] | None = None  # None: all of `follows_digest`.
