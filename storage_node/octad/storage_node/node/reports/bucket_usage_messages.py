"""What nodes ask one another to add up what buckets take."""

from __future__ import annotations

from octad.sharding.ids import BucketId, ShardId
from octad.storage_node.rpc.messages import Message, Request, message


@message
class BucketUsageRead(Message, frozen=True, array_like=True, tag=73):
    """Of the shards that the node leads now: which they are, and what all of them come to."""

    shards: list[ShardId]
    buckets: list[tuple[BucketId, int, int]]  # With objects and bytes.


@message
class ReadBucketUsage(Request[BucketUsageRead], frozen=True, array_like=True, tag=72):
    """What do the shards that you lead come to?"""
