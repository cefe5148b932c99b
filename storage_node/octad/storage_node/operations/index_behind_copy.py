"""Applying a shard's entries while its history is still being copied.

Rows come from two sides: entries behind the log's start, in order, and copied ranges of any age.
What makes both orders come out the same: the later seq wins, and what is deleted leaves a mark, so
that a range copied later, but of an older age, does not bring the row back. Marks go when the
replica is complete (`history/history_copier.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.index.history_format import DeletionMark, decode_mark, encode, mark_key
from octad.storage_node.index.index_format import (
    ROW_TABLES,
    decode_ordered,
    decode_shard_order_key,
)
from octad.storage_node.journal.record_format import Location
from octad.storage_node.operations.index_changes import IndexChanges, Operation

Stored: TypeAlias = Callable[[bytes], bytes | None]
_NEVER = Seq(0)


def add_behind_copy(
    changes: IndexChanges,
    shard: ShardId,
    operation: Operation,
    location: Location,
    epoch: Epoch,
    seq: Seq,
    stored: Stored,
) -> None:
    """Add what `operation` does; what `changes` already has of a key wins over what is `stored`."""
    # What rows name that came with the copy, or are still to come, is unknown here: extents that
    # die meanwhile are found like those of a write that never committed.
    one = IndexChanges(lambda _key: None)
    one.apply(operation, location, shard, epoch, seq)
    known = changes.changes
    left_alone: set[bytes] = set()
    for key, value in one.changes.items():
        if key[0] not in ROW_TABLES:
            continue
        row, mark = row_seq(key, known, stored), mark_seq(shard, key, known, stored)
        if row > seq or (value is not None and mark >= seq):
            left_alone.add(key)
        if value is None and mark < seq:
            known[mark_key(shard, key)] = encode(DeletionMark(epoch, seq))
    for key, value in one.changes.items():
        is_row = key[0] in ROW_TABLES
        if (key if is_row else decode_shard_order_key(key)) not in left_alone:
            if is_row:
                changes.count(shard, key, value)
            known[key] = value
    changes.reach(shard, seq)


def take_away(
    changes: IndexChanges,
    shard: ShardId,
    order_keys: Iterable[bytes],
    as_of: Seq,
    stored: Stored,
) -> None:
    """Rows that a source did not have as of `as_of`: delete those that are not newer."""
    known = changes.changes
    for order_key in order_keys:
        key = decode_shard_order_key(order_key)
        if mark_seq(shard, key, known, stored) < as_of:
            known[mark_key(shard, key)] = encode(DeletionMark(Epoch(0), as_of))
        if row_seq(key, known, stored) <= as_of:
            changes.count(shard, key, None)
            known[key] = known[order_key] = None


def is_newer(
    shard: ShardId, key: bytes, seq: Seq, known: dict[bytes, bytes | None], stored: Stored
) -> bool:
    """Whether a copied row of `seq` is to replace what is here: `known` already, or `stored`."""
    return row_seq(key, known, stored) < seq and mark_seq(shard, key, known, stored) < seq


def row_seq(key: bytes, known: dict[bytes, bytes | None], stored: Stored) -> Seq:
    """The seq of the row at `key`; 0 without one."""
    value = known[key] if key in known else stored(key)
    return _NEVER if value is None else decode_ordered(value).seq


def mark_seq(shard: ShardId, key: bytes, known: dict[bytes, bytes | None], stored: Stored) -> Seq:
    """Up to where rows of `key` are void; 0 without a mark."""
    place = mark_key(shard, key)
    value = known[place] if place in known else stored(place)
    return _NEVER if value is None else decode_mark(value).seq
