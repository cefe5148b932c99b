"""What the S3 layer asks of the storage below it: the one seam between the two.

`storage_node/objects/cluster_objects.py` implements it on the shards; a dictionary implements it in
tests. Keys are the exact bytes of the (percent-decoded) S3 key.

Every method that changes something returns only after the change is durable on every member of the
shard, and says so where these are fewer than the pool keeps; one that raises `Unavailable` has an
unknown outcome: it will be seen everywhere or nowhere. Tries with the same request id take effect
once. `age_s` is how long ago the first of them may have been made; 0 where this is the first.

A write with a condition is carried out only where the object meets it at that moment; it raises one
of what `StoreError.did_nothing` is said of, or ConditionsNotKnown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from octad.coordinator.schema.bucket_settings import CLOSED, BucketSettings
from octad.sharding.ids import BucketId, PoolId
from octad.storage_node.index.index_format import ListedRow
from octad.storage_node.index.rows import ExtentRef, ExtrasChange, ObjectRow, PartRow, UploadRow
from octad.storage_node.operations.appends import AppendedPiece
from octad.storage_node.operations.conditions import NO_VERSION, Condition, Version


class Bucket(BucketSettings, frozen=True):
    """A bucket as the configuration store has it. A name made again gets a new id."""

    name: str
    id: BucketId
    pool: PoolId
    owner: str
    created_ms: int
    state: str = "active"  # Or "deleting": refuses new keys.
    strict: bool = False  # Refuses writes while a copy is missing.
    location: str = ""  # The name of its pool, if its maker named one.
    quota_bytes: int | None = None  # It may not grow beyond that.


class Topic(Bucket, frozen=True, kw_only=True):
    """A topic as the configuration store has it: a bucket whose keys are its partitions."""

    uuid: str
    partitions: int
    config: dict[str, str] = msgspec.field(default_factory=dict)


# A thousand of them at once would crowd out everybody else's writes.
DELETIONS_AT_ONCE: Final = 256


class StoreError(Exception):
    """Base of what the store answers on purpose. The S3 layer maps each class to an S3 error.

    `did_nothing`, of a write: no try of it has been carried out, nor will be. So what was stored
    for it can be given back.
    """

    did_nothing = False


class NotDone(StoreError):
    """It cannot be done. That is remembered: no later try of it is carried out."""

    did_nothing = True


class NotDoneNow(StoreError):
    """It cannot be done. That is not remembered, so an earlier try may have been carried out.

    Where there is one, whoever has made it says so.
    """

    did_nothing = True


class NoSuchBucket(NotDoneNow):
    """No bucket of that name (or it is being deleted)."""


class BucketAlreadyExists(StoreError):
    """The name is taken; `owner` says by whom."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"the bucket exists and belongs to {owner}")
        self.owner = owner


class NoSuchTopic(StoreError):
    """No topic of that name (or it is being deleted)."""


class OffsetOutOfRange(StoreError):
    """The text says which offsets the partition has."""


class TooManyAtPartition(StoreError):
    """A partition has as many of what the text names as it may have."""


class Pinned(StoreError):
    """What the text names is kept by the pin that it names."""


class PinExists(StoreError):
    """There is a pin of that name, at another offset."""


class NoSuchPool(StoreError):
    """There is no pool of that name; `names` are the existing ones."""

    def __init__(self, asked: str, names: Sequence[str]) -> None:
        super().__init__(f"there is no pool {asked!r}: the pools are {', '.join(names)}")
        self.names = names


class BucketNotEmpty(StoreError):
    """The bucket still has objects."""


class NoSuchUpload(NotDone):
    """No open multipart upload of that id for that key."""


class InvalidPart(StoreError):
    """CompleteMultipartUpload named a part that was not uploaded, or with another ETag."""


class NoSuchKey(NotDone):
    """There is no object to change, or none where a condition wants one to be."""


class PreconditionFailed(NotDone):
    """The object that stands does not meet the condition that the text names."""


class UploadOvertaken(NotDone):
    """A conditional CompleteMultipartUpload would replace what was put after the upload began."""


class InvalidWriteOffset(NotDone):
    """An append does not begin where the object ends."""


class TooManyAppends(NotDone):
    """The object has been appended to as often as it may be."""


class OtherForm(NotDoneNow):
    """An append must be sent in extents, with the object's bytes in some: it did nothing."""


class ConditionsNotKnown(StoreError):
    """Some node of the cluster does not know conditions yet."""


class PartTooSmall(StoreError):
    """A part other than the last is below S3's minimum."""


class Unavailable(StoreError):
    """Not now: a replica is missing or the shard is starting. The outcome is unknown."""


class NotServed(Unavailable):
    """The node that was asked is not the one to ask, or cannot be reached: this try did nothing."""


class OutcomeForgotten(StoreError):
    """No one can say any more whether an earlier try took effect: this one was neither carried out
    nor refused."""


class Damaged(StoreError):
    """The bytes here fail their checksum; they are reported and never served."""


class DiskFull(NotDoneNow):
    """A member's disk has no room for the write."""


@dataclass(frozen=True, slots=True)
class Degraded:
    """Reported with a write that fewer members have than its pool keeps."""

    copies: int
    replicas: int


class StoredObject(msgspec.Struct, frozen=True):
    """An object as read: its row, and its bytes when they are in its own record (else None)."""

    row: ObjectRow
    data: bytes | memoryview | None
    version: Version = NO_VERSION


class Written(msgspec.Struct, frozen=True):
    """The version of an object that was put; a retry may not know it."""

    version: Version
    degraded: Degraded | None


class Appended(Written, frozen=True):
    """An object that was appended to; a retry may not know it: then `etag` is ""."""

    etag: str
    checksums: dict[str, str]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One page of a listing, in byte order of keys. `after` is exclusive."""

    prefix: bytes = b""
    delimiter: bytes = b""
    after: bytes = b""
    limit: int = 1000  # Keys and common prefixes together.


@dataclass(frozen=True, slots=True)
class ListPage:
    """`entries` in byte order: (key, row), or (common prefix, None).

    When truncated, the next page starts `after` the last entry; where that is a common prefix, the
    next query gives that prefix as `after` and the store skips everything under it.
    """

    entries: Sequence[tuple[bytes, ObjectRow | ListedRow | None]]
    truncated: bool


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """One line of a CompleteMultipartUpload request."""

    number: int
    etag: str
    checksums: dict[str, str]


class BodyWriter(Protocol):
    """Takes a large body as it arrives and stores it, invisible, as extents."""

    async def space(self) -> memoryview:
        """Where the next bytes go, while any are left of the body.

        Waits while there is no memory for them, or storage is slower than the client.
        """

    def filled(self, count: int) -> None:
        """The first bytes of the last `space`, this many, are the next of the body."""

    @property
    def is_wanted(self) -> bool:
        """Whether others wait for memory like that of this body."""

    def make_way(self) -> bool:
        """Give up the memory that is not filled, and soon the rest; False: it cannot."""

    async def finish(self) -> tuple[ExtentRef, ...]:
        """All bytes are durable on every member: the extents that hold them, in order.

        They may be fewer than the announced size.
        """

    def degraded(self) -> Degraded | None:
        """For the bytes with the fewest copies, once they are finished."""

    async def abandon(self) -> None:
        """The client went away or its body was bad: nothing will name these bytes."""


class ObjectStore(Protocol):
    """Buckets, objects and uploads, as S3 means them."""

    @property
    def keeps_extras(self) -> bool:
        """Whether rows may have `ObjectExtras`: every node of the cluster knows them."""

    async def create_bucket(
        self,
        name: str,
        owner: str,
        location: str = "",
        *,
        strict: bool = False,
        settings: BucketSettings = CLOSED,
    ) -> Bucket:
        """In the pool called `location`, else in the first; raises NoSuchPool."""

    async def change_bucket(
        self, bucket: Bucket, change: Callable[[BucketSettings], Mapping[str, object]]
    ) -> Bucket:
        """Give that very bucket the fields of its settings that `change` says, in one step.

        `change` is called with the settings that stand, maybe several times. Raises what it raises,
        and NoSuchBucket.
        """

    async def get_bucket(self, name: str) -> Bucket:
        """From the cache when it is there; raises NoSuchBucket after asking the store itself."""

    async def list_buckets(self, owner: str) -> list[Bucket]:
        """All buckets of `owner`, by name."""

    def used_bytes(self, bucket: Bucket) -> int:
        """What its objects and the parts of its uploads take, as added up some seconds ago."""

    async def delete_bucket(self, bucket: Bucket) -> None:
        """Raises BucketNotEmpty."""

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
        """`data` holds all bytes when `row.extents` is empty, and is empty otherwise."""

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
        """In one step, put the piece behind the object; raises what refuses it, or OtherForm.

        `data` holds all bytes of the piece when it has no extents. Only where the store keeps
        extras.
        """

    async def get_object(self, bucket: Bucket, key: bytes) -> StoredObject | None: ...

    async def head_object(self, bucket: Bucket, key: bytes) -> StoredObject | None:
        """Without its bytes."""

    async def get_row(self, bucket: Bucket, key: bytes) -> ObjectRow | None: ...

    def read_extents(
        self, bucket: Bucket, extents: Sequence[ExtentRef], start: int, end: int
    ) -> AsyncIterator[bytes | memoryview]:
        """Bytes [start, end) of the concatenated extents; raises Damaged or Unavailable."""

    async def delete_object(
        self,
        bucket: Bucket,
        key: bytes,
        request_id: bytes,
        age_s: float = 0.0,
        condition: Condition | None = None,
    ) -> Degraded | None:
        """Deleting an absent key is a success that writes nothing."""

    async def delete_objects(
        self, bucket: Bucket, keys: Mapping[bytes, bytes]
    ) -> dict[bytes, Degraded | StoreError | None]:
        """`delete_object` of many keys, each with the id of a request that nobody made before.

        What became of each: what `delete_object` returns or raises.
        """

    async def list_keys(self, bucket: Bucket, query: ListQuery) -> ListPage: ...

    async def change_extras(
        self,
        bucket: Bucket,
        key: bytes,
        change: ExtrasChange,
        request_id: bytes,
        age_s: float = 0.0,
    ) -> Degraded | None:
        """In one step, all else of the object stays as it is; raises NoSuchKey.

        Only where the store keeps extras.
        """

    def new_body(self, bucket: Bucket, key: bytes, size: int, upload_id: bytes = b"") -> BodyWriter:
        """For an object of `size` bytes at `key`, or for a part of the upload."""

    async def create_upload(
        self,
        bucket: Bucket,
        key: bytes,
        upload_id: bytes,
        row: UploadRow,
        request_id: bytes,
        age_s: float = 0.0,
    ) -> Degraded | None: ...

    async def get_upload(self, bucket: Bucket, key: bytes, upload_id: bytes) -> UploadRow:
        """Raises NoSuchUpload."""

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
        """Raises NoSuchUpload, also when the upload ended while the part was on its way."""

    async def list_parts(
        self, bucket: Bucket, key: bytes, upload_id: bytes, after: int, limit: int
    ) -> list[tuple[int, PartRow]]:
        """Up to `limit` parts with numbers above `after`, in order; raises NoSuchUpload."""

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
        """In one step: check that exactly these parts stand, make `row` the object, end the upload.

        Raises NoSuchUpload or InvalidPart, this also without parts; nothing has changed then and
        the upload stays usable.
        """

    async def abort_upload(
        self, bucket: Bucket, key: bytes, upload_id: bytes, request_id: bytes, age_s: float = 0.0
    ) -> Degraded | None:
        """Raises NoSuchUpload."""

    async def list_uploads(
        self, bucket: Bucket, prefix: bytes, after: tuple[bytes, bytes], limit: int
    ) -> list[tuple[bytes, bytes, UploadRow]]:
        """Up to `limit` (key, upload id, row) past `after` = (key, upload id), in that order."""
