"""Buckets made and deleted: a deletion closes the bucket on every node before it removes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol

from octad.coordinator.schema.bucket_settings import BucketSettings
from octad.sharding import limits
from octad.sharding.ids import PoolId
from octad.sharding.map.pool_names import pool_names
from octad.sharding.map.shard_map import Pool
from octad.storage_node.index.rows import UploadRow
from octad.storage_node.objects.bucket_closing import close_everywhere
from octad.storage_node.shards.bucket_directory import ACTIVE, DELETING, BucketDirectory
from octad.storage_node.shards.object_store import (
    Bucket,
    BucketAlreadyExists,
    BucketNotEmpty,
    Degraded,
    ListPage,
    ListQuery,
    NoSuchBucket,
    NoSuchPool,
    NoSuchUpload,
)
from octad.storage_node.shards.shard_client import ShardClient


class Contents(Protocol):
    """What is in buckets."""

    async def list_keys(self, bucket: Bucket, query: ListQuery, /) -> ListPage: ...

    async def list_uploads(
        self, bucket: Bucket, prefix: bytes, after: tuple[bytes, bytes], limit: int, /
    ) -> list[tuple[bytes, bytes, UploadRow]]: ...

    async def abort_upload(
        self, bucket: Bucket, key: bytes, upload_id: bytes, request_id: bytes, /
    ) -> Degraded | None: ...


class BucketLifecycle:
    """See the module."""

    def __init__(
        self,
        client: ShardClient,
        buckets: BucketDirectory,
        pools: Mapping[PoolId, Pool],
        contents: Contents,
        next_request_id: Callable[[], bytes],
    ) -> None:
        self._client = client
        self._buckets = buckets
        self._pools = pools
        self._contents = contents
        self._next_request_id = next_request_id

    async def create(
        self, name: str, owner: str, location: str, *, strict: bool, settings: BucketSettings
    ) -> Bucket:
        """Raises BucketAlreadyExists, NoSuchPool. A half-done deletion is finished first."""
        pool = await chosen_pool(location, self._pools, self._buckets)
        create = partial(
            self._buckets.create, name, owner, pool, location, strict=strict, settings=settings
        )
        try:
            return await create()
        except BucketAlreadyExists:
            half_deleted = self._buckets.deleting(name)
            if half_deleted is None or half_deleted.owner != owner:
                raise
        try:
            await self.delete(half_deleted)
        except BucketNotEmpty:  # So its deletion will not end, and the bucket stays.
            raise BucketAlreadyExists(owner) from None
        except NoSuchBucket:
            pass  # Another caller was faster.
        return await create()

    async def delete(self, bucket: Bucket) -> None:
        """Close it on every node, see that it is empty, remove it. Raises BucketNotEmpty."""
        is_removed = False
        while not is_removed:  # Another deletion may be given up meanwhile, and keys come again.
            since = await self._buckets.set_state(bucket, DELETING)
            try:
                await close_everywhere(self._client, self._buckets, bucket)
                if (await self._contents.list_keys(bucket, ListQuery(limit=1))).entries:
                    raise BucketNotEmpty(bucket.name)
            except BaseException:
                await self._buckets.set_state(bucket, ACTIVE)
                raise
            await self._abort_uploads(bucket)
            is_removed = await self._buckets.remove(bucket, since)

    async def _abort_uploads(self, bucket: Bucket) -> None:
        """No one could end them once the bucket is gone, and their parts would stay for ever."""
        contents = self._contents
        while uploads := await contents.list_uploads(bucket, b"", (b"", b""), limits.LIST_KEYS_MAX):
            for key, upload_id, _ in uploads:
                with suppress(NoSuchUpload):  # Its owner was faster.
                    await contents.abort_upload(bucket, key, upload_id, self._next_request_id())


async def chosen_pool(name: str, pools: Mapping[PoolId, Pool], buckets: BucketDirectory) -> PoolId:
    """The pool of that name, or the usual one. Raises NoSuchPool only after asking the store."""
    if not name:
        return min(pools)
    if name not in pool_names(pools.values()).values():
        await buckets.refresh()
    names = pool_names(pools.values())
    for pool, known in names.items():
        if known == name:
            return pool
    raise NoSuchPool(name, list(names.values()))
