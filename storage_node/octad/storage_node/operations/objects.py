"""Objects that are put and deleted."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId
from octad.storage_node.index.index_format import object_key
from octad.storage_node.index.rows import ObjectRow, encode_row
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.journal.several_records import Several, lay_out
from octad.storage_node.operations.kind import Kind, Proposer, Room

_encode = msgspec.msgpack.Encoder().encode
decode_object_row = msgspec.msgpack.Decoder(ObjectRow).decode


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


class DeleteObjects(Several, frozen=True, array_like=True):
    """Remove several objects: each record inside is a DELETE_OBJECT. Made by `delete_objects`."""


def put_object(bucket: BucketId, key: bytes, row: ObjectRow) -> PutObject:
    """The operation that makes `row` the object at `key`."""
    return PutObject(bucket, key, encode_row(row))


def delete_objects(
    bucket: BucketId, keys: Iterable[tuple[bytes, bytes]]
) -> tuple[DeleteObjects, bytes]:
    """The operation that removes the objects at these (key, request id), and its data."""
    records, data = lay_out(
        (RecordKind.DELETE_OBJECT, request_id, _encode(DeleteObject(bucket, key)), b"")
        for key, request_id in keys
    )
    return DeleteObjects(records), data


def _hash(operation: PutObject | DeleteObject) -> int:
    return object_hash(operation.bucket, operation.key)


def _row_key(operation: PutObject) -> bytes:
    return object_key(operation.bucket, operation.key)


def _touched(operation: PutObject | DeleteObject) -> tuple[bytes, ...]:
    return (object_key(operation.bucket, operation.key),)


def _bucket(operation: PutObject | DeleteObject) -> BucketId:
    return operation.bucket


KINDS = (  # By far the most entries: `IndexChanges.apply` has cases of their own for them.
    Kind(
        record=RecordKind.PUT_OBJECT,
        struct=PutObject,
        proposer=Proposer.CLIENT,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=_touched,
        row_key=_row_key,
    ),
    Kind(
        record=RecordKind.DELETE_OBJECT,
        struct=DeleteObject,
        proposer=Proposer.CLIENT,
        room=Room.FREEING,
        kept=True,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=_touched,
    ),
    Kind(
        record=RecordKind.DELETE_OBJECTS,
        struct=DeleteObjects,
        level=4,  # DELETIONS_LEVEL
        room=Room.FREEING,
    ),
)
