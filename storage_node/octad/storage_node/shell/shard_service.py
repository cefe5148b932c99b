"""What a node answers about the shards it holds, to its own front door and to other nodes alike.

Writes are checked here against the committed state and handed to the shard's replica; reads come
from the index and the journal. Raises `core.object_store`'s errors, and `AskPrimary` for a read
that this node may not answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from octad.sharding import limits
from octad.sharding.hashing import object_hash, shard_number
from octad.sharding.ids import BucketId, Epoch, PoolId, ShardId, pool_of, shard_name
from octad.sharding.shard_map import Pool
from octad.storage_node.core.index_format import (
    UPLOAD_ID_BYTES,
    IndexedObject,
    decode_object,
    decode_part,
    decode_part_key,
    decode_piece,
    decode_upload,
    decode_upload_key,
    object_key,
    objects_range,
    part_key,
    parts_prefix,
    piece_key,
    upload_key,
    uploads_range,
)
from octad.storage_node.core.listing import ListEntry, common_prefix, first_candidate, past
from octad.storage_node.core.object_store import (
    Damaged,
    DiskFull,
    InvalidPart,
    ListQuery,
    NoSuchUpload,
    StoredObject,
    Unavailable,
)
from octad.storage_node.core.operations import (
    AbortUpload,
    CompleteUpload,
    CreateUpload,
    DeleteObject,
    Operation,
    PutObject,
    PutPart,
    PutPiece,
    decode_operation,
    encode_operation,
    kind_of,
    parts_in_flight,
)
from octad.storage_node.core.record_format import Location, RecordKind
from octad.storage_node.core.rows import ObjectRow, PartRow, UploadRow
from octad.storage_node.shell.bucket_directory import BucketDirectory
from octad.storage_node.shell.index import Index
from octad.storage_node.shell.journal import Journal
from octad.storage_node.shell.journal_errors import CorruptRecord, JournalFull
from octad.storage_node.shell.shard_host import ProposalFailed, ShardHost

PASSED_OVER_MAX = 12  # Keys under a common prefix; seeking past it costs as much as these.
SCAN_KEYS_MAX = 20_000  # A listing step looks at no more, so that other requests get their turn.

log = logging.getLogger(__name__)


class AskPrimary(Exception):
    """This node cannot tell whether what it has is the last word: its primary can."""


class ShardService:
    """See the module."""

    def __init__(
        self,
        host: ShardHost,
        index: Index,
        journal: Journal,
        buckets: BucketDirectory,
        pools: dict[PoolId, Pool],
    ) -> None:
        self._host = host
        self._index = index
        self._journal = journal
        self._buckets = buckets
        self._pools = pools

    # -- writes --------------------------------------------------------------------------------

    async def propose(
        self,
        shard: ShardId,
        kind: RecordKind,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
    ) -> None:
        """Check the operation against the committed state, order it, wait until it is applied."""
        operation = decode_operation(kind, metadata)
        if isinstance(operation, DeleteObject):
            if self._is_absent(shard, operation):
                return
        elif isinstance(operation, PutPart):
            await self._require_upload(shard, operation.bucket, operation.key, operation.upload)
        elif isinstance(operation, PutObject | PutPiece | CreateUpload):
            if not self._buckets.is_active(operation.bucket):
                await self._buckets.require_active(operation.bucket)
        else:
            raise ValueError(f"a {type(operation).__name__} is not for a client to propose")
        await self._commit(shard, kind, request_id, metadata, data, operation)

    async def complete_upload(
        self,
        shard: ShardId,
        bucket: BucketId,
        key: bytes,
        upload: bytes,
        row: ObjectRow,
        parts: Sequence[tuple[int, str]],
        request_id: bytes,
    ) -> None:
        """Rule R3: what decides is committed when it is looked at, and nothing is between."""
        await self._buckets.require_active(bucket)
        await self._require_upload(shard, bucket, key, upload)
        await self._settled(shard, parts_in_flight(bucket, key, upload))
        await self._require_upload(shard, bucket, key, upload)
        standing = dict(self._parts(bucket, key, upload))
        chosen: list[PartRow] = []
        for number, etag in parts:
            part = standing.get(number)
            if part is None or part.etag != etag:
                raise InvalidPart(f"part {number}")
            chosen.append(part)
        whole = msgspec.structs.replace(
            row,
            size=sum(part.size for part in chosen),
            extents=tuple(extent for part in chosen for extent in part.extents),
            part_sizes=tuple(part.size for part in chosen),
        )
        await self._commit_operation(
            shard, CompleteUpload(bucket, key, upload, whole, tuple(standing)), request_id
        )

    async def abort_upload(
        self, shard: ShardId, bucket: BucketId, key: bytes, upload: bytes, request_id: bytes
    ) -> None:
        """Raises NoSuchUpload."""
        await self._require_upload(shard, bucket, key, upload)
        await self._settled(shard, parts_in_flight(bucket, key, upload))
        await self._require_upload(shard, bucket, key, upload)
        standing = tuple(number for number, _ in self._parts(bucket, key, upload))
        await self._commit_operation(shard, AbortUpload(bucket, key, upload, standing), request_id)

    async def close_bucket(self, bucket: BucketId) -> None:
        """Refuse new keys of `bucket` from now on, and let what is in flight settle."""
        await self._buckets.wait_until_closed(bucket)
        await self._host.drained()

    async def _commit_operation(
        self, shard: ShardId, operation: Operation, request_id: bytes
    ) -> None:
        metadata = encode_operation(operation)
        await self._commit(shard, kind_of(operation), request_id, metadata, b"", operation)

    async def _commit(
        self,
        shard: ShardId,
        kind: RecordKind,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
        operation: Operation,
    ) -> None:
        try:
            await self._host.propose(shard, kind, request_id, metadata, data, operation)
        except ProposalFailed as error:
            raise Unavailable(str(error)) from error
        except JournalFull as error:
            raise DiskFull(str(error)) from error

    def _is_absent(self, shard: ShardId, operation: DeleteObject) -> bool:
        """Certainly so: this node serves the shard and nothing is under way for the key."""
        key = object_key(operation.bucket, operation.key)
        return self._host.settled(shard, key) and self._index.get(key) is None

    async def _require_upload(
        self, shard: ShardId, bucket: BucketId, key: bytes, upload: bytes
    ) -> UploadRow:
        index_key = upload_key(bucket, key, upload)
        await self._settled(shard, index_key)
        value = self._index.get(index_key)
        if value is None:
            raise NoSuchUpload(upload.hex())
        return decode_upload(value).row

    async def _settled(self, shard: ShardId, index_key: bytes) -> None:
        """Wait until nothing that is prepared touches `index_key`; this node serves the shard."""
        give_up = asyncio.get_running_loop().time() + limits.WRITE_TIMEOUT_S
        while not self._host.settled(shard, index_key):
            if not self._host.serves(shard) or asyncio.get_running_loop().time() > give_up:
                raise Unavailable(f"shard {shard_name(shard)} cannot settle this key now")
            await self._host.applied()

    # -- reads ---------------------------------------------------------------------------------

    def read_object(
        self, shard: ShardId, bucket: BucketId, key: bytes, with_data: bool
    ) -> StoredObject | None:
        """The committed object, with its bytes when they are in its record and wanted."""
        index_key = object_key(bucket, key)
        if not self._host.knows(shard, index_key):
            raise AskPrimary(shard_name(shard))
        value = self._index.get(index_key)
        if value is None:
            return None
        indexed: IndexedObject = decode_object(value)
        if not with_data or indexed.row.extents or indexed.row.size == 0:
            return StoredObject(indexed.row, None if indexed.row.extents else b"")
        return StoredObject(indexed.row, self._read(indexed.location))

    def find_piece(self, shard: ShardId, extent: bytes, number: int) -> Location:
        """Where a piece lies here. Pieces never change, so one that is there is the right one."""
        index_key = piece_key(extent, number)
        value = self._index.get(index_key)
        if value is None:
            raise AskPrimary(shard_name(shard))
        return decode_piece(value).location

    async def read_piece(self, shard: ShardId, extent: bytes, number: int) -> memoryview:
        """A piece's bytes, read in a thread if they have to come from the disk."""
        location = self.find_piece(shard, extent, number)
        try:
            cached = self._journal.read_if_cached(location)
        except CorruptRecord as error:
            raise Damaged(str(error)) from error
        return cached.data if cached is not None else await asyncio.to_thread(self._read, location)

    def _read(self, location: Location) -> memoryview:
        try:
            return self._journal.read(location).data
        except CorruptRecord as error:
            log.error("%s", error)  # Another member's copy may well be served instead.
            raise Damaged(str(error)) from error

    def list_keys(
        self, pool: PoolId, bucket: BucketId, query: ListQuery
    ) -> tuple[list[ListEntry], bytes, bool]:
        """Of the shards that this node serves: (entries, complete up to, nothing is left)."""
        start = first_candidate(query.prefix, query.delimiter, query.after)
        entries: list[ListEntry] = []
        if start is None:
            return entries, b"", True
        depth = self._pools[pool].depth
        served = self._served_numbers(pool)
        position = object_key(bucket, start)
        end = objects_range(bucket)[1]
        looked_at = 0
        while True:
            rolled_up: bytes | None = None
            passed_over = 0
            for index_key, value in self._index.scan(position, end):
                key = index_key[5:]
                if rolled_up is not None and key.startswith(rolled_up):
                    passed_over += 1
                    if passed_over >= PASSED_OVER_MAX:
                        break
                    continue
                if not key.startswith(query.prefix):
                    return entries, b"", True
                looked_at += 1
                if shard_number(object_hash(bucket, key), depth) in served:
                    rolled_up = common_prefix(key, query.prefix, query.delimiter)
                    if rolled_up is None:
                        entries.append((key, decode_object(value).row))
                    else:
                        entries.append((rolled_up, None))
                        passed_over = 0
                    if len(entries) >= query.limit:
                        return entries, entries[-1][0], False
                if looked_at >= SCAN_KEYS_MAX:
                    return entries, key, False
            else:
                return entries, b"", True
            skip_to = past(rolled_up)
            if skip_to is None:
                return entries, b"", True
            position = object_key(bucket, skip_to)

    def served(self, pool: PoolId) -> list[tuple[ShardId, Epoch]]:
        """The shards of `pool` that this node serves as primary, with their epochs."""
        replicas = self._host.replicas
        return [
            (shard, replica.row.epoch)
            for shard, replica in replicas.items()
            if replica.row is not None and pool_of(shard) == pool and self._host.serves(shard)
        ]

    def _served_numbers(self, pool: PoolId) -> set[int]:
        return {shard & 0xFFFFFFFF for shard, _ in self.served(pool)}

    async def read_upload(
        self, shard: ShardId, bucket: BucketId, key: bytes, upload: bytes
    ) -> UploadRow:
        """Raises NoSuchUpload."""
        return await self._require_upload(shard, bucket, key, upload)

    async def list_parts(
        self, shard: ShardId, bucket: BucketId, key: bytes, upload: bytes, after: int, limit: int
    ) -> list[tuple[int, PartRow]]:
        """Up to `limit` parts with numbers above `after`; raises NoSuchUpload."""
        await self._require_upload(shard, bucket, key, upload)
        return self._parts(bucket, key, upload, after, limit)

    def _parts(
        self, bucket: BucketId, key: bytes, upload: bytes, after: int = 0, limit: int | None = None
    ) -> list[tuple[int, PartRow]]:
        start = part_key(bucket, key, upload, after + 1)
        parts: list[tuple[int, PartRow]] = []
        for index_key, value in self._index.scan(start, past(parts_prefix(bucket, key, upload))):
            if limit is not None and len(parts) >= limit:
                break
            parts.append((decode_part_key(index_key).number, decode_part(value).row))
        return parts

    def list_uploads(
        self,
        pool: PoolId,
        bucket: BucketId,
        prefix: bytes,
        after: tuple[bytes, bytes],
        limit: int,
    ) -> list[tuple[bytes, bytes, UploadRow]]:
        """Open uploads past (key, upload id) in the shards that this node serves."""
        depth = self._pools[pool].depth
        served = self._served_numbers(pool)
        _, end = uploads_range(bucket)
        start = upload_key(bucket, max(after[0], prefix), bytes(UPLOAD_ID_BYTES))
        uploads: list[tuple[bytes, bytes, UploadRow]] = []
        for index_key, value in self._index.scan(start, end):
            parsed = decode_upload_key(index_key)
            if not parsed.key.startswith(prefix):
                break
            if (parsed.key, parsed.upload_id) <= after:
                continue
            if shard_number(object_hash(bucket, parsed.key), depth) in served:
                uploads.append((parsed.key, parsed.upload_id, decode_upload(value).row))
                if len(uploads) >= limit:
                    break
        return uploads
