"""How a kind of record is declared: all that the rest of the node has to know of it.

A file of this package declares a few kinds and is named in `registry.py`. The registry is read by
the code that decodes and applies entries, copies, compacts and rebuilds, repairs and counts rows,
makes room for records, and decides which may be proposed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.index.index_format import RowTable
from octad.storage_node.journal.record_format import Location, RecordKind
from octad.storage_node.operations.changed_rows import ChangedRows

Operation: TypeAlias = msgspec.Struct
"""What an entry says: the type of one of the kinds that are entries."""


class Scope(enum.Enum):
    """What a record belongs to."""

    ENTRY = "an entry of a shard's log"
    LOG = "no entry: where a shard's log begins, or is split"
    COPY = "the node's own: what a copy of history did"


class Proposer(enum.Enum):
    """Who may ask a shard's primary for an entry of the kind, by its metadata."""

    CLIENT = "a front door, for a client"
    UPKEEP = "what frees space: it is asked for again until it is done"
    PRIMARY = "no one: the primary makes it itself"


class Room(enum.Enum):
    """What of a full disk's reserve a record may take (`journal/disk_reserve.py`)."""

    USUAL = "nothing"
    FREEING = "a part: it makes dead what is there"
    VITAL = "all: it gives that space back, or keeps shards going"


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an entry stands in its shard's log, and where its record lies here."""

    location: Location
    shard: ShardId
    epoch: Epoch
    seq: Seq


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """A kind of record. Functions take what `struct` decodes to, and return the same everywhere.

    Its request id stands in the record's header. For an entry of several records
    (`several_records.py`), whose `struct` is a `Several`, all but the first four fields follow from
    those records.
    """

    record: RecordKind
    struct: type[msgspec.Struct]  # The metadata, in msgpack.
    level: int = 1  # The first format level that has it (`format_level.py`).
    proposer: Proposer = Proposer.PRIMARY
    scope: Scope = Scope.ENTRY
    room: Room = Room.USUAL
    # Whether it is kept, copied or not, when no row shows it: it makes older records void.
    kept: bool = False
    # What such a record still says then: an operation that makes no row. None: the same.
    kept_as: Callable[[Any], Operation] | None = None
    # The hash that decides its shard; None: it is of the shard itself.
    hash_of: Callable[[Any], int] | None = None
    # The bucket that a client writes to by it.
    bucket_of: Callable[[Any], BucketId] | None = None
    # The index keys whose committed state is not the last word while it is pending.
    touched: Callable[[Any], tuple[bytes, ...]] = lambda _: ()
    # The index key of the row that names its record; None: no row does.
    row_key: Callable[[Any], bytes] | None = None
    # What it does to the rows, and which extents it leaves without a name.
    apply: Callable[[ChangedRows, Any, Place], None] = lambda _changes, _operation, _place: None
    tables: tuple[RowTable, ...] = ()  # New tables for its rows, if the index has none.
