"""Multipart uploads: created, added to, completed or aborted."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId
from octad.storage_node.index.index_format import (
    EncodedRow,
    IndexedPart,
    encode_value,
    object_key,
    part_key,
    upload_key,
)
from octad.storage_node.index.rows import (
    ExtentRef,
    ObjectRow,
    PartRow,
    UploadRow,
    encode_row,
)
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.changed_rows import ChangedRows
from octad.storage_node.operations.kind import Kind, Place, Proposer, Room
from octad.storage_node.operations.objects import decode_object_row


class CreateUpload(msgspec.Struct, frozen=True, array_like=True):
    """Open a multipart upload. Made by `create_upload`; its row stays as it was encoded."""

    bucket: BucketId
    key: bytes
    upload: bytes
    encoded_row: msgspec.Raw


class PutPart(msgspec.Struct, frozen=True, array_like=True):
    """Add a part to an open upload, or replace it."""

    bucket: BucketId
    key: bytes
    upload: bytes
    number: int
    row: PartRow


class CompleteUpload(msgspec.Struct, frozen=True, array_like=True):
    """Make `row` the object at `key`, end the upload. `parts` are all that there were.

    Made by `complete_upload`; its row stays as it was encoded.
    """

    bucket: BucketId
    key: bytes
    upload: bytes
    encoded_row: msgspec.Raw
    parts: tuple[int, ...]

    @property
    def row(self) -> ObjectRow:
        return decode_object_row(self.encoded_row)


class AbortUpload(msgspec.Struct, frozen=True, array_like=True):
    """End the upload without an object. `parts` are all that there were."""

    bucket: BucketId
    key: bytes
    upload: bytes
    parts: tuple[int, ...]


def create_upload(bucket: BucketId, key: bytes, upload: bytes, row: UploadRow) -> CreateUpload:
    """The operation that opens an upload of what `row` says."""
    return CreateUpload(bucket, key, upload, encode_row(row))


def complete_upload(
    bucket: BucketId, key: bytes, upload: bytes, row: ObjectRow, parts: tuple[int, ...]
) -> CompleteUpload:
    """The operation that makes `row` of an upload's parts."""
    return CompleteUpload(bucket, key, upload, encode_row(row), parts)


_OfUpload: TypeAlias = CreateUpload | PutPart | CompleteUpload | AbortUpload


def parts_in_flight(bucket: BucketId, key: bytes, upload: bytes) -> bytes:
    """A mark that is touched while any part of `upload` is prepared and not yet committed."""
    return b"parts of " + upload_key(bucket, key, upload)


def _hash(operation: _OfUpload) -> int:
    return object_hash(operation.bucket, operation.key)


def _bucket(operation: _OfUpload) -> BucketId:
    return operation.bucket


def _upload_key(operation: _OfUpload) -> bytes:
    return upload_key(operation.bucket, operation.key, operation.upload)


def _part_key(part: PutPart) -> bytes:
    return part_key(part.bucket, part.key, part.upload, part.number)


def _completed_key(complete: CompleteUpload) -> bytes:
    return object_key(complete.bucket, complete.key)


def _as_abort(complete: CompleteUpload) -> AbortUpload:
    return AbortUpload(complete.bucket, complete.key, complete.upload, complete.parts)


def _create(changes: ChangedRows, create: CreateUpload, place: Place) -> None:
    upload = EncodedRow(place.location, place.epoch, place.seq, create.encoded_row)
    changes.put(place.shard, _hash(create), _upload_key(create), encode_value(upload))


def _put_part(changes: ChangedRows, put: PutPart, place: Place) -> None:
    index_key = _part_key(put)
    freed = changes.extents_at(index_key)
    part = IndexedPart(place.location, place.epoch, place.seq, put.row)
    changes.put(place.shard, _hash(put), index_key, encode_value(part))
    of = put.bucket, put.key, put.upload, place.shard, place.seq
    changes.queue(*of, freed, put.row.extents)


def _complete(changes: ChangedRows, complete: CompleteUpload, place: Place) -> None:
    index_key = _completed_key(complete)
    freed = changes.extents_at(index_key) + _end(changes, complete, place)
    row = EncodedRow(place.location, place.epoch, place.seq, complete.encoded_row)
    changes.put(place.shard, _hash(complete), index_key, encode_value(row))
    of = complete.bucket, complete.key, b"", place.shard, place.seq
    changes.queue(*of, freed, complete.row.extents)


def _abort(changes: ChangedRows, abort: AbortUpload, place: Place) -> None:
    freed = _end(changes, abort, place)
    changes.queue(abort.bucket, abort.key, b"", place.shard, place.seq, freed)


def _end(
    changes: ChangedRows, operation: CompleteUpload | AbortUpload, place: Place
) -> tuple[ExtentRef, ...]:
    """Returns the extents that the parts named."""
    bucket, key, upload = operation.bucket, operation.key, operation.upload
    hash_ = _hash(operation)
    changes.delete(place.shard, hash_, upload_key(bucket, key, upload))
    named: list[ExtentRef] = []
    for number in operation.parts:
        index_key = part_key(bucket, key, upload, number)
        named += changes.extents_at(index_key)
        changes.delete(place.shard, hash_, index_key)
    return tuple(named)


KINDS = (
    Kind(
        record=RecordKind.CREATE_UPLOAD,
        struct=CreateUpload,
        proposer=Proposer.CLIENT,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda create: (_upload_key(create),),
        row_key=_upload_key,
        apply=_create,
    ),
    Kind(
        record=RecordKind.PUT_PART,
        struct=PutPart,
        proposer=Proposer.CLIENT,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda put: (_part_key(put), parts_in_flight(put.bucket, put.key, put.upload)),
        row_key=_part_key,
        apply=_put_part,
    ),
    Kind(
        record=RecordKind.COMPLETE_UPLOAD,
        struct=CompleteUpload,
        kept=True,
        kept_as=_as_abort,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda complete: (_completed_key(complete), _upload_key(complete)),
        row_key=_completed_key,
        apply=_complete,
    ),
    Kind(
        record=RecordKind.ABORT_UPLOAD,
        struct=AbortUpload,
        room=Room.FREEING,
        kept=True,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=lambda abort: (_upload_key(abort),),
        apply=_abort,
    ),
)
