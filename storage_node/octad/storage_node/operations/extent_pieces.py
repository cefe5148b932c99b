"""Pieces of extents: bytes of an object that are too many for its own record."""

from __future__ import annotations

import msgspec

from octad.sharding.ids import BucketId, NodeId, pool_of
from octad.storage_node.index.index_format import (
    IndexedPiece,
    encode_value,
    extent_hash,
    piece_key,
)
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.changed_rows import ChangedRows
from octad.storage_node.operations.kind import Kind, Place, Proposer, Room


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


class DropExtent(msgspec.Struct, frozen=True, array_like=True):
    """In the extent's shard: its first `pieces` pieces are needed no more."""

    extent: bytes
    pieces: int


def _hash(operation: PutPiece | DropExtent) -> int:
    return extent_hash(operation.extent)


def _bucket(put: PutPiece) -> BucketId:
    return put.bucket


def _row_key(put: PutPiece) -> bytes:
    return piece_key(put.extent, put.number)


def _touched(put: PutPiece) -> tuple[bytes, ...]:
    return (piece_key(put.extent, put.number),)


def _dropped(drop: DropExtent) -> tuple[bytes, ...]:
    return tuple(piece_key(drop.extent, number) for number in range(drop.pieces))


def _put(changes: ChangedRows, put: PutPiece, place: Place) -> None:
    piece = IndexedPiece(
        place.location,
        place.epoch,
        place.seq,
        put.bucket,
        pool_of(place.shard),
        put.key,
        put.upload,
        put.created_ms,
        put.writer,
    )
    changes.put(place.shard, _hash(put), _row_key(put), encode_value(piece))


def _drop(changes: ChangedRows, drop: DropExtent, place: Place) -> None:
    for key in _dropped(drop):
        changes.delete(place.shard, _hash(drop), key)


KINDS = (
    Kind(
        record=RecordKind.PUT_PIECE,
        struct=PutPiece,
        proposer=Proposer.CLIENT,
        hash_of=_hash,
        bucket_of=_bucket,
        touched=_touched,
        row_key=_row_key,
        apply=_put,
    ),
    Kind(
        record=RecordKind.DROP_EXTENT,
        struct=DropExtent,
        proposer=Proposer.UPKEEP,
        room=Room.FREEING,
        kept=True,
        hash_of=_hash,
        touched=_dropped,
        apply=_drop,
    ),
)
