"""What nodes ask one another to compare their copies of shards: digests at the same entry."""

from __future__ import annotations

import msgspec

from octad.sharding.ids import Seq, ShardId
from octad.storage_node.journal.shard_state import ShardDigest
from octad.storage_node.rpc.messages import Message, Request, message


class DigestRead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One shard's digest as of `seq`."""

    shard: ShardId
    seq: Seq
    digest: ShardDigest | None  # None: unknown until its rows are counted.
    counts: int  # How often a count of its rows has agreed since the start.


@message
class DigestsRead(Message, frozen=True, array_like=True, tag=69):
    """The digests of those shards that are here."""

    digests: list[DigestRead]


@message
class ReadDigests(Request[DigestsRead], frozen=True, array_like=True, tag=68):
    """Asks for the digest of each shard at the seq given with it.

    A node that has not reached that seq waits a little; if it does not know the digest at that seq,
    it sends the present one. `count`: count the rows of these shards again, before any others.
    """

    shards: list[tuple[ShardId, Seq]]
    count: bool = False
