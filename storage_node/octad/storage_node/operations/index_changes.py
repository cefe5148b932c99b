"""What a shard's log says: one struct per kind of record, and what applying it does to the index.

An operation is the metadata of a journal record, in msgpack (arrays; fields only ever appended).
It is encoded once, at the node that took the request, and travels from there through the primary
to every member unchanged. Applying one is a pure function of the operation and of where its record
lies and of what the index shows, so that every replica's index comes out the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from octad.sharding.hashing import bit_reversed, object_hash, placed_hash
from octad.sharding.ids import BucketId, Epoch, NodeId, Seq, ShardId, pool_of
from octad.storage_node.index.index_format import (
    OBJECTS,
    ROW_TABLES,
    DeadExtents,
    EncodedObject,
    IndexedObject,
    IndexedPart,
    IndexedPiece,
    IndexedUpload,
    dead_key,
    decode_object,
    decode_part,
    encode_value,
    extent_hash,
    object_key,
    part_key,
    piece_key,
    shard_order_key,
    upload_key,
)
from octad.storage_node.index.rows import ExtentRef, ObjectRow, PartRow, UploadRow
from octad.storage_node.index.shard_digest import ShardDigests
from octad.storage_node.journal.record_format import Location, RecordKind


class Barrier(msgspec.Struct, frozen=True, array_like=True):
    """The first entry of a primary's epoch: once it is committed, so is everything before it."""


class LogStart(msgspec.Struct, frozen=True, array_like=True):
    """The shard's log begins anew behind the record's seq: no entry of the log itself.

    `whole`: the rows had all of history up to here.
    """

    whole: Seq
    depth: int | None = None  # Of the shard whose log it is.


class LogSplit(msgspec.Struct, frozen=True, array_like=True):
    """The shard is split into halves of `depth` behind the record's seq: no entry of the log."""

    depth: int


class PutObject(msgspec.Struct, frozen=True, array_like=True):
    """Make `row` the object at `key`; its bytes are the record's data or the row's extents.

    Made by `put_object`. On its way to every member's index the row stays as it was encoded.
    """

    bucket: BucketId
    key: bytes
    encoded_row: msgspec.Raw

    @property
    def row(self) -> ObjectRow:
        return decode_object_row(self.encoded_row)


class DeleteObject(msgspec.Struct, frozen=True, array_like=True):
    """Remove the object at `key`."""

    bucket: BucketId
    key: bytes


class PutPiece(msgspec.Struct, frozen=True, array_like=True):
    """One piece of an extent; its bytes are the record's data.

    The rest says for what the extent was written, when and by whom, so that one which nothing names
    can be recognized.
    """

    extent: bytes
    number: int
    bucket: BucketId
    key: bytes
    upload: bytes = b""  # Empty: for no part of an upload.
    created_ms: int = 0  # When the extent was begun, by the wall clock of the front door.
    writer: NodeId = NodeId(0)  # The front door's node.


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


class QueueExtents(msgspec.Struct, frozen=True, array_like=True):
    """In the key's shard: no row was ever made that names these, and none will be."""

    bucket: BucketId
    key: bytes
    upload: bytes
    extents: tuple[ExtentRef, ...]


class DropExtent(msgspec.Struct, frozen=True, array_like=True):
    """In the extent's shard: its first `pieces` pieces are needed no more."""

    extent: bytes
    pieces: int


class ForgetExtents(msgspec.Struct, frozen=True, array_like=True):
    """In the key's shard: what the record with `queued` left without a name is dropped."""

    bucket: BucketId
    key: bytes
    queued: Seq


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """The request whose id the record carries is refused, for good and everywhere (rule R22).

    No row changes. `bucket` and `key` are those that the request was about.
    """

    bucket: BucketId
    key: bytes
    code: int


Operation: TypeAlias = (
    Barrier
    | PutObject
    | DeleteObject
    | PutPiece
    | CreateUpload
    | PutPart
    | CompleteUpload
    | AbortUpload
    | QueueExtents
    | DropExtent
    | ForgetExtents
    | Refused
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
    RecordKind.QUEUE_EXTENTS: QueueExtents,
    RecordKind.DROP_EXTENT: DropExtent,
    RecordKind.FORGET_EXTENTS: ForgetExtents,
    RecordKind.REFUSED: Refused,
}
_KINDS: dict[type[Operation], RecordKind] = {type_: kind for kind, type_ in _TYPES.items()}
_DECODE: dict[int, Callable[[bytes | memoryview], Operation]] = {
    kind: msgspec.msgpack.Decoder(type_).decode for kind, type_ in _TYPES.items()
}
decode_object_row = msgspec.msgpack.Decoder(ObjectRow).decode
decode_log_split = msgspec.msgpack.Decoder(LogSplit).decode
decode_log_start = msgspec.msgpack.Decoder(LogStart).decode
encode_operation = msgspec.msgpack.Encoder().encode


def put_object(bucket: BucketId, key: bytes, row: ObjectRow) -> PutObject:
    """The operation that makes `row` the object at `key`."""
    return PutObject(bucket, key, msgspec.Raw(encode_value(row)))


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
    if isinstance(operation, PutPiece | DropExtent):
        return extent_hash(operation.extent)
    return object_hash(operation.bucket, operation.key)


def parts_in_flight(bucket: BucketId, key: bytes, upload: bytes) -> bytes:
    """A mark that is touched while any part of `upload` is prepared and not yet committed."""
    return b"parts of " + upload_key(bucket, key, upload)


def touched(operation: Operation) -> tuple[bytes, ...]:
    """The index keys whose committed state is not the last word while `operation` is pending."""
    if type(operation) is PutObject:  # By far the most, so it is spelled out.
        return (object_key(operation.bucket, operation.key),)
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
        case DropExtent(extent=extent, pieces=pieces):
            return tuple(piece_key(extent, number) for number in range(pieces))
        case Barrier() | QueueExtents() | ForgetExtents() | Refused():
            return ()


class IndexChanges:
    """What some applied operations change: later ones of the same key win.

    `stored` gives what the index has before all of them. What rows named and no longer name goes
    into the queue of dead extents. `digests` learn of every row that changes.
    """

    __slots__ = ("_digests", "_stored", "before", "changes")

    def __init__(
        self, stored: Callable[[bytes], bytes | None], digests: ShardDigests | None = None
    ) -> None:
        self.changes: dict[bytes, bytes | None] = {}  # None: deleted.
        self.before: dict[bytes, bytes | None] = {}  # What `stored` gave.
        self._stored = stored
        self._digests = digests

    def apply(
        self, operation: Operation, location: Location, shard: ShardId, epoch: Epoch, seq: Seq
    ) -> None:
        """Add what `operation`, whose record lies at `location`, does to the index."""
        if type(operation) is not PutObject:
            self._apply_other(operation, location, shard, epoch, seq)
            self.reach(shard, seq)
            return
        # By far the most, so it is spelled out.
        index_key = object_key(operation.bucket, operation.key)
        changes = self.changes
        if index_key in changes:
            before = changes[index_key]
        else:
            before = self.before[index_key] = self._stored(index_key)
        row = operation.encoded_row
        changes[index_key] = value = encode_value(EncodedObject(location, epoch, seq, row))
        if self._digests is not None:
            self._digests.put_object(shard, seq, index_key, before, value)
        if before is None:  # Else the row has its place in the shard's order already.
            order = bit_reversed(placed_hash(index_key[1:]))
            changes[shard_order_key(order, index_key)] = b""
        elif freed := decode_object(before).row.extents:
            self._queue(operation, b"", shard, seq, freed, operation.row.extents)

    def _apply_other(
        self, operation: Operation, location: Location, shard: ShardId, epoch: Epoch, seq: Seq
    ) -> None:
        match operation:
            case PutPiece(extent=extent, number=number):
                piece = _indexed_piece(operation, location, shard, epoch, seq)
                self._put(
                    shard, extent_hash(extent), piece_key(extent, number), encode_value(piece)
                )
            case DeleteObject(bucket=bucket, key=key):
                index_key = object_key(bucket, key)
                freed = self._extents_at(index_key)
                self._delete(shard, object_hash(bucket, key), index_key)
                self._queue(operation, b"", shard, seq, freed, ())
            case CreateUpload(bucket=bucket, key=key, upload=upload, row=upload_row):
                value = encode_value(IndexedUpload(location, epoch, seq, upload_row))
                self._put(shard, object_hash(bucket, key), upload_key(bucket, key, upload), value)
            case PutPart(bucket=bucket, key=key, upload=upload, number=number, row=part_row):
                index_key = part_key(bucket, key, upload, number)
                freed = self._extents_at(index_key)
                value = encode_value(IndexedPart(location, epoch, seq, part_row))
                self._put(shard, object_hash(bucket, key), index_key, value)
                self._queue(operation, upload, shard, seq, freed, part_row.extents)
            case CompleteUpload(bucket=bucket, key=key, row=row):
                index_key = object_key(bucket, key)
                freed = self._extents_at(index_key) + self._end_upload(operation, shard)
                indexed = IndexedObject(location, epoch, seq, row)
                self._put(shard, object_hash(bucket, key), index_key, encode_value(indexed))
                self._queue(operation, b"", shard, seq, freed, row.extents)
            case AbortUpload():
                self._queue(operation, b"", shard, seq, self._end_upload(operation, shard), ())
            case _:
                self._apply_to_dead(operation, shard, seq)

    def _apply_to_dead(self, operation: Operation, shard: ShardId, seq: Seq) -> None:
        match operation:
            case QueueExtents(upload=upload, extents=extents):
                self._queue(operation, upload, shard, seq, extents, ())
            case DropExtent(extent=extent, pieces=pieces):
                for number in range(pieces):
                    self._delete(shard, extent_hash(extent), piece_key(extent, number))
            case ForgetExtents(bucket=bucket, key=key, queued=queued):
                hash_ = object_hash(bucket, key)
                self._delete(shard, hash_, dead_key(hash_, bucket, queued))
            case _:
                assert isinstance(operation, Barrier | Refused)

    def count(self, shard: ShardId, index_key: bytes, value: bytes | None) -> None:
        """The row at `index_key` is about to become `value`, says who changes `changes`."""
        if self._digests is not None:
            self._digests.change(shard, index_key, self._now(index_key), value)

    def reach(self, shard: ShardId, seq: Seq) -> None:
        """All that the entry at `seq` changes is in `changes`."""
        if self._digests is not None:
            self._digests.reach(shard, seq)

    def split(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """The changes as (what to put, what to delete)."""
        changes = self.changes.items()
        puts = [(key, value) for key, value in changes if value is not None]
        return puts, [key for key, value in changes if value is None]

    def _end_upload(
        self, operation: CompleteUpload | AbortUpload, shard: ShardId
    ) -> tuple[ExtentRef, ...]:
        """Gives what the parts named."""
        bucket, key, upload = operation.bucket, operation.key, operation.upload
        hash_ = object_hash(bucket, key)
        self._delete(shard, hash_, upload_key(bucket, key, upload))
        named: list[ExtentRef] = []
        for number in operation.parts:
            index_key = part_key(bucket, key, upload, number)
            named += self._extents_at(index_key)
            self._delete(shard, hash_, index_key)
        return tuple(named)

    def _extents_at(self, index_key: bytes) -> tuple[ExtentRef, ...]:
        """What the row of an object or part names at this moment."""
        value = self._now(index_key)
        if value is None:
            return ()
        decode = decode_object if index_key[0] == OBJECTS[0] else decode_part
        return decode(value).row.extents

    def _now(self, index_key: bytes) -> bytes | None:
        """The value at `index_key` at this moment."""
        if index_key in self.changes:
            return self.changes[index_key]
        if index_key not in self.before:
            self.before[index_key] = self._stored(index_key)
        return self.before[index_key]

    def _queue(
        self,
        operation: PutObject | DeleteObject | PutPart | CompleteUpload | AbortUpload | QueueExtents,
        upload: bytes,
        shard: ShardId,
        seq: Seq,
        freed: tuple[ExtentRef, ...],
        named: tuple[ExtentRef, ...],
    ) -> None:
        """`freed` were named until now; what is not `named` after it is dead."""
        kept = {extent.id for extent in named}
        dead = tuple(extent for extent in freed if extent.id not in kept)
        if dead:
            bucket, key = operation.bucket, operation.key
            hash_ = object_hash(bucket, key)
            entry = DeadExtents(pool_of(shard), bucket, key, upload, seq, dead)
            self._put(shard, hash_, dead_key(hash_, bucket, seq), encode_value(entry))

    def _put(self, shard: ShardId, hash_: int, key: bytes, value: bytes) -> None:
        if key[0] in ROW_TABLES:
            self.count(shard, key, value)
        self.changes[key] = value
        self.changes[shard_order_key(bit_reversed(hash_), key)] = b""

    def _delete(self, shard: ShardId, hash_: int, key: bytes) -> None:
        if key[0] in ROW_TABLES:
            self.count(shard, key, None)
        self.changes[key] = None
        self.changes[shard_order_key(bit_reversed(hash_), key)] = None


def _indexed_piece(
    operation: PutPiece, location: Location, shard: ShardId, epoch: Epoch, seq: Seq
) -> IndexedPiece:
    return IndexedPiece(
        location,
        epoch,
        seq,
        operation.bucket,
        pool_of(shard),
        operation.key,
        operation.upload,
        operation.created_ms,
        operation.writer,
    )
