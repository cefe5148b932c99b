"""All kinds of record that a shard's log, or a copy of its history, leaves in the journal.

To add one, declare it in a file of this package and name its `KINDS` below; its number is given out
in `journal/record_format.py`. Nothing else has a list of kinds. A kind that an older octad would
not know has a format level above 1 and is ordered only once every node of the cluster knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from octad.sharding.ids import BucketId
from octad.storage_node.index.index_format import ROW_TABLES
from octad.storage_node.journal.disk_reserve import FREEING_KINDS, VITAL_KINDS
from octad.storage_node.journal.record_format import (
    RECORD_KINDS,
    Location,
    Record,
)
from octad.storage_node.journal.several_records import Several, request_ids
from octad.storage_node.operations import (
    conditions,
    copied_history,
    dead_extents,
    extent_pieces,
    objects,
    partitions,
    shard_log,
    uploads,
)
from octad.storage_node.operations.kind import Kind, Operation, Room, Scope

_DECLARED = (
    *objects.KINDS,
    *extent_pieces.KINDS,
    *uploads.KINDS,
    *dead_extents.KINDS,
    *shard_log.KINDS,
    *partitions.KINDS,
    *copied_history.KINDS,
)
# The highest that this octad knows. It goes up by one with the first kind of a release, or field of
# a row that an older octad would lose; so a node that knows a level knows all below it.
FORMAT_LEVEL = 5
EXTRAS_LEVEL = 3  # Rows may have extras.
DELETIONS_LEVEL = 4  # Objects of one shard may be deleted by one entry.
assert max(conditions.LEVEL, partitions.LOG_LEVEL) <= FORMAT_LEVEL

KINDS: dict[int, Kind] = {}
OF_STRUCT: dict[type[msgspec.Struct], Kind] = {}
DECODERS: dict[int, Callable[[bytes | memoryview], Any]] = {}  # Only kinds that are entries.
SEVERAL: set[int] = set()  # Kinds whose records contain others.


def declare(kind: Kind) -> None:
    """Make a kind known everywhere."""
    assert kind.record not in KINDS
    RECORD_KINDS[kind.record] = kind.record
    KINDS[kind.record] = OF_STRUCT[kind.struct] = kind
    if kind.scope is Scope.ENTRY:
        DECODERS[kind.record] = msgspec.msgpack.Decoder(kind.struct).decode
    if issubclass(kind.struct, Several):
        DECODERS[kind.record] = _checked(DECODERS[kind.record])
        SEVERAL.add(kind.record)
    if kind.room is Room.FREEING:
        FREEING_KINDS.add(kind.record)
    elif kind.room is Room.VITAL:
        VITAL_KINDS.add(kind.record)
    for table in kind.tables:
        ROW_TABLES[table.letter[0]] = table


def kind_numbered(number: int) -> Kind:
    """Raises NewerRecord where there is none."""
    return KINDS.get(number) or KINDS[RECORD_KINDS[number]]


def declared(operation: Operation) -> Kind:
    """The kind that `operation` is of."""
    return OF_STRUCT[type(operation)]


def buckets_written_by(operation: Operation) -> frozenset[BucketId]:
    """The buckets, or topics, that clients write to by `operation`."""
    if isinstance(operation, Several):
        return frozenset().union(*map(buckets_written_by, operations_in(operation)))
    bucket_of = declared(operation).bucket_of
    return frozenset() if bucket_of is None else frozenset({bucket_of(operation)})


def kinds_above(level: int) -> frozenset[int]:
    """The kinds that may not be ordered while the cluster uses `level`."""
    return frozenset(number for number, kind in KINDS.items() if kind.level > level)


def decode_operation(kind: int, metadata: bytes | memoryview) -> Any:
    """The inverse of `encode_operation`; raises ValueError on bytes that are none.

    Raises NewerRecord where this octad knows no such kind, also inside an entry of several.
    """
    decode = DECODERS.get(kind)
    if decode is None:
        raise ValueError(f"{RECORD_KINDS[kind].name} is no entry of a shard's log")
    return decode(metadata)


def request_ids_in(record: Record) -> tuple[bytes, ...]:
    """The ids of all requests that the entry with this `record` executes."""
    if record.kind not in SEVERAL:
        return (record.request_id,)
    return request_ids(decode_operation(record.kind, record.metadata), record.request_id)


def records_in(location: Location, record: Record) -> Iterable[tuple[Location, Record]]:
    """The records that rows may name: `record` itself, or the ones inside it."""
    if record.kind not in SEVERAL:
        return ((location, record),)
    several: Several = decode_operation(record.kind, record.metadata)
    return several.inside(location, record)


def operations_in(several: Several) -> list[Any]:
    """What the records inside say, in their order. Decoded once: it is asked for at every step."""
    known: dict[str, list[Any]] = several.__dict__
    operations = known.get("operations")
    if operations is None:
        operations = known["operations"] = [
            decode_operation(each.kind, each.metadata) for each in several.records
        ]
    return operations


def _checked(
    decode: Callable[[bytes | memoryview], Several],
) -> Callable[[bytes | memoryview], Several]:
    last: tuple[bytes | memoryview, Several] | None = None

    def checked(metadata: bytes | memoryview) -> Several:
        nonlocal last
        before = last  # Threads decode, too.
        if before is not None and before[0] is metadata:
            return before[1]  # Who takes an entry has just looked whether all of it is known.
        several = decode(metadata)
        rows: set[bytes] = set()
        for each, operation in zip(several.records, operations_in(several), strict=True):
            kind = KINDS[each.kind]
            touched = kind.touched(operation)
            if len(touched) != 1:
                raise ValueError(f"a {RECORD_KINDS[each.kind].name} is not of one row")
            rows.add(touched[0] if kind.row_key is None else kind.row_key(operation))
        if not rows or len(rows) < len(several.records):
            raise ValueError("an entry of several records has one for each of some rows")
        if isinstance(metadata, bytes):
            last = metadata, several
        return several

    return checked


for _kind in _DECLARED:
    assert _kind.level <= FORMAT_LEVEL
    declare(_kind)
