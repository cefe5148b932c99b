"""What a shard's entries say, and what applying them does to the index.

An operation is the metadata of a journal record, in msgpack (arrays; fields only ever appended).
It is encoded once, at the node that took the request, and travels from there through the primary
to every member unchanged. Applying one is a pure function of the operation and of where its record
lies and of what the index shows, so that every replica's index comes out the same.

The files of `operations/` define each kind; callers reach them through this one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from octad.sharding.hashing import bit_reversed, object_hash, placed_hash
from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.index.index_format import (
    EncodedRow,
    decode_object_extents,
    encode_value,
    object_key,
    shard_order_key,
)
from octad.storage_node.journal.record_format import Location, RecordKind
from octad.storage_node.journal.several_records import Several
from octad.storage_node.operations.changed_rows import ChangedRows
from octad.storage_node.operations.dead_extents import ForgetExtents, QueueExtents
from octad.storage_node.operations.extent_pieces import DropExtent, PutPiece
from octad.storage_node.operations.kind import Operation, Place
from octad.storage_node.operations.objects import (
    DeleteObject,
    PutObject,
    decode_object_row,
    delete_objects,
    put_object,
)
from octad.storage_node.operations.registry import declared, decode_operation, operations_in
from octad.storage_node.operations.shard_log import (
    Barrier,
    LogSplit,
    LogStart,
    Refused,
    decode_log_split,
    decode_log_start,
)
from octad.storage_node.operations.uploads import (
    AbortUpload,
    CompleteUpload,
    CreateUpload,
    PutPart,
    complete_upload,
    create_upload,
    parts_in_flight,
)

__all__ = [
    "AbortUpload",
    "Barrier",
    "CompleteUpload",
    "CreateUpload",
    "DeleteObject",
    "DropExtent",
    "ForgetExtents",
    "IndexChanges",
    "LogSplit",
    "LogStart",
    "Operation",
    "PutObject",
    "PutPart",
    "PutPiece",
    "QueueExtents",
    "Refused",
    "complete_upload",
    "create_upload",
    "decode_log_split",
    "decode_log_start",
    "decode_object_row",
    "decode_operation",
    "delete_objects",
    "encode_operation",
    "hash_of_operation",
    "hashes_of",
    "kind_of",
    "parts_in_flight",
    "put_object",
    "touched",
]

encode_operation = msgspec.msgpack.Encoder().encode


def kind_of(operation: Operation) -> RecordKind:
    """The record kind that `operation` is written under."""
    return declared(operation).record


def hashes_of(operation: Operation) -> Sequence[int]:
    """The hashes that decide its shard: one per row; none if it is about the shard itself."""
    if isinstance(operation, Several):
        return [hash_ for each in operations_in(operation) for hash_ in hashes_of(each)]
    hash_of = declared(operation).hash_of
    return () if hash_of is None else (hash_of(operation),)


def hash_of_operation(operation: Operation) -> int:
    """The hash of an operation that is proposed; the first of several. A Barrier has none."""
    if type(operation) is PutObject or type(operation) is DeleteObject:  # By far the most.
        return object_hash(operation.bucket, operation.key)
    if isinstance(operation, Several):
        return hash_of_operation(operations_in(operation)[0])
    return hashes_of(operation)[0]


def touched(operation: Operation) -> tuple[bytes, ...]:
    """The index keys whose committed state is not the last word while `operation` is pending."""
    if type(operation) is PutObject or type(operation) is DeleteObject:  # By far the most.
        return (object_key(operation.bucket, operation.key),)
    if isinstance(operation, Several):
        return tuple([key for each in operations_in(operation) for key in touched(each)])
    return declared(operation).touched(operation)


class IndexChanges(ChangedRows):
    """What some applied operations change: later ones of the same key win.

    What rows named and no longer name goes into the queue of dead extents.
    """

    __slots__ = ()

    def apply(
        self, operation: Operation, location: Location, shard: ShardId, epoch: Epoch, seq: Seq
    ) -> None:
        """Add what `operation`, whose record lies at `location`, does to the index."""
        # These two are by far the most and have cases of their own.
        if type(operation) is PutObject:
            value = encode_value(EncodedRow(location, epoch, seq, operation.encoded_row))
        elif type(operation) is DeleteObject:
            value = None
        else:
            self._apply_other(operation, location, shard, epoch, seq)
            self.reach(shard, seq)
            return
        bucket, key = operation.bucket, operation.key
        index_key = object_key(bucket, key)
        changes = self.changes
        if index_key in changes:
            before = changes[index_key]
        else:
            before = self.before[index_key] = self._stored(index_key)
        changes[index_key] = value
        if self._digests is not None:
            self._digests.change_object(shard, seq, index_key, before, value)
        # Otherwise it has its place in the shard's order already.
        if value is None or before is None:
            order = bit_reversed(placed_hash(index_key[1:]))
            changes[shard_order_key(order, index_key)] = None if value is None else b""
        if before is not None and (freed := decode_object_extents(before).row.extents):
            named = operation.row.extents if type(operation) is PutObject else ()
            self.queue(bucket, key, b"", shard, seq, freed, named)

    def _apply_other(
        self, operation: Operation, location: Location, shard: ShardId, epoch: Epoch, seq: Seq
    ) -> None:
        if not isinstance(operation, Several):
            declared(operation).apply(self, operation, Place(location, shard, epoch, seq))
            return
        inside = zip(operations_in(operation), operation.locations(location), strict=True)
        for each, its_location in inside:
            self.apply(each, its_location, shard, epoch, seq)
