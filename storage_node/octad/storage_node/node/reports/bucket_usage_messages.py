"""Messages by which nodes add up the usage of buckets."""

from __future__ import annotations

from octad.sharding.ids import BucketId, ShardId
from octad.storage_node.rpc.messages import Message, Request, message


@message
class BucketUsageRead(Message, frozen=True, array_like=True, tag=73):
    """The shards that the node leads now, and the sums over all of them."""

    shards: list[ShardId]
    buckets: list[tuple[BucketId, int, int]]  # With objects and bytes.


@message
class ReadBucketUsage(Request[BucketUsageRead], frozen=True, array_like=True, tag=72):
    """Asks for the sums of the shards that the node leads."""
