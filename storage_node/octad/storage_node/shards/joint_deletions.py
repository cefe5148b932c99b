"""Objects of many shards that are deleted together: one entry of each shard's log.

It is for requests that nobody has made before: what cannot be said here of a shard as a whole is
asked for again key by key, by the same request ids (`objects/deleting_together.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from octad.sharding.ids import BucketId, ShardId
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.operations.conditions import Version
from octad.storage_node.operations.index_changes import DeleteObject, delete_objects
from octad.storage_node.replication.shard_log import NO_REQUEST
from octad.storage_node.replication.writes import write_of
from octad.storage_node.shards.object_messages import CODES, DeleteKeys, KeysDeleted
from octad.storage_node.shards.object_store import NotServed, StoreError, Unavailable
from octad.storage_node.shards.shard_service import ShardService

_Begun: TypeAlias = asyncio.Future[Version] | StoreError | None
"""None: there is nothing to delete."""


async def delete_jointly(service: ShardService, asked: DeleteKeys) -> KeysDeleted:
    """All is ordered before any of it is waited for."""
    bucket = asked.bucket
    begun = [(shard, _begin(service, shard, bucket, keys)) for shard, keys in asked.shards]
    ordered = [each for _, each in begun if isinstance(each, asyncio.Future)]
    # Of all, also where this is cancelled or one fails: none is left without anyone who hears it.
    await asyncio.gather(*ordered, return_exceptions=True)
    return KeysDeleted([await _end(service, bucket, *each) for each in begun])


def _begin(
    service: ShardService, shard: ShardId, bucket: BucketId, keys: Sequence[tuple[bytes, bytes]]
) -> _Begun:
    try:
        service.require_copies(shard, bucket, NotServed)
        ids = dict(keys)
        there = [(key, ids[key]) for key in service.present(shard, bucket, ids)]
        if not there:
            return None
        if len(there) == 1:
            ((key, request_id),) = there
            return service.begin(shard, write_of(DeleteObject(bucket, key), request_id))
        operation, data = delete_objects(bucket, there)
        return service.begin(shard, write_of(operation, NO_REQUEST, data))
    except IndexDamage as damage:
        return NotServed(str(damage))
    except StoreError as error:
        return error


async def _end(
    service: ShardService, bucket: BucketId, shard: ShardId, begun: _Begun
) -> tuple[str, int]:
    if begun is None:
        return "", 0
    try:
        if isinstance(begun, StoreError):
            raise begun
        await service.outcome(begun)
        return "", service.require_copies(shard, bucket, Unavailable)
    except StoreError as error:
        return CODES[type(error)], 0
