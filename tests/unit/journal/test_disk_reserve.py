"""A full disk has room for a million deletes, whatever they free, by what each really writes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engine.engine_site import BUCKET
from tests.unit.index.twin_index import TwinIndex
from tests.unit.journal.journal_site import SHARD

from octad.sharding.ids import Epoch, Seq
from octad.sharding.limits import (
    EXTENT_BYTES_MAX,
    GIB,
    INLINE_BYTES_MAX,
    MIB,
    PIECE_BYTES_MAX,
    SEGMENT_BYTES,
)
from octad.storage_node.index.index_format import DEAD_EXTENTS, SEGMENT_USES
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.rocksdb import INDEX_MEMTABLE_BYTES, INDEX_MEMTABLES_MAX
from octad.storage_node.index.rows import ExtentRef, ObjectRow
from octad.storage_node.journal.disk_reserve import (
    DELETES_ON_A_FULL_DISK,
    IndexRoom,
    OnDisk,
    index_bytes_of_deletes,
    journal_bytes_of_deletes,
    reserve_of,
    room_to_copy,
)
from octad.storage_node.journal.record_format import RECORD_HEADER_BYTES, Location, SegmentId
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    DropExtent,
    ForgetExtents,
    IndexChanges,
    Operation,
    PutPiece,
    encode_operation,
    put_object,
)

HERE = Location(SegmentId(70_000), 60 * MIB, 100_000)
ROW_BYTES = 12  # Sequence number, kind and lengths, of an entry in a table of RocksDB.
FLUSHES = INDEX_MEMTABLE_BYTES * INDEX_MEMTABLES_MAX
LATER = Seq(1 << 40)


@dataclass(frozen=True)
class Written:
    """By one object: what it has in the index, and what it takes to be rid of it."""

    index: int
    entries: int
    journal_of_delete: int
    index_of_delete: int


def written_by(key: bytes, size: int) -> Written:
    """As the operations themselves have it, each alone in a batch of its own."""
    index = TwinIndex()
    row_changes = 0
    journal = 0

    def do(operation: Operation) -> None:
        nonlocal row_changes, journal
        journal += 2 * RECORD_HEADER_BYTES + len(encode_operation(operation))
        changes = IndexChanges(index.get)
        changes.apply(operation, HERE, SHARD, Epoch(9), LATER)
        puts, deletes = changes.split()
        row_changes += sum(len(key) + len(value) + ROW_BYTES for key, value in puts)
        row_changes += sum(len(key) + ROW_BYTES for key in deletes)
        index.write(puts, deletes, changes.before)

    extents = tuple(
        ExtentRef(number.to_bytes(16, "big"), min(EXTENT_BYTES_MAX, size - start))
        for number, start in enumerate(range(0, size, EXTENT_BYTES_MAX))
        if size > INLINE_BYTES_MAX
    )
    for extent in extents:
        for number in range(-(-extent.length // PIECE_BYTES_MAX)):
            do(PutPiece(extent.id, number, BUCKET, key, b"", 1 << 40))
    do(put_object(BUCKET, key, ObjectRow(size, "0" * 32, 1 << 40, extents=extents)))
    before, row_changes, journal = row_changes, 0, 0
    entries = sum(not key.startswith(SEGMENT_USES) for key, _ in index.scan(b""))
    do(DeleteObject(BUCKET, key))
    for extent in extents:
        do(DropExtent(extent.id, -(-extent.length // PIECE_BYTES_MAX)))
    if extents:
        do(ForgetExtents(BUCKET, key, LATER))
    assert not list(index.scan(DEAD_EXTENTS, past(DEAD_EXTENTS)))
    return Written(before, entries, journal, row_changes)


def disk_with(objects: int, each: Written, capacity: int, nodes: int = 1) -> OnDisk:
    stored = objects * each.index
    room = IndexRoom(stored + FLUSHES, stored, objects * each.entries)
    return OnDisk(capacity, SEGMENT_BYTES, room, nodes)


SIZES = st.one_of(
    st.integers(0, INLINE_BYTES_MAX), st.integers(INLINE_BYTES_MAX + 1, 4 * PIECE_BYTES_MAX)
)


@given(
    st.integers(1, 1024).map(lambda length: b"k" * length),
    SIZES,
    st.integers(1, 20_000_000),
    st.integers(1, 3),
)
def test_a_million_deletes_fit_between_the_last_put_and_the_last_delete(
    key: bytes, size: int, objects: int, nodes: int
) -> None:
    each = written_by(key, size)
    disk = disk_with(objects, each, nodes * objects * max(size, 1), nodes)
    deletes = min(objects, DELETES_ON_A_FULL_DISK)
    journal, index = deletes * each.journal_of_delete, deletes * each.index_of_delete
    assert journal_bytes_of_deletes(disk) >= journal
    assert index_bytes_of_deletes(disk) >= index
    reserve = reserve_of(disk)
    # All of it, on each node, before compaction has made a byte free; then a merge still has room.
    left = reserve.puts_ordered - nodes * (journal + index)
    grown = IndexRoom(disk.index.to_merge + index, disk.index.stored + index, disk.index.entries)
    assert left >= reserve_of(replace(disk, index=grown)).deletes


@given(st.integers(0, 30_000_000), st.integers(0, 10 * GIB), st.integers(1, 5))
def test_each_class_may_use_what_is_kept_for_those_before_it(
    entries: int, stored: int, nodes: int
) -> None:
    disk = OnDisk(GIB, SEGMENT_BYTES, IndexRoom(stored + FLUSHES, stored, entries), nodes)
    reserve = reserve_of(disk)
    assert reserve.puts > reserve.puts_ordered >= reserve.deletes > reserve.vital > 0
    # When deletes may take no more, every node can still copy a segment with what it writes on.
    assert room_to_copy(disk, reserve.deletes) >= 2 * SEGMENT_BYTES


@pytest.mark.parametrize(("nodes", "mib"), [(1, 432), (3, 912)])
def test_a_disk_without_objects_is_full_with_so_much_left(nodes: int, mib: int) -> None:
    disk = OnDisk(100 * GIB, SEGMENT_BYTES, IndexRoom(FLUSHES, 0, 0), nodes)
    assert reserve_of(disk).puts == mib * MIB
