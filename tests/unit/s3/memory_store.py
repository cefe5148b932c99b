"""The object store as a dictionary: what the S3 layer means by each method, in the fewest lines.

An oracle for the real one and a store for tests of the front door. Large bodies are extents that
appear only once their writer has finished; `open_bodies` and `extents` show what was left behind.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from octad.coordinator.schema.bucket_settings import CLOSED, BucketSettings
from octad.sharding.ids import BucketId, Epoch, PoolId, Seq
from octad.sharding.limits import EXTENT_BYTES_MAX, INLINE_BYTES_MAX, PART_BYTES_MIN
from octad.storage_node.index.index_format import IndexedObject
from octad.storage_node.index.rows import ExtentRef, ExtrasChange, ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.operations.appends import AppendedPiece, FormsDiffer
from octad.storage_node.operations.conditions import Condition
from octad.storage_node.replication.guards import RefusalCode, no_append, unmet
from octad.storage_node.shards.object_store import (
    Appended,
    Bucket,
    BucketAlreadyExists,
    BucketNotEmpty,
    CompletedPart,
    Damaged,
    Degraded,
    InvalidPart,
    ListPage,
    ListQuery,
    NoSuchBucket,
    NoSuchKey,
    NoSuchPool,
    NoSuchUpload,
    OtherForm,
    PartTooSmall,
    PreconditionFailed,
    StoredObject,
    StoreError,
    Written,
)
from octad.storage_node.shards.refusals import store_error

_PIECE_BYTES = 1024 * 1024
_NOWHERE = Location(SegmentId(0), 0, 0)
POOLS = {"octad-3x": PoolId(0), "octad-2x": PoolId(1)}
_CREATED_MS = 1_700_000_000_000


@dataclass(slots=True)
class _Upload:
    row: UploadRow
    seq: Seq
    parts: dict[int, PartRow] = field(default_factory=dict)


class MemoryBody:
    """A `BodyWriter`."""

    def __init__(self, store: MemoryStore, size: int, extent_bytes_max: int) -> None:
        self._store = store
        self._size = size
        self._extent_bytes_max = extent_bytes_max
        self._data = bytearray()
        self._space = memoryview(b"")
        self._finished: tuple[ExtentRef, ...] = ()
        self.largest_write = 0
        store.open_bodies.add(self)

    async def space(self) -> memoryview:
        self._store.fail_if_told()
        self._space = memoryview(bytearray(min(self._size - len(self._data), _PIECE_BYTES)))
        return self._space

    def filled(self, count: int) -> None:
        assert self._space, "space that was not asked for is nowhere"
        self.largest_write = max(self.largest_write, count)
        self._data += self._space[:count]
        self._space = memoryview(b"")

    @property
    def is_wanted(self) -> bool:
        return False

    def make_way(self) -> bool:
        return True

    async def finish(self) -> tuple[ExtentRef, ...]:
        self._store.open_bodies.remove(self)
        step = self._extent_bytes_max
        self._finished = tuple(
            self._store.add_extent(bytes(self._data[start : start + step]))
            for start in range(0, len(self._data), step)
        )
        return self._finished

    def degraded(self) -> Degraded | None:
        return None

    async def abandon(self) -> None:
        self._store.open_bodies.discard(self)
        for extent in self._finished:
            del self._store.extents[extent.id]


class MemoryStore:
    """An `ObjectStore`."""

    def __init__(self, *, extent_bytes_max: int = EXTENT_BYTES_MAX) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.objects: dict[tuple[BucketId, bytes], StoredObject] = {}
        self.uploads: dict[tuple[BucketId, bytes, bytes], _Upload] = {}
        self.extents: dict[bytes, bytes] = {}
        self.open_bodies: set[MemoryBody] = set()
        self.request_ids: list[bytes] = []  # Every write's, in order.
        self.refused: list[bytes] = []  # Completions of nothing.
        self._made: dict[bytes, StoredObject] = {}  # By the write's request id.
        self._refusals: dict[bytes, StoreError] = {}
        self.failure: StoreError | None = None  # Raised by every access to data while it is set.
        self.refusal: StoreError | None = None  # Raised by every write of a row while it is set.
        self.degraded: Degraded | None = None  # What writes are told.
        self.pieces_read = 0
        self.damaged_from: int | None = None  # Extents are damaged from this byte on.
        self._extent_bytes_max = extent_bytes_max
        self._numbers = itertools.count(1)

    def fail_if_told(self, refusal: StoreError | None = None) -> None:
        for error in (self.failure, refusal):
            if error is not None:
                raise error

    def add_extent(self, data: bytes) -> ExtentRef:
        extent = next(self._numbers).to_bytes(16, "big")
        self.extents[extent] = data
        return ExtentRef(extent, len(data))

    async def create_bucket(
        self,
        name: str,
        owner: str,
        location: str = "",
        *,
        strict: bool = False,
        settings: BucketSettings = CLOSED,
    ) -> Bucket:
        if location not in ("", *POOLS):
            raise NoSuchPool(location, list(POOLS))
        if name in self.buckets:
            raise BucketAlreadyExists(self.buckets[name].owner)
        pool = POOLS.get(location, PoolId(0))
        number = BucketId(next(self._numbers))
        bucket = Bucket(
            name,
            number,
            pool,
            owner,
            _CREATED_MS,
            strict=strict,
            location=location,
            **msgspec.structs.asdict(settings),
        )
        self.buckets[name] = bucket
        return bucket

    keeps_extras = True

    async def get_bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise NoSuchBucket
        return self.buckets[name]

    async def change_bucket(
        self, bucket: Bucket, change: Callable[[BucketSettings], Mapping[str, object]]
    ) -> Bucket:
        changed = msgspec.structs.replace(bucket, **change(self.buckets[bucket.name]))
        self.buckets[bucket.name] = changed
        return changed

    async def list_buckets(self, owner: str) -> list[Bucket]:
        return [
            self.buckets[name] for name in sorted(self.buckets) if self.buckets[name].owner == owner
        ]

    def used_bytes(self, bucket: Bucket) -> int:
        sizes = [each.row.size for (of, _), each in self.objects.items() if of == bucket.id]
        for (of, _, _), upload in self.uploads.items():
            sizes += [part.size for part in upload.parts.values() if of == bucket.id]
        return sum(sizes)

    async def delete_bucket(self, bucket: Bucket) -> None:
        if any(bucket_id == bucket.id for bucket_id, _ in self.objects):
            raise BucketNotEmpty
        del self.buckets[bucket.name]

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
        self.fail_if_told(self.refusal)
        assert len(data) == (0 if row.extents else row.size)
        assert len(data) <= INLINE_BYTES_MAX
        if self._is_allowed(request_id, age_s, condition, bucket, key):
            self._put(bucket, key, row, None if row.extents else bytes(data), request_id)
        return self._written(request_id)

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
        self.fail_if_told(self.refusal)
        assert len(data) == (0 if piece.row.extents else piece.row.size)
        if request_id not in self.request_ids:
            standing = self._standing(bucket, key)
            if (code := no_append(piece, condition, standing)) is not None:
                raise store_error(code)
            try:
                row = piece.row if standing is None else piece.behind(standing)
            except FormsDiffer as error:
                raise OtherForm from error
            before = None if standing is None else self.objects[bucket.id, key].data
            whole = None if row.extents else bytes(before or b"") + bytes(data)
            self._put(bucket, key, row, whole, request_id)
        self._is_new(request_id, age_s)
        row, written = self._made[request_id].row, self._written(request_id)
        return Appended(written.version, written.degraded, row.etag, row.checksums)

    async def get_object(self, bucket: Bucket, key: bytes) -> StoredObject | None:
        self.fail_if_told()
        return self.objects.get((bucket.id, key))

    async def head_object(self, bucket: Bucket, key: bytes) -> StoredObject | None:
        return await self.get_object(bucket, key)

    async def get_row(self, bucket: Bucket, key: bytes) -> ObjectRow | None:
        self.fail_if_told()
        stored = self.objects.get((bucket.id, key))
        return None if stored is None else stored.row

    async def change_extras(
        self,
        bucket: Bucket,
        key: bytes,
        change: ExtrasChange,
        request_id: bytes,
        age_s: float = 0.0,
    ) -> Degraded | None:
        self.fail_if_told()
        stored = self.objects.get((bucket.id, key))
        if stored is None and request_id not in self.request_ids:
            raise NoSuchKey(key.hex())
        if self._is_new(request_id, age_s):
            assert stored is not None
            if not change.is_for(stored.row.extras):
                raise PreconditionFailed("x-octad-if-version")
            row = msgspec.structs.replace(stored.row, extras=change.of(stored.row.extras))
            self.objects[bucket.id, key] = StoredObject(row, stored.data)
        return self.degraded

    async def read_extents(
        self, bucket: Bucket, extents: Sequence[ExtentRef], start: int, end: int
    ) -> AsyncIterator[bytes | memoryview]:
        data = b"".join(self.extents[extent.id] for extent in extents)
        for piece in range(start, end, _PIECE_BYTES):
            self.fail_if_told()
            if self.damaged_from is not None and piece >= self.damaged_from:
                raise Damaged(f"byte {piece}")
            self.pieces_read += 1
            yield memoryview(data)[piece : min(piece + _PIECE_BYTES, end)]

    async def delete_object(
        self,
        bucket: Bucket,
        key: bytes,
        request_id: bytes,
        age_s: float = 0.0,
        condition: Condition | None = None,
    ) -> Degraded | None:
        self.fail_if_told()
        if self._is_allowed(request_id, age_s, condition, bucket, key):
            self.objects.pop((bucket.id, key), None)
        return self.degraded

    async def delete_objects(
        self, bucket: Bucket, keys: Mapping[bytes, bytes]
    ) -> dict[bytes, Degraded | StoreError | None]:
        outcomes: dict[bytes, Degraded | StoreError | None] = {}
        for key, request_id in keys.items():
            try:
                outcomes[key] = await self.delete_object(bucket, key, request_id)
            except StoreError as error:
                outcomes[key] = error
        return outcomes

    async def list_keys(self, bucket: Bucket, query: ListQuery) -> ListPage:
        self.fail_if_told()
        entries = list(itertools.islice(self._entries(bucket, query), query.limit + 1))
        return ListPage(entries[: query.limit], truncated=len(entries) > query.limit)

    def _entries(
        self, bucket: Bucket, query: ListQuery
    ) -> Iterator[tuple[bytes, ObjectRow | None]]:
        skipped = _rolled_up(query.after, query)
        shown = None
        for (bucket_id, key), stored in sorted(self.objects.items(), key=lambda item: item[0]):
            if bucket_id != bucket.id or not key.startswith(query.prefix) or key <= query.after:
                continue
            if skipped == query.after and skipped and key.startswith(skipped):
                continue
            group = _rolled_up(key, query)
            if group is None:
                yield key, stored.row
            elif group != shown:
                shown = group
                yield group, None

    def new_body(self, bucket: Bucket, key: bytes, size: int, upload_id: bytes = b"") -> MemoryBody:
        return MemoryBody(self, size, self._extent_bytes_max)

    async def create_upload(
        self,
        bucket: Bucket,
        key: bytes,
        upload_id: bytes,
        row: UploadRow,
        request_id: bytes,
        age_s: float = 0.0,
    ) -> Degraded | None:
        if self._is_new(request_id, age_s):
            self.uploads[bucket.id, key, upload_id] = _Upload(row, self._next_seq())
        return self.degraded

    async def get_upload(self, bucket: Bucket, key: bytes, upload_id: bytes) -> UploadRow:
        return self._upload(bucket, key, upload_id).row

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
        self.fail_if_told(self.refusal)
        if request_id not in self.request_ids:
            self._upload(bucket, key, upload_id).parts[number] = row
        self._is_new(request_id, age_s)
        return self.degraded

    async def list_parts(
        self, bucket: Bucket, key: bytes, upload_id: bytes, after: int, limit: int
    ) -> list[tuple[int, PartRow]]:
        parts = sorted(self._upload(bucket, key, upload_id).parts.items())
        return [(number, row) for number, row in parts if number > after][:limit]

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
        self.fail_if_told()
        if request_id in self.request_ids:
            assert age_s, "two writes with one id"
            return self._written(request_id)
        upload = self._upload(bucket, key, upload_id)
        if not parts:
            self.refused.append(request_id)
            raise InvalidPart
        stored = [upload.parts.get(part.number) for part in parts]
        if any(s is None or s.etag != p.etag for s, p in zip(stored, parts, strict=True)):
            raise InvalidPart
        rows = [part for part in stored if part is not None]
        if any(part.size < PART_BYTES_MIN for part in rows[:-1]):
            raise PartTooSmall
        # A part sent again with the same bytes has the same ETag and other extents.
        if row.extents != tuple(extent for part in rows for extent in part.extents):
            raise InvalidPart
        self._require(condition, bucket, key)
        standing = self.objects.get((bucket.id, key))
        names_version = condition is not None and condition.version is not None
        overtaken = standing is not None and standing.version[1] > upload.seq
        if condition is not None and overtaken and not names_version:
            raise store_error(RefusalCode.OVERTAKEN)
        self._is_new(request_id, age_s)
        del self.uploads[bucket.id, key, upload_id]
        self._put(bucket, key, row, None if row.extents else b"", request_id)
        return self._written(request_id)

    async def abort_upload(
        self, bucket: Bucket, key: bytes, upload_id: bytes, request_id: bytes, age_s: float = 0.0
    ) -> Degraded | None:
        if request_id not in self.request_ids:
            self._upload(bucket, key, upload_id)
            del self.uploads[bucket.id, key, upload_id]
        self._is_new(request_id, age_s)
        return self.degraded

    async def list_uploads(
        self, bucket: Bucket, prefix: bytes, after: tuple[bytes, bytes], limit: int
    ) -> list[tuple[bytes, bytes, UploadRow]]:
        found = [
            (key, upload_id, upload.row)
            for (bucket_id, key, upload_id), upload in sorted(
                self.uploads.items(), key=lambda item: item[0]
            )
            if bucket_id == bucket.id and key.startswith(prefix) and (key, upload_id) > after
        ]
        return found[:limit]

    def _next_seq(self) -> Seq:
        return Seq(next(self._numbers))

    def _put(
        self, bucket: Bucket, key: bytes, row: ObjectRow, data: bytes | None, request_id: bytes
    ) -> None:
        made = StoredObject(row, data, (Epoch(1), self._next_seq()))
        self.objects[bucket.id, key] = self._made[request_id] = made

    def _written(self, request_id: bytes) -> Written:
        return Written(self._made[request_id].version, self.degraded)

    def _require(self, condition: Condition | None, bucket: Bucket, key: bytes) -> None:
        if condition is None:
            return
        code = unmet(condition, self._standing(bucket, key))
        if code is not None:
            raise store_error(code)

    def _is_allowed(
        self,
        request_id: bytes,
        age_s: float,
        condition: Condition | None,
        bucket: Bucket,
        key: bytes,
    ) -> bool:
        """As `_is_new`; a write that was refused stays so, however often it is tried."""
        if request_id in self._refusals:
            raise self._refusals[request_id]
        if not self._is_new(request_id, age_s):
            return False
        try:
            self._require(condition, bucket, key)
        except StoreError as error:
            self._refusals[request_id] = error
            raise
        return True

    def _standing(self, bucket: Bucket, key: bytes) -> IndexedObject | None:
        stored = self.objects.get((bucket.id, key))
        return None if stored is None else IndexedObject(_NOWHERE, *stored.version, stored.row)

    def _upload(self, bucket: Bucket, key: bytes, upload_id: bytes) -> _Upload:
        upload = self.uploads.get((bucket.id, key, upload_id))
        if upload is None:
            raise NoSuchUpload
        return upload

    def _is_new(self, request_id: bytes, age_s: float) -> bool:
        """Whether no earlier try of the write has taken effect."""
        assert len(request_id) == 16
        if request_id in self.request_ids:
            assert age_s, "two writes with one id"
            return False
        self.request_ids.append(request_id)
        return True


def _rolled_up(key: bytes, query: ListQuery) -> bytes | None:
    if not query.delimiter or not key.startswith(query.prefix):
        return None
    found = key.find(query.delimiter, len(query.prefix))
    return None if found < 0 else key[: found + len(query.delimiter)]
