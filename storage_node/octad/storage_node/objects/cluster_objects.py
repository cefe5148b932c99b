"""The object store that the front door talks to, on the cluster's shards.

Writes go to the primary of the key's shard. Reads are answered here when this node is a member and
the key is clean, otherwise by the primary, or by another member where the primary is away. Listings
ask every primary and merge. A call to a node that is away or not serving yet is tried again until
it is answered or the request's time is over: `shards/shard_client.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

from octad.client.runtime.steady_clock import now
from octad.coordinator.schema.bucket_settings import CLOSED, BucketSettings
from octad.sharding.hashing import object_hash
from octad.sharding.ids import PoolId, ShardId
from octad.sharding.map.shard_map import Pool
from octad.storage_node.index.rows import ExtentRef, ExtrasChange, ObjectRow, PartRow, UploadRow
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.objects.bucket_lifecycle import BucketLifecycle
from octad.storage_node.objects.deleting_together import DeletingTogether
from octad.storage_node.objects.extents import ExtentReader, ExtentsUnderWay, ExtentWriter
from octad.storage_node.objects.key_listing import KeyListing
from octad.storage_node.objects.upload_listing import list_uploads
from octad.storage_node.operations import conditions
from octad.storage_node.operations.appends import AppendedPiece
from octad.storage_node.operations.conditions import Condition
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    PutPart,
    create_upload,
    put_object,
)
from octad.storage_node.operations.registry import DELETIONS_LEVEL, EXTRAS_LEVEL
from octad.storage_node.replication.writes import write_of
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.shards.object_store import (
    DELETIONS_AT_ONCE,
    Appended,
    Bucket,
    CompletedPart,
    ConditionsNotKnown,
    Damaged,
    Degraded,
    ListPage,
    ListQuery,
    StoredObject,
    StoreError,
    Unavailable,
    Written,
)
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.shards.shard_service import AskPrimary, ShardService


class ClusterObjects:
    """Implements `ObjectStore`."""

    def __init__(
        self,
        client: ShardClient,
        service: ShardService,
        buckets: BucketDirectory,
        pools: Mapping[PoolId, Pool],
        next_request_id: Callable[[], bytes],
        budget: BodyBudget,
    ) -> None:
        self._client = client
        self._service = service
        self._buckets = buckets
        self._next_request_id = next_request_id
        self._budget = budget
        self._lifecycle = BucketLifecycle(client, buckets, pools, self, next_request_id)
        self._reader = ExtentReader(client, service)
        self.under_way = ExtentsUnderWay()
        self.reads = service.reads

    @property
    def keeps_extras(self) -> bool:
        """Whether every node of the cluster knows `ObjectExtras`."""
        return self._service.knows(EXTRAS_LEVEL)

    # -- buckets -------------------------------------------------------------------------------

    async def create_bucket(
        self,
        name: str,
        owner: str,
        location: str = "",
        *,
        strict: bool = False,
        settings: BucketSettings = CLOSED,
    ) -> Bucket:
        """Raises BucketAlreadyExists, NoSuchPool. A half-done deletion is finished first."""
        return await self._lifecycle.create(name, owner, location, strict=strict, settings=settings)

    async def get_bucket(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        return self._buckets.cached(name) or await self._buckets.get(name)

    async def change_bucket(
        self, bucket: Bucket, change: Callable[[BucketSettings], Mapping[str, object]]
    ) -> Bucket:
        """Raises NoSuchBucket, and what `change` raises."""
        return await self._buckets.change(bucket, change)

    async def list_buckets(self, owner: str) -> list[Bucket]:
        """All buckets of `owner`, by name."""
        return await self._buckets.refreshed_of_owner(owner)

    def used_bytes(self, bucket: Bucket) -> int:
        """As added up some seconds ago."""
        return self._buckets.used_bytes(bucket.id)

    async def delete_bucket(self, bucket: Bucket) -> None:
        """Raises BucketNotEmpty."""
        await self._lifecycle.delete(bucket)

    # -- objects -------------------------------------------------------------------------------

    async def put_object(
        self,
        bucket: Bucket,
        key: bytes,
        row: ObjectRow,
        data: bytes | memoryview,
        request_id: bytes,
        age_s: float = 0.0,
        condition: Condition | None = None,
    ) -> Written:
        """Make `row` the object at `key`."""
        if condition is not None:
            self._require_conditions()
        put = put_object(bucket.id, key, row)
        write = write_of(put, request_id, data, age_s, condition=condition)
        done = await self._client.propose(bucket.pool, write)
        return Written((done.epoch, done.seq), self._client.degraded(bucket.pool, done.copies))

    async def append_object(
        self,
        bucket: Bucket,
        key: bytes,
        piece: AppendedPiece,
        data: bytes | memoryview,
        request_id: bytes,
        age_s: float = 0.0,
        condition: Condition | None = None,
    ) -> Appended:
        """Put the piece behind the object at `key`."""
        shard = self._shard(bucket, key)
        message = messages.AppendObject(shard, bucket.id, key, piece, request_id, age_s)
        done = await self._client.change(shard, message, condition, data)
        assert isinstance(done, messages.Appended)
        degraded = self._client.degraded(bucket.pool, done.copies)
        return Appended((done.epoch, done.seq), degraded, done.etag, done.checksums)

    def _require_conditions(self) -> None:
        if not self._service.knows(conditions.LEVEL):
            raise ConditionsNotKnown

    async def get_object(self, bucket: Bucket, key: bytes) -> StoredObject | None:
        """The object, with its bytes when they are in its record."""
        hash_ = object_hash(bucket.id, key)
        shard = self._shard_of(bucket, hash_)
        try:
            return self._service.read_object(shard, hash_, bucket.id, key, True)
        except (AskPrimary, Damaged) as error:
            asking = self.reads.ask()
            stored = await self._read_elsewhere(shard, hash_, bucket, key, True, error)
        if stored is not None and stored.data is None:
            self.reads.hold(stored.row.extents[0], asking)
        return stored

    async def head_object(self, bucket: Bucket, key: bytes) -> StoredObject | None:
        """The object without its bytes."""
        hash_ = object_hash(bucket.id, key)
        shard = self._shard_of(bucket, hash_)
        try:
            return self._service.read_object(shard, hash_, bucket.id, key, False)
        except (AskPrimary, Damaged) as error:
            return await self._read_elsewhere(shard, hash_, bucket, key, False, error)

    async def get_row(self, bucket: Bucket, key: bytes) -> ObjectRow | None:
        """The object's metadata."""
        found = await self.head_object(bucket, key)
        return None if found is None else found.row

    async def _read_elsewhere(
        self,
        shard: ShardId,
        hash_: int,
        bucket: Bucket,
        key: bytes,
        with_data: bool,
        error: Exception,
    ) -> StoredObject | None:
        """Reads elsewhere what could not be read here at once, because of `error`."""
        if isinstance(error, AskPrimary):
            what = shard, hash_, bucket.id, key, with_data
            with suppress(AskPrimary, Damaged):
                return await self._service.read_applied_object(*what)
        message = messages.ReadObject(shard, bucket.id, key, with_data)
        ask = self._client.ask_all if isinstance(error, Damaged) else self._client.ask_members
        answer, body = await ask(shard, message)
        if answer.row is None:
            return None
        in_record = with_data and not answer.row.extents
        return StoredObject(answer.row, memoryview(body) if in_record else None, answer.version)

    def read_extents(
        self, bucket: Bucket, extents: Sequence[ExtentRef], start: int, end: int
    ) -> AsyncIterator[bytes | memoryview]:
        """Bytes [start, end) of the concatenated extents."""
        return self._reader.read(bucket, extents, start, end)

    async def delete_object(
        self,
        bucket: Bucket,
        key: bytes,
        request_id: bytes,
        age_s: float = 0.0,
        condition: Condition | None = None,
    ) -> Degraded | None:
        """Deleting an absent key is a success that writes nothing."""
        if condition is not None:
            self._require_conditions()
        gone = DeleteObject(bucket.id, key)
        write = write_of(gone, request_id, b"", age_s, condition=condition)
        done = await self._client.propose(bucket.pool, write)
        return self._client.degraded(bucket.pool, done.copies)

    async def delete_objects(
        self, bucket: Bucket, keys: Mapping[bytes, bytes]
    ) -> dict[bytes, Degraded | StoreError | None]:
        """Those of a shard as one entry where that is possible, the others one by one."""
        together = DeletingTogether(self._client, bucket, keys)
        if self._service.knows(DELETIONS_LEVEL):
            await together.run()
        else:
            together.left.update(dict.fromkeys(keys))
        gate = asyncio.Semaphore(DELETIONS_AT_ONCE)
        outcomes: dict[bytes, Degraded | StoreError | None] = {**together.done}

        async def delete(key: bytes, tried_at: float | None) -> None:
            async with gate:
                age_s = 0.0 if tried_at is None else now() - tried_at
                try:
                    outcomes[key] = await self.delete_object(bucket, key, keys[key], age_s)
                except StoreError as error:
                    outcomes[key] = error

        await asyncio.gather(*[delete(*each) for each in together.left.items()])
        return outcomes

    async def change_extras(
        self,
        bucket: Bucket,
        key: bytes,
        change: ExtrasChange,
        request_id: bytes,
        age_s: float = 0.0,
    ) -> Degraded | None:
        """Raises NoSuchKey."""
        shard = self._shard(bucket, key)
        message = messages.ChangeExtras(shard, bucket.id, key, change, request_id, age_s)
        done = await self._client.change(shard, message)
        return self._client.degraded(bucket.pool, done.copies)

    def new_body(
        self, bucket: Bucket, key: bytes, size: int, upload_id: bytes = b""
    ) -> ExtentWriter:
        """Where the bytes of a large body, or of a part of `upload_id`, go while they arrive."""
        return ExtentWriter(
            self._client,
            bucket,
            key,
            size,
            upload_id,
            self._next_request_id,
            self.under_way,
            self._budget,
        )

    # -- listings ------------------------------------------------------------------------------

    async def list_keys(self, bucket: Bucket, query: ListQuery) -> ListPage:
        """Each key is as fresh as a read of it; a page is not a snapshot across keys."""
        if query.limit == 0:
            return ListPage([], False)

        listing = KeyListing(self._client, bucket, query)
        return await self._client.until_answered(
            None, lambda _configuration, _patience: listing.attempt()
        )

    # -- uploads -------------------------------------------------------------------------------

    async def create_upload(
        self,
        bucket: Bucket,
        key: bytes,
        upload_id: bytes,
        row: UploadRow,
        request_id: bytes,
        age_s: float = 0.0,
    ) -> Degraded | None:
        """Open a multipart upload."""
        opened = create_upload(bucket.id, key, upload_id, row)
        write = write_of(opened, request_id, b"", age_s)
        done = await self._client.propose(bucket.pool, write)
        return self._client.degraded(bucket.pool, done.copies)

    async def get_upload(self, bucket: Bucket, key: bytes, upload_id: bytes) -> UploadRow:
        """Raises NoSuchUpload."""
        shard = self._shard(bucket, key)
        message = messages.ReadUpload(shard, bucket.id, key, upload_id)
        answer, _ = await self._client.ask_primary(shard, message)
        return answer.row

    async def put_part(
        self,
        bucket: Bucket,
        key: bytes,
        upload_id: bytes,
        number: int,
        row: PartRow,
        request_id: bytes,
        age_s: float = 0.0,
    ) -> Degraded | None:
        """Raises NoSuchUpload."""
        part = PutPart(bucket.id, key, upload_id, number, row)
        write = write_of(part, request_id, b"", age_s)
        done = await self._client.propose(bucket.pool, write)
        return self._client.degraded(bucket.pool, done.copies)

    async def list_parts(
        self, bucket: Bucket, key: bytes, upload_id: bytes, after: int, limit: int
    ) -> list[tuple[int, PartRow]]:
        """Raises NoSuchUpload."""
        shard = self._shard(bucket, key)
        message = messages.ListParts(shard, bucket.id, key, upload_id, after, limit)
        answer, _ = await self._client.ask_primary(shard, message)
        return answer.parts

    async def complete_upload(
        self,
        bucket: Bucket,
        key: bytes,
        upload_id: bytes,
        row: ObjectRow,
        parts: Sequence[CompletedPart],
        request_id: bytes,
        age_s: float = 0.0,
        condition: Condition | None = None,
    ) -> Written:
        """Raises NoSuchUpload or InvalidPart; nothing has changed then."""
        if condition is not None:
            self._require_conditions()
        shard = self._shard(bucket, key)
        chosen = [(part.number, part.etag) for part in parts]
        message = messages.CompleteParts(
            shard, bucket.id, key, upload_id, row, chosen, request_id, age_s
        )
        done = await self._client.change(shard, message, condition)
        return Written((done.epoch, done.seq), self._client.degraded(bucket.pool, done.copies))

    async def abort_upload(
        self, bucket: Bucket, key: bytes, upload_id: bytes, request_id: bytes, age_s: float = 0.0
    ) -> Degraded | None:
        """Raises NoSuchUpload."""
        shard = self._shard(bucket, key)
        message = messages.AbortParts(shard, bucket.id, key, upload_id, request_id, age_s)
        done = await self._client.change(shard, message)
        return self._client.degraded(bucket.pool, done.copies)

    async def list_uploads(
        self, bucket: Bucket, prefix: bytes, after: tuple[bytes, bytes], limit: int
    ) -> list[tuple[bytes, bytes, UploadRow]]:
        """Up to `limit` uploads past `after`, by key and upload id."""
        return await list_uploads(self._client, bucket, prefix, after, limit)

    # -- routing -------------------------------------------------------------------------------

    def _shard(self, bucket: Bucket, key: bytes) -> ShardId:
        return self._shard_of(bucket, object_hash(bucket.id, key))

    def _shard_of(self, bucket: Bucket, hash_: int) -> ShardId:
        try:
            return self._client.map.shard_of_hash(bucket.pool, hash_)
        except KeyError as error:
            raise Unavailable(f"pool {bucket.pool} is not known here yet") from error
