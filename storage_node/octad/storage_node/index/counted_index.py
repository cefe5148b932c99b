"""The index of rows: with them, each batch carries what they leave alive of every segment, and what
all rows of each shard and bucket amount to, which every change of a row reports to `digests`.

So the counts are exact after any crash, and a restart reads one small entry a segment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from octad.storage_node.index.index import NOTHING_READ, Index
from octad.storage_node.index.index_format import (
    BUCKET_USAGES,
    POSITION_KEY,
    ROW_TABLES,
    SEGMENT_USES,
    SHARD_STATES,
    decode_position,
    decode_shard_state,
    decode_shard_state_key,
    encode_position,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.shard_digest import ShardDigests
from octad.storage_node.index.space_ledger import SpaceLedger
from octad.storage_node.journal.disk_room import DiskRoom
from octad.storage_node.journal.record_format import Position, SegmentId


class Written(Protocol):
    """The index's view of the journal."""

    durable_to: Position

    def take_sealed(self) -> list[tuple[SegmentId, int]]: ...

    @property
    def room(self) -> DiskRoom: ...


class CountedIndex(Index):
    """An `Index` whose writes are counted in `ledger`, and by shard in `digests`."""

    def _begin(self) -> None:
        super()._begin()
        self.ledger = SpaceLedger(self.scan(SEGMENT_USES, past(SEGMENT_USES)))
        states = self.scan(SHARD_STATES, past(SHARD_STATES))
        self.digests = ShardDigests(
            ((decode_shard_state_key(key), decode_shard_state(value)) for key, value in states),
            self.scan(BUCKET_USAGES, past(BUCKET_USAGES)),
        )
        self.before_flush: Callable[[], None] = _nothing
        self._journal: Written | None = None
        if self._position and not self.ledger.segments:  # Written by an octad that did not count.
            self.ledger = self.counted()

    def counted(self) -> SpaceLedger:
        """The live bytes of every segment, counted anew from all rows."""
        ledger = SpaceLedger()
        for table in sorted(ROW_TABLES):
            for row in self.scan(bytes([table]), bytes([table + 1])):
                ledger.count([row], (), lambda _key: None, NOTHING_READ)
        return ledger

    def follow(self, journal: Written) -> None:
        """From now on count ended segments, and never be ahead of the durable position.

        They share a disk: the journal leaves the index room to merge its files and take deletes.
        """
        self._journal = journal
        journal.room.leave_free(self.room)

    def succeed(self, successor: Index) -> None:
        assert isinstance(successor, CountedIndex)
        super().succeed(successor)
        self.ledger, self.digests = successor.ledger, successor.digests

    async def flush_in_thread(self) -> None:
        """Make everything written so far durable, with what `before_flush` adds to it."""
        self.before_flush()
        await asyncio.to_thread(self.flush)

    def write(
        self,
        puts: Sequence[tuple[bytes, bytes]],
        deletes: Sequence[bytes] = (),
        before: Mapping[bytes, bytes | None] = NOTHING_READ,
    ) -> None:
        if self.damage is not None:
            return
        ledger, journal = self.ledger, self._journal
        if journal is not None:
            for segment, end in journal.take_sealed():
                ledger.seal(segment, end)
            if puts and puts[-1][0] == POSITION_KEY:
                place = not_ahead(decode_position(puts[-1][1]), journal)
                puts = [*puts[:-1], (POSITION_KEY, encode_position(place))]
        ledger.count(puts, deletes, self.get, before)
        usages, gone = self.digests.usages.take_changes()
        super().write([*ledger.entries(), *usages, *puts], [*deletes, *gone] if gone else deletes)


def _nothing() -> None:
    """A node without replicas adds nothing."""


def not_ahead(place: Position, journal: Written) -> Position:
    """The node's own records are in no shard's log, so no one else waits until they are durable."""
    return min(place, journal.durable_to)
