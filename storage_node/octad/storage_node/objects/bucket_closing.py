"""A bucket or topic that is being deleted is closed on every node before anything is removed."""

from __future__ import annotations

import asyncio

from octad.sharding import limits
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.shards.object_store import Bucket
from octad.storage_node.shards.retry import Patience
from octad.storage_node.shards.shard_client import LISTINGS, ShardClient


async def close_everywhere(client: ShardClient, buckets: BucketDirectory, bucket: Bucket) -> None:
    """At every member: any may lead soon. A node that becomes one later knows it by then."""
    message = messages.CloseBucket(bucket.id)

    async def attempt(_: ShardConfiguration | None, patience: Patience | None) -> None:
        # Configurations from before the bucket's state may name others.
        await buckets.refresh()
        configurations = client.view(bucket.pool).configurations.values()
        nodes = {
            member.node for configuration in configurations for member in configuration.members
        }
        calls = (client.call(n, message, b"", limits.CALL_TIMEOUT_S, LISTINGS) for n in nodes)
        await asyncio.gather(*calls)

    await client.until_answered(None, attempt)
