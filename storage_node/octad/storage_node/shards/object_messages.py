"""What a front door asks of the nodes that hold a shard: requests and their answers.

Requests name what they are about; the node asked finds the shard itself and refuses (codes below)
when it is not the one to answer. Every try of a change carries the same request id; `age_s` says
how long before this one the first was made that may have taken effect (rule R16), and `asked_in` is
the epoch of the configuration by which this one goes (rule R3); 0 where the node asking is too old
to say.
"""

from __future__ import annotations

from typing import Final

import msgspec

from octad.sharding.ids import BucketId, Epoch, PoolId, Seq, ShardId
from octad.storage_node.index.rows import ExtrasChange, ObjectRow, PartRow, UploadRow
from octad.storage_node.operations.appends import AppendedPiece
from octad.storage_node.operations.conditions import NO_VERSION, Version
from octad.storage_node.rpc.messages import Message, Request, message
from octad.storage_node.shards.object_store import (
    Damaged,
    DiskFull,
    InvalidPart,
    InvalidWriteOffset,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NotServed,
    OffsetOutOfRange,
    OtherForm,
    OutcomeForgotten,
    PinExists,
    Pinned,
    PreconditionFailed,
    StoreError,
    TooManyAppends,
    TooManyAtPartition,
    Unavailable,
    UploadOvertaken,
)

# Codes of refusals; `shard_client.py` turns each into the exception of the same meaning.
UNAVAILABLE = "unavailable"
NOT_SERVED = "not-served"
OUTCOME_FORGOTTEN = "outcome-forgotten"
DAMAGED = "damaged"
DISK_FULL = "disk-full"
NO_SUCH_BUCKET = "no-such-bucket"
NO_SUCH_UPLOAD = "no-such-upload"
INVALID_PART = "invalid-part"
NO_SUCH_KEY = "no-such-key"
PRECONDITION_FAILED = "precondition-failed"
UPLOAD_OVERTAKEN = "upload-overtaken"
INVALID_WRITE_OFFSET = "invalid-write-offset"
TOO_MANY_APPENDS = "too-many-appends"
OTHER_FORM = "other-form"
OFFSET_OUT_OF_RANGE = "offset-out-of-range"
TOO_MANY_AT_PARTITION = "too-many-at-partition"
PINNED = "pinned"
PIN_EXISTS = "pin-exists"

ERRORS: Final[dict[str, type[StoreError]]] = {
    UNAVAILABLE: Unavailable,
    NOT_SERVED: NotServed,
    OUTCOME_FORGOTTEN: OutcomeForgotten,
    DAMAGED: Damaged,
    DISK_FULL: DiskFull,
    NO_SUCH_BUCKET: NoSuchBucket,
    NO_SUCH_UPLOAD: NoSuchUpload,
    INVALID_PART: InvalidPart,
    NO_SUCH_KEY: NoSuchKey,
    PRECONDITION_FAILED: PreconditionFailed,
    UPLOAD_OVERTAKEN: UploadOvertaken,
    INVALID_WRITE_OFFSET: InvalidWriteOffset,
    TOO_MANY_APPENDS: TooManyAppends,
    OTHER_FORM: OtherForm,
    OFFSET_OUT_OF_RANGE: OffsetOutOfRange,
    TOO_MANY_AT_PARTITION: TooManyAtPartition,
    PINNED: Pinned,
    PIN_EXISTS: PinExists,
}
CODES: Final = {error: code for code, error in ERRORS.items()}


@message
class Done(Message, frozen=True, array_like=True, tag=33):
    """It is committed, on `copies` members; 0: on as many as the pool keeps.

    As which entry: an epoch of 0 is unknown.
    """

    copies: int = 0
    epoch: Epoch = Epoch(0)
    seq: Seq = Seq(0)


@message
class Propose(Request[Done], frozen=True, array_like=True, tag=32):
    """To the primary: order and replicate this operation; its data is the body."""

    shard: ShardId
    kind: int
    request_id: bytes
    metadata: bytes
    age_s: float = 0.0
    asked_in: Epoch = Epoch(0)


@message
class ObjectRead(Message, frozen=True, array_like=True, tag=35):
    """The committed row, if any; the body has its bytes when they are in its record."""

    row: ObjectRow | None
    version: Version = NO_VERSION


@message
class ReadObject(Request[ObjectRead], frozen=True, array_like=True, tag=34):
    """To the primary, or to any member for a clean key."""

    shard: ShardId
    bucket: BucketId
    key: bytes
    with_data: bool


@message
class PieceRead(Message, frozen=True, array_like=True, tag=37):
    """The piece is the body."""


@message
class ReadPiece(Request[PieceRead], frozen=True, array_like=True, tag=36):
    """To any member of the extent's shard."""

    shard: ShardId
    extent: bytes
    number: int


@message
class KeysListed(Message, frozen=True, array_like=True, tag=39):
    """Entries in byte order and, for each shard that they cover, its epoch and its depth.

    They are all there are up to `frontier`, or all there are when `complete`. `as_known`: the
    shards covered are those that the request's digest stands for, and are not named once more.
    """

    entries: list[tuple[bytes, bytes | None]]  # Key and `IndexedObject`, or prefix and None.
    frontier: bytes
    complete: bool
    covered: list[tuple[ShardId, Epoch]]
    depths: tuple[int, ...] = ()
    as_known: bool = False


@message
class ListKeys(Request[KeysListed], frozen=True, array_like=True, tag=38):
    """To every primary of a pool: keys of `bucket` in the shards that you are primary of.

    `shards`: only in these, if any are named. `prefixes`: this many common prefixes count as much
    as `limit` keys; 0: `limit` of them do. `digest`: of the shards that you are primary of and
    their epochs, as the sender knows them; 0: not sent.
    """

    pool: PoolId
    bucket: BucketId
    prefix: bytes
    delimiter: bytes
    after: bytes
    limit: int
    shards: tuple[ShardId, ...] = ()
    prefixes: int = 0
    digest: int = 0


@message
class UploadRead(Message, frozen=True, array_like=True, tag=41):
    """The open upload's row."""

    row: UploadRow


@message
class ReadUpload(Request[UploadRead], frozen=True, array_like=True, tag=40):
    """To the primary: is this upload open?"""

    shard: ShardId
    bucket: BucketId
    key: bytes
    upload: bytes


@message
class PartsListed(Message, frozen=True, array_like=True, tag=43):
    """Parts in the order of their numbers."""

    parts: list[tuple[int, PartRow]]


@message
class ListParts(Request[PartsListed], frozen=True, array_like=True, tag=42):
    """To the primary: parts of an open upload with numbers above `after`."""

    shard: ShardId
    bucket: BucketId
    key: bytes
    upload: bytes
    after: int
    limit: int


@message
class UploadsListed(Message, frozen=True, array_like=True, tag=45):
    """Uploads in the order of (key, upload id), and the shards that they cover."""

    uploads: list[tuple[bytes, bytes, UploadRow]]
    covered: list[tuple[ShardId, Epoch]]
    depths: tuple[int, ...] = ()


@message
class ListUploads(Request[UploadsListed], frozen=True, array_like=True, tag=44):
    """To every primary of a pool: open uploads past (after_key, after_upload)."""

    pool: PoolId
    bucket: BucketId
    prefix: bytes
    after_key: bytes
    after_upload: bytes
    limit: int


@message
class CloseBucket(Request[Done], frozen=True, array_like=True, tag=46):
    """To every member in the bucket's pool: from now on refuse new keys of this bucket id.

    Done: you do, and what you had in flight for it as primary is in your index.
    """

    bucket: BucketId


@message
class CompleteParts(Request[Done], frozen=True, array_like=True, tag=47):
    """To the primary: complete an upload from exactly these (part number, etag) pairs."""

    shard: ShardId
    bucket: BucketId
    key: bytes
    upload: bytes
    row: ObjectRow
    parts: list[tuple[int, str]]
    request_id: bytes
    age_s: float = 0.0
    asked_in: Epoch = Epoch(0)


@message
class AbortParts(Request[Done], frozen=True, array_like=True, tag=48):
    """To the primary: end an upload without an object."""

    shard: ShardId
    bucket: BucketId
    key: bytes
    upload: bytes
    request_id: bytes
    age_s: float = 0.0
    asked_in: Epoch = Epoch(0)


@message
class ChangeExtras(Request[Done], frozen=True, array_like=True, tag=50):
    """To the primary: give an object other extras. Every node of the cluster knows them."""

    shard: ShardId
    bucket: BucketId
    key: bytes
    change: ExtrasChange
    request_id: bytes
    age_s: float = 0.0
    asked_in: Epoch = Epoch(0)


@message
class Appended(Done, frozen=True, array_like=True, tag=52):
    """Also what the object became; "" and no checksums if that is unknown."""

    etag: str = ""
    checksums: dict[str, str] = msgspec.field(default_factory=dict)


@message
class AppendObject(Request[Done], frozen=True, array_like=True, tag=51):
    """To the primary: append a piece to an object; a piece without extents is the body.

    The answer is an Appended.
    """

    shard: ShardId
    bucket: BucketId
    key: bytes
    piece: AppendedPiece
    request_id: bytes
    age_s: float = 0.0
    asked_in: Epoch = Epoch(0)


@message
class KeysDeleted(Message, frozen=True, array_like=True, tag=54):
    """For each shard, in the order of the request: the code of what was refused, "" where all is
    done, and `Done.copies`.
    """

    outcomes: list[tuple[str, int]]


@message
class DeleteKeys(Request[KeysDeleted], frozen=True, array_like=True, tag=53):
    """To the primary of all these shards: remove the objects at these (key, request id).

    Nobody has asked for any of it before. Every node of the cluster knows DELETE_OBJECTS.
    """

    bucket: BucketId
    shards: list[tuple[ShardId, list[tuple[bytes, bytes]]]]


@message
class ChangeIf(Request[Done], frozen=True, array_like=True, tag=49):
    """To the primary: carry out `change` if the object meets `condition`.

    It is a Propose, a CompleteParts or an AppendObject.

    A message of its own, which a node that knows no conditions refuses; so is a condition of which
    a node does not know all. `condition` is encoded, `change` a message.
    """

    condition: bytes
    change: bytes
