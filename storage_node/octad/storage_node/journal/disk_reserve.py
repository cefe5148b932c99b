"""The reserve of a disk for operations that free space: pure arithmetic on its figures.

A full disk is one that takes no more puts. From there on it takes `DELETES_ON_A_FULL_DISK` deletes,
however little they free: each needs its record in the journal, tombstones in the index, and the
records that free its extents. Compaction then has room for its copies, and the index for a merge of
its files. Each of these may use what is below it, too:

    puts          decided at this node, as a shard's primary
    puts ordered  by another primary, which did not know yet that this disk is full
    deletes       and other operations that make space dead
    vital         copies of compaction, barriers

Nodes that share a disk use up its free space together: each assumes that the others need as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from octad.sharding.limits import INLINE_BYTES_MAX
from octad.storage_node.journal.record_format import RECORD_HEADER_BYTES, RecordKind

DELETES_ON_A_FULL_DISK = 1_000_000  # The deletes that it has room for, once it takes no more puts.

# Kinds of record, as `operations/` declares them: these make stored space dead,
FREEING_KINDS: set[int] = set()
# and these give that space back, or keep shards going. Compaction's own copies do.
VITAL_KINDS: set[int] = {RecordKind.COPY}

COPIES_SEGMENTS = 2  # A node's: what compaction may write before it frees anything.
COPIES_SEGMENTS_BESIDE = 2  # Taken by others meanwhile.
ORDERED_SEGMENTS = 1  # A node's: what primaries order before they have heard.
ORDERED_SEGMENTS_BESIDE = 1

# A record alone in its batch is followed by a mark, which is a header and no more.
_RECORD_BYTES = 2 * RECORD_HEADER_BYTES
_DELETE_BYTES = _RECORD_BYTES + 16  # Beside the key: its length, and the bucket.
# FORGET_EXTENTS beside the key, and a DROP_EXTENT. An object of several extents is so large that a
# million of them do not fit on a disk.
_COLLECTION_BYTES = 2 * _RECORD_BYTES + 24 + 24
_QUEUE_ENTRIES = 4  # A row of the queue, its place in its shard's order, and both of them gone.
_ENTRIES_SMALL = 2  # An object in its record: its row, and its place in its shard's order.
_ENTRIES_LARGE = 4  # At most, for `INLINE_BYTES_MAX` in extents, its piece's included.
_LARGER_THAN_MOST = 2  # Than a mean entry: a key, or what is deleted first.


class IndexRoom(NamedTuple):
    """The index's disk usage, in bytes."""

    to_merge: int  # Temporary need, to merge its files.
    stored: int  # Its data, also in memory.
    entries: int  # How many these are.


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The figures of a disk, in bytes."""

    capacity: int
    segment: int
    index: IndexRoom
    nodes: int = 1  # Nodes on this disk.


@dataclass(frozen=True, slots=True)
class Reserve:
    """The bytes that must be free to begin another segment, for records of each kind."""

    puts: int
    puts_ordered: int
    deletes: int
    vital: int


def reserve_of(disk: OnDisk) -> Reserve:
    """See the module."""
    nodes, segment = disk.nodes, disk.segment
    vital = nodes * disk.index.to_merge
    deletes = vital + (nodes * COPIES_SEGMENTS + COPIES_SEGMENTS_BESIDE) * segment
    # Index entries of deletes need their size again for the merge that removes them.
    of_deletes = journal_bytes_of_deletes(disk) + 2 * index_bytes_of_deletes(disk)
    puts_ordered = deletes + nodes * of_deletes
    puts = puts_ordered + (nodes * ORDERED_SEGMENTS + ORDERED_SEGMENTS_BESIDE) * segment
    return Reserve(puts, puts_ordered, deletes, vital)


def room_to_copy(disk: OnDisk, free: int) -> int:
    """The bytes that compaction may write before it frees anything."""
    beside = (disk.nodes - 1) * COPIES_SEGMENTS + COPIES_SEGMENTS_BESIDE
    return free - disk.nodes * disk.index.to_merge - beside * disk.segment


def journal_bytes_of_deletes(disk: OnDisk) -> int:
    """The bytes of `deletes`, or of all possible ones, with the collection of their extents."""
    key = _LARGER_THAN_MOST * _entry_bytes(disk)
    return _objects(disk) * (_DELETE_BYTES + key) + _large(disk) * (_COLLECTION_BYTES + key)


def index_bytes_of_deletes(disk: OnDisk) -> int:
    """The growth of the index: one tombstone per entry, no larger than the entry."""
    index, large = disk.index, _large(disk)
    gone = _ENTRIES_SMALL * _objects(disk) + _ENTRIES_LARGE * (disk.capacity // INLINE_BYTES_MAX)
    entry = _LARGER_THAN_MOST * _entry_bytes(disk)
    return min(index.stored, gone * entry) + large * _QUEUE_ENTRIES * entry


def _objects(disk: OnDisk) -> int:
    return min(DELETES_ON_A_FULL_DISK, disk.index.entries // _ENTRIES_SMALL)


def _large(disk: OnDisk) -> int:
    """Objects with extents, as many as fit."""
    return min(_objects(disk), disk.capacity // INLINE_BYTES_MAX)


def _entry_bytes(disk: OnDisk) -> int:
    return disk.index.stored // max(1, disk.index.entries)
