"""Kinds of record that no octad has: notes, put alone or several in one entry, and erased.

All that is known of them is declared here, as a new kind's file would: with rows in a table of
their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from octad.sharding.hashing import object_hash
from octad.sharding.ids import BucketId, Epoch, Seq
from octad.storage_node.index.index_format import ROW_TABLES, RowTable, encode_value
from octad.storage_node.journal import disk_reserve
from octad.storage_node.journal.record_format import RECORD_KINDS, Location, RecordKind
from octad.storage_node.journal.several_records import Several, lay_out
from octad.storage_node.operations import registry
from octad.storage_node.operations.changed_rows import ChangedRows
from octad.storage_node.operations.index_changes import encode_operation
from octad.storage_node.operations.kind import Kind, Place, Proposer, Room

TABLE = b"y"


class PutNote(msgspec.Struct, frozen=True, array_like=True):
    """Its text is the record's data."""

    bucket: BucketId
    name: bytes
    number: int


class EraseNote(msgspec.Struct, frozen=True, array_like=True):
    bucket: BucketId
    name: bytes


class PutNotes(Several, frozen=True, array_like=True):
    """Several notes at once."""


class IndexedNote(msgspec.Struct, frozen=True, array_like=True):
    location: Location
    epoch: Epoch
    seq: Seq
    number: int


decode_note = msgspec.msgpack.Decoder(IndexedNote).decode


def note_key(bucket: BucketId, name: bytes) -> bytes:
    return TABLE + bucket.to_bytes(4, "big") + name


def _bucket_in(key: bytes) -> BucketId:
    return BucketId(int.from_bytes(key[1:5], "big"))


def _hash(operation: PutNote | EraseNote) -> int:
    return object_hash(operation.bucket, operation.name)


def _key(operation: PutNote | EraseNote) -> bytes:
    return note_key(operation.bucket, operation.name)


def _put(changes: ChangedRows, put: PutNote, place: Place) -> None:
    row = IndexedNote(place.location, place.epoch, place.seq, put.number)
    changes.put(place.shard, _hash(put), _key(put), encode_value(row))


def _erase(changes: ChangedRows, erase: EraseNote, place: Place) -> None:
    changes.delete(place.shard, _hash(erase), _key(erase))


def _numbered(number: int, name: str) -> RecordKind:
    """As if `RecordKind` had it."""
    kind = int.__new__(RecordKind, number)
    kind._name_, kind._value_ = name, number
    return kind


PUT_NOTE = Kind(
    record=_numbered(120, "PUT_NOTE"),
    struct=PutNote,
    proposer=Proposer.CLIENT,
    hash_of=_hash,
    bucket_of=lambda put: put.bucket,
    touched=lambda put: (_key(put),),
    row_key=_key,
    apply=_put,
    tables=(
        RowTable(
            TABLE,
            "a note",
            lambda key: object_hash(_bucket_in(key), key[5:]),
            lambda key, _value: _bucket_in(key),
            decode_note,
        ),
    ),
)
ERASE_NOTE = Kind(
    record=_numbered(121, "ERASE_NOTE"),
    struct=EraseNote,
    proposer=Proposer.CLIENT,
    room=Room.FREEING,
    kept=True,
    hash_of=_hash,
    bucket_of=lambda erase: erase.bucket,
    touched=lambda erase: (_key(erase),),
    apply=_erase,
)
PUT_NOTES = Kind(record=_numbered(122, "PUT_NOTES"), struct=PutNotes)
ALL = (PUT_NOTE, ERASE_NOTE, PUT_NOTES)
NO_LEVELS: Mapping[RecordKind, int] = {}


@contextmanager
def known(levels: Mapping[RecordKind, int] = NO_LEVELS) -> Iterator[None]:
    """This octad knows them. They are of the first format level, or of these."""
    for kind in ALL:
        registry.declare(dataclasses.replace(kind, level=levels.get(kind.record, 1)))
    try:
        yield
    finally:
        for kind in ALL:
            number = kind.record
            del registry.KINDS[number], registry.OF_STRUCT[kind.struct], RECORD_KINDS[number]
            del registry.DECODERS[number]
            registry.SEVERAL.discard(number)
            disk_reserve.FREEING_KINDS.discard(number)
        del ROW_TABLES[TABLE[0]]


def put_notes(notes: Sequence[tuple[PutNote, bytes, bytes]]) -> tuple[PutNotes, bytes]:
    """One entry of notes, each (operation, request id, text); and its data."""
    records, data = lay_out(
        (PUT_NOTE.record, request_id, encode_operation(put), text)
        for put, request_id, text in notes
    )
    return PutNotes(records), data
