"""How much of a disk stays free for what gives space back: arithmetic on what is known of it.

A full disk is one that takes no more puts. From there on it takes `DELETES_ON_A_FULL_DISK` deletes,
whatever they free: each needs its record in the journal, entries in the index that say that others
are gone, and the records that give its extents back. Compaction then has room for its copies, and
the index for a merge of its files. Each of these may use what is below it, too:

    puts          decided at this node, as a shard's primary
    puts ordered  by another primary, which had not heard yet that this disk is full
    deletes       and what else makes space dead
    vital         copies of compaction, barriers

Nodes that share a disk use up its free space together: each takes the others to need as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from octad.sharding.limits import INLINE_BYTES_MAX
from octad.storage_node.journal.record_format import RECORD_HEADER_BYTES, RecordKind

DELETES_ON_A_FULL_DISK = 1_000_000  # That it has room for, once it takes no more puts.

# Kinds of record, as `operations/` declares them: these make dead what is there,
FREEING_KINDS: set[int] = set()
# and these give that space back, or keep shards going. Compaction's own copies do.
VITAL_KINDS: set[int] = {RecordKind.COPY}

COPIES_SEGMENTS = 2  # A node's: what compaction may write before it gives anything back.
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
_ENTRIES_SMALL = 2  # Of an object in its record: its row, and its place in its shard's order.
_ENTRIES_LARGE = 4  # Of `INLINE_BYTES_MAX` in extents: at most as many, with those of a piece.
_LARGER_THAN_MOST = 2  # Than a mean entry: a key, or what is deleted first.


class IndexRoom(NamedTuple):
    """What the index takes of its disk, in bytes."""

    to_merge: int  # That it may need for a while, to merge its files.
    stored: int  # What it has, also in memory.
    entries: int  # How many these are.


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What is known of a disk, in bytes."""

    capacity: int
    segment: int
    index: IndexRoom
    nodes: int = 1  # How many are on it.


@dataclass(frozen=True, slots=True)
class Reserve:
    """So many bytes must be free for a further segment to be begun for records of each kind."""

    puts: int
    puts_ordered: int
    deletes: int
    vital: int


def reserve_of(disk: OnDisk) -> Reserve:
    """See the module."""
    nodes, segment = disk.nodes, disk.segment
    vital = nodes * disk.index.to_merge
    deletes = vital + (nodes * COPIES_SEGMENTS + COPIES_SEGMENTS_BESIDE) * segment
    # What deletes add to the index needs as much room again for the merge that takes it away.
    of_deletes = journal_bytes_of_deletes(disk) + 2 * index_bytes_of_deletes(disk)
    puts_ordered = deletes + nodes * of_deletes
    puts = puts_ordered + (nodes * ORDERED_SEGMENTS + ORDERED_SEGMENTS_BESIDE) * segment
    return Reserve(puts, puts_ordered, deletes, vital)


def room_to_copy(disk: OnDisk, free: int) -> int:
    """What compaction may write before it gives anything back."""
    beside = (disk.nodes - 1) * COPIES_SEGMENTS + COPIES_SEGMENTS_BESIDE
    return free - disk.nodes * disk.index.to_merge - beside * disk.segment


def journal_bytes_of_deletes(disk: OnDisk) -> int:
    """Of so many deletes, or of all that there can be, with the collection of their extents."""
    key = _LARGER_THAN_MOST * _entry_bytes(disk)
    return _objects(disk) * (_DELETE_BYTES + key) + _large(disk) * (_COLLECTION_BYTES + key)


def index_bytes_of_deletes(disk: OnDisk) -> int:
    """What the index grows by: each entry gets one that says that it is gone, and is no larger."""
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
