"""Handles unreadable records: read again, repaired, or left and retried later.

A read error may pass: then nothing was lost. A damaged record is repaired from another
member (`record_repair.py`); if none is reachable it is retried until one is. Only a record that
every member has reported as damaged is *lost*. The state covers the time since the node's start: a
restart begins with nothing known, and the scrubber finds it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

import msgspec

from octad.sharding.ids import BucketId, Epoch, Seq
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import (
    OBJECTS,
    PIECES,
    ROW_TABLES,
    Ordered,
    decode_object_key,
    decode_ordered,
    decode_piece,
)
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import CorruptRecord, JournalFull, UnreadableRecord
from octad.storage_node.journal.record_format import Location
from octad.storage_node.upkeep.record_repair import (
    IsDirty,
    RecordLost,
    Repair,
    Repaired,
    replace_record,
)

REPAIR_AGAIN_S = 60.0  # Between two tries, while no member has a good copy.
DAMAGED_RECORDS_KEPT_MAX = 10_000  # To be tried again; a disk with more is to be replaced.

log = logging.getLogger(__name__)


class Outcome(Enum):
    """Repair one row now."""

    SOUND = "its record can be read"
    REPAIRED = "it points at a copy of another member's"
    LEFT = "its record is damaged, and no intact copy has come"


class DamageReport(msgspec.Struct, frozen=True):
    """Counts since the node's start. `lost` ones are among those that are `left`."""

    found: int = 0
    passed: int = 0  # Read errors after which all could be read.
    repaired: int = 0
    left: int = 0
    lost: int = 0


class _Left(msgspec.Struct):
    location: Location
    lost: bool = False


async def no_repair(_key: bytes, _epoch: Epoch, _seq: Seq) -> Repaired | None:
    """For a single node: damaged records stay so, and are never served."""
    return None


class DamagedRecords:
    """See the module. One row at a time: a second reader of the same damage finds it repaired."""

    def __init__(
        self,
        journal: Journal,
        index: CountedIndex,
        is_dirty: IsDirty,
        fetch: Repair,
        bucket_name: Callable[[BucketId], str] = str,
    ) -> None:
        self._journal = journal
        self._index = index
        self._is_dirty = is_dirty
        self._fetch = fetch
        self._bucket_name = bucket_name
        self._one_at_a_time = asyncio.Lock()
        self._left: dict[bytes, _Left] = {}
        self._found = self._passed = self._repaired = 0

    async def run(self) -> None:
        """Try again what is left, for ever."""
        while True:
            await asyncio.sleep(REPAIR_AGAIN_S)
            await self.repair_left()

    async def repair_left(self) -> None:
        """Try everything again that could not be repaired so far."""
        for key in list(self._left):
            with suppress(OSError):  # Its file could not be opened now: at the next time.
                await self.look_at(key)

    async def repair(self, key: bytes) -> bool:
        """For a read that met damage at the row `key`; False: it stays damaged."""
        try:
            return await self.look_at(key, self._index.get(key)) is not Outcome.LEFT
        except OSError:  # Its file could not be opened now.
            return False

    def note_passed(self) -> None:
        """A read failed, and what it was to read could be read then."""
        self._passed += 1

    def report(self) -> DamageReport:
        lost = sum(each.lost for each in self._left.values())
        return DamageReport(self._found, self._passed, self._repaired, len(self._left), lost)

    async def look_at(self, key: bytes, failed: bytes | None = None) -> Outcome:
        """Read the record of the row at `key`, and repair it if that fails.

        `failed`: the row's value with which someone has just failed to read it.
        """
        async with self._one_at_a_time:
            stored = self._index.get(key)
            if stored is None:
                self._left.pop(key, None)
                return Outcome.SOUND
            row = decode_ordered(stored)
            try:
                await asyncio.to_thread(self._journal.read, row.location)
            except CorruptRecord as error:
                met = "damaged" if failed is None else "a read met damage"
                return await self._repair(key, stored, row, error, met)
            known = self._left.pop(key, None)
            self._passed += stored == failed if known is None else known.location == row.location
            return Outcome.SOUND

    async def _repair(
        self, key: bytes, stored: bytes, row: Ordered, error: CorruptRecord, met: str
    ) -> Outcome:
        left = self._left.get(key)
        if left is None or left.location != row.location:
            self._found += 1
            log.error("%s: %s (%s)", met, error, self._shown(key, stored))
            left = _Left(row.location)
        try:
            if await self._replaced(key, row):
                self._left.pop(key, None)
                self._repaired += 1
                return Outcome.REPAIRED
            if self._index.get(key) != stored:  # Overwritten or deleted meanwhile.
                self._left.pop(key, None)
                return Outcome.SOUND
            left.lost = False
        except RecordLost:
            if not left.lost and not isinstance(error, UnreadableRecord):
                left.lost = True
                log.error("lost: every copy of %s is damaged", self._shown(key, stored))
        if len(self._left) < DAMAGED_RECORDS_KEPT_MAX:  # The rest is found again by the scrubber.
            self._left[key] = left
        return Outcome.LEFT

    async def _replaced(self, key: bytes, row: Ordered) -> bool:
        repaired = await self._fetch(key, row.epoch, row.seq)
        if repaired is None:
            return False
        try:
            return await replace_record(
                self._journal, self._index, self._is_dirty, key, row, repaired
            )
        except JournalFull as full:
            log.error("no room to repair %s: %s", key.hex(), full)
            return False

    def _shown(self, key: bytes, stored: bytes) -> str:
        """`object b'a/b' in bucket photos`: what someone would have to write again."""
        if key[:1] == OBJECTS:
            bucket, name = decode_object_key(key)
            return f"object {name!r} in bucket {self._bucket_name(bucket)}"
        if key[:1] == PIECES:
            piece = decode_piece(stored)
            where = f"{piece.key!r} in bucket {self._bucket_name(piece.bucket)}"
            return f"1 MiB of object {where}"
        return f"{ROW_TABLES[key[0]].what} ({key.hex()})"
