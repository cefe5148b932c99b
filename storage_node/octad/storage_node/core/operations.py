"""What a shard's log says: one struct per kind of record, and what applying it does to the index.

An operation is the metadata of a journal record, in msgpack (arrays; fields only ever appended).
It is encoded once, at the node that took the request, and travels from there through the primary
to every member unchanged. Applying one is a pure function of the operation and of where its record
lies, so that every replica's index comes out the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from octad.sharding.hashing import bit_reversed, object_hash
from octad.sharding.ids import BucketId, Epoch, Seq
from octad.storage_node.core.index_format import (
    IndexedObject,
    IndexedPart,
    IndexedPiece,
    IndexedUpload,
    encode_value,
    extent_hash,
    object_key,
    part_key,
    piece_key,
    shard_order_key,
    upload_key,
)
from octad.storage_node.core.record_format import Location, RecordKind
from octad.storage_node.core.rows import ObjectRow, PartRow, UploadRow


class Barrier(msgspec.Struct, frozen=True, array_like=True):
    """The first entry of a primary's epoch: once it is committed, so is everything before it."""


class PutObject(msgspec.Struct, frozen=True, array_like=True):
    """Make `row` the object at `key`; its bytes are the record's data or the row's extents."""

    bucket: BucketId
    key: bytes
    row: ObjectRow


class DeleteObject(msgspec.Struct, frozen=True, array_like=True):
    """Remove the object at `key`."""

    bucket: BucketId
    key: bytes


class PutPiece(msgspec.Struct, frozen=True, array_like=True):
    """One piece of an extent; its bytes are the record's data.

    `bucket` and `key` say for which object the extent was written, so that one which nothing names
    any more can be recognized.
    """

    extent: bytes
    number: int
    bucket: BucketId
    key: bytes


class CreateUpload(msgspec.Struct, frozen=True, array_like=True):
    """Open a multipart upload."""

    bucket: BucketId
    key: bytes
    upload: bytes
    row: UploadRow


class PutPart(msgspec.Struct, frozen=True, array_like=True):
    """Add a part to an open upload, or replace it."""

    bucket: BucketId
    key: bytes
    upload: bytes
    number: int
    row: PartRow


class CompleteUpload(msgspec.Struct, frozen=True, array_like=True):
    """Make `row` the object at `key`, end the upload. `parts` are all that stood."""

    bucket: BucketId
    key: bytes
    upload: bytes
    row: ObjectRow
    parts: tuple[int, ...]


class AbortUpload(msgspec.Struct, frozen=True, array_like=True):
    """End the upload without an object. `parts` are all that stood."""

    bucket: BucketId
    key: bytes
    upload: bytes
    parts: tuple[int, ...]


Operation: TypeAlias = (
    Barrier
    | PutObject
    | DeleteObject
    | PutPiece
    | CreateUpload
    | PutPart
    | CompleteUpload
    | AbortUpload
)

_TYPES: dict[RecordKind, type[Operation]] = {
    RecordKind.BARRIER: Barrier,
    RecordKind.PUT_OBJECT: PutObject,
    RecordKind.DELETE_OBJECT: DeleteObject,
    RecordKind.PUT_PIECE: PutPiece,
    RecordKind.CREATE_UPLOAD: CreateUpload,
    RecordKind.PUT_PART: PutPart,
    RecordKind.COMPLETE_UPLOAD: CompleteUpload,
    RecordKind.ABORT_UPLOAD: AbortUpload,
}
_KINDS: dict[type[Operation], RecordKind] = {type_: kind for kind, type_ in _TYPES.items()}
_DECODE: dict[int, Callable[[bytes | memoryview], Operation]] = {
    kind: msgspec.msgpack.Decoder(type_).decode for kind, type_ in _TYPES.items()
}
encode_operation = msgspec.msgpack.Encoder().encode


def kind_of(operation: Operation) -> RecordKind:
    """The record kind that `operation` is written under."""
    return _KINDS[type(operation)]


def decode_operation(kind: int, metadata: bytes | memoryview) -> Operation:
    """The inverse of `encode_operation`; raises ValueError on bytes that are none."""
    decode = _DECODE.get(kind)
    if decode is None:
        raise ValueError(f"no operation has kind {kind}: it was written by a newer octad")
    return decode(metadata)


def operation_hash(operation: Operation) -> int | None:
    """The hash that decides the operation's shard; None for one of the shard itself."""
    if isinstance(operation, Barrier):
        return None
    if isinstance(operation, PutPiece):
        return extent_hash(operation.extent)
    return object_hash(operation.bucket, operation.key)


def parts_in_flight(bucket: BucketId, key: bytes, upload: bytes) -> bytes:
    """A mark that is touched while any part of `upload` is prepared and not yet committed."""
    return b"parts of " + upload_key(bucket, key, upload)


def touched(operation: Operation) -> tuple[bytes, ...]:
    """The index keys whose committed state is not the last word while `operation` is pending."""
    match operation:
        case PutObject(bucket=bucket, key=key) | DeleteObject(bucket=bucket, key=key):
            return (object_key(bucket, key),)
        case PutPiece(extent=extent, number=number):
            return (piece_key(extent, number),)
        case PutPart(bucket=bucket, key=key, upload=upload, number=number):
            return (part_key(bucket, key, upload, number), parts_in_flight(bucket, key, upload))
        case CompleteUpload(bucket=bucket, key=key, upload=upload):
            return (object_key(bucket, key), upload_key(bucket, key, upload))
        case CreateUpload(bucket=bucket, key=key, upload=upload):
            return (upload_key(bucket, key, upload),)
        case AbortUpload(bucket=bucket, key=key, upload=upload):
            return (upload_key(bucket, key, upload),)
        case Barrier():
            return ()


class IndexChanges:
    """What some applied operations change: later ones of the same key win."""

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes: dict[bytes, bytes | None] = {}  # None: deleted.

    def apply(self, operation: Operation, location: Location, epoch: Epoch, seq: Seq) -> None:
        """Add what `operation`, whose record lies at `location`, does to the index."""
        match operation:
            case PutObject(bucket=bucket, key=key, row=row):
                indexed = IndexedObject(location, epoch, seq, row)
                self._put(object_hash(bucket, key), object_key(bucket, key), encode_value(indexed))
            case PutPiece(extent=extent, number=number):
                piece = IndexedPiece(location, epoch, seq, operation.bucket)
                self._put(extent_hash(extent), piece_key(extent, number), encode_value(piece))
            case DeleteObject(bucket=bucket, key=key):
                self._delete(object_hash(bucket, key), object_key(bucket, key))
            case CreateUpload(bucket=bucket, key=key, upload=upload, row=upload_row):
                value = encode_value(IndexedUpload(location, epoch, seq, upload_row))
                self._put(object_hash(bucket, key), upload_key(bucket, key, upload), value)
            case PutPart(bucket=bucket, key=key, upload=upload, number=number, row=part_row):
                value = encode_value(IndexedPart(location, epoch, seq, part_row))
                self._put(object_hash(bucket, key), part_key(bucket, key, upload, number), value)
            case CompleteUpload(bucket=bucket, key=key, row=row):
                self._end_upload(operation)
                indexed = IndexedObject(location, epoch, seq, row)
                self._put(object_hash(bucket, key), object_key(bucket, key), encode_value(indexed))
            case AbortUpload():
                self._end_upload(operation)
            case Barrier():
                pass

    def split(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """The changes as (what to put, what to delete)."""
        changes = self.changes.items()
        puts = [(key, value) for key, value in changes if value is not None]
        return puts, [key for key, value in changes if value is None]

    def _end_upload(self, operation: CompleteUpload | AbortUpload) -> None:
        bucket, key, upload = operation.bucket, operation.key, operation.upload
        hash_ = object_hash(bucket, key)
        self._delete(hash_, upload_key(bucket, key, upload))
        for number in operation.parts:
            self._delete(hash_, part_key(bucket, key, upload, number))

    def _put(self, hash_: int, key: bytes, value: bytes) -> None:
        self.changes[key] = value
        self.changes[shard_order_key(bit_reversed(hash_), key)] = b""

    def _delete(self, hash_: int, key: bytes) -> None:
        self.changes[key] = None
        self.changes[shard_order_key(bit_reversed(hash_), key)] = None
