"""What nodes ask one another to compare their copies of shards: digests at the same entry."""

from __future__ import annotations

import msgspec

from octad.sharding.ids import Seq, ShardId
from octad.storage_node.journal.shard_state import ShardDigest
from octad.storage_node.rpc.messages import Message, Request, message


class DigestRead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of one shard, as it is or was at `seq`."""

    shard: ShardId
    seq: Seq
    digest: ShardDigest | None  # None: not known; its rows are to be counted.
    counts: int  # How often its rows were counted, and found as they should be, since the start.


@message
class DigestsRead(Message, frozen=True, array_like=True, tag=69):
    """Of those shards that are here."""

    digests: list[DigestRead]


@message
class ReadDigests(Request[DigestsRead], frozen=True, array_like=True, tag=68):
    """The digest of each shard at the seq that comes with it.

    A node that is not that far waits for it a little; where it cannot be said, that of the present
    is. `count`: count their rows anew, before any other's.
    """

    shards: list[tuple[ShardId, Seq]]
    count: bool = False
