"""The queue of extents that no row names, in the shard of the key that had or was to have them."""

from __future__ import annotations

import msgspec

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, Seq
from octad.storage_node.index.index_format import dead_key
from octad.storage_node.index.rows import ExtentRef
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.changed_rows import ChangedRows
from octad.storage_node.operations.kind import Kind, Place, Proposer, Room


class QueueExtents(msgspec.Struct, frozen=True, array_like=True):
    """In the key's shard: no row was ever made that names these, and none will be."""

    bucket: BucketId
    key: bytes
    upload: bytes
    extents: tuple[ExtentRef, ...]


class ForgetExtents(msgspec.Struct, frozen=True, array_like=True):
    """In the key's shard: what the record with `queued` left without a name is dropped."""

    bucket: BucketId
    key: bytes
    queued: Seq


def _hash(operation: QueueExtents | ForgetExtents) -> int:
    return object_hash(operation.bucket, operation.key)


def _queue(changes: ChangedRows, queue: QueueExtents, place: Place) -> None:
    of = queue.bucket, queue.key, queue.upload, place.shard, place.seq
    changes.queue(*of, queue.extents)


def _forget(changes: ChangedRows, forget: ForgetExtents, place: Place) -> None:
    hash_ = _hash(forget)
    changes.delete(place.shard, hash_, dead_key(hash_, forget.bucket, forget.queued))


KINDS = (
    Kind(
        record=RecordKind.QUEUE_EXTENTS,
        struct=QueueExtents,
        proposer=Proposer.UPKEEP,
        room=Room.FREEING,
        hash_of=_hash,
        apply=_queue,
    ),
    Kind(
        record=RecordKind.FORGET_EXTENTS,
        struct=ForgetExtents,
        proposer=Proposer.UPKEEP,
        room=Room.FREEING,
        hash_of=_hash,
        apply=_forget,
    ),
)
