"""One page of a bucket's open uploads: every primary is asked, all together."""

from __future__ import annotations

import asyncio

from octad.sharding import limits
from octad.sharding.ids import PoolId
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.index.rows import UploadRow
from octad.storage_node.objects.key_listing import PoolCoverage
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.listing.listing_merge import CoverageError
from octad.storage_node.shards.object_store import Bucket, NotServed
from octad.storage_node.shards.retry import Patience
from octad.storage_node.shards.shard_client import LISTINGS, ShardClient


async def list_uploads(
    client: ShardClient, bucket: Bucket, prefix: bytes, after: tuple[bytes, bytes], limit: int
) -> list[tuple[bytes, bytes, UploadRow]]:
    """Up to `limit` uploads past `after`, by key and upload id."""
    message = messages.ListUploads(bucket.pool, bucket.id, prefix, *after, limit)

    async def attempt(
        _: ShardConfiguration | None, patience: Patience | None
    ) -> list[tuple[bytes, bytes, UploadRow]]:
        try:
            return await _list_once(client, bucket.pool, message)
        except CoverageError as error:
            raise NotServed(f"listing uploads of {bucket.name}: {error}") from error

    return await client.until_answered(None, attempt)


async def _list_once(
    client: ShardClient, pool: PoolId, message: messages.ListUploads
) -> list[tuple[bytes, bytes, UploadRow]]:
    nodes = client.view(pool).led
    calls = [client.call(node, message, b"", limits.READ_TIMEOUT_S, LISTINGS) for node in nodes]
    uploads: list[tuple[bytes, bytes, UploadRow]] = []
    coverage = PoolCoverage(client, pool)
    for answer, _ in await asyncio.gather(*calls):
        uploads += answer.uploads
        coverage.add(answer)
    if missing := coverage.missing():
        raise CoverageError(f"{len(missing)} shards were not listed")
    return sorted(uploads, key=lambda upload: upload[:2])[: message.limit]
