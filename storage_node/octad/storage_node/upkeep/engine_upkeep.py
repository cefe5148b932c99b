"""The engine's background work: flush the index, free space, scrub.

Each runs for ever beside the requests, in small steps. `report` returns the figures that people and
metrics ask for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from octad.client.runtime.background_task import run_together
from octad.sharding.ids import ShardId
from octad.sharding.limits import MIB, READER_PIN_S
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.journal.record_format import offset_of, segment_of
from octad.storage_node.upkeep.compactor import Compactor
from octad.storage_node.upkeep.damaged_records import DamagedRecords, DamageReport
from octad.storage_node.upkeep.scrubber import Scrubber

# The most that a restart replays: bytes of journal that the flushed index lacks.
INDEX_FLUSH_AFTER_BYTES = 128 * MIB
INDEX_FLUSH_POLL_S = 1.0
INDEX_FLUSH_AFTER_RECORDS = 60_000  # Replayed at 20,000 a second and more.

log = logging.getLogger(__name__)


class EngineReport(msgspec.Struct, frozen=True):
    """Bytes and counts of one node's disk. Live and written ones are exact, also after a crash."""

    live_bytes: int  # Records that a row points at.
    written_bytes: int  # Records of ended segments, dead ones included.
    segments: int
    free_bytes: int
    copied_bytes: int  # By compaction, since the start.
    freed_bytes: int
    scrubbed_bytes: int
    scrub_rounds: int
    damage: DamageReport


class EngineUpkeep:
    """See the module. Make it after the replay; `run` until cancelled."""

    def __init__(
        self,
        journal: Journal,
        index: CountedIndex,
        is_dirty: Callable[[ShardId, bytes], bool],
        damaged_records: DamagedRecords,
        reader_pin_s: float = READER_PIN_S,
    ) -> None:
        self._journal = journal
        self._index = index
        self._damaged_records = damaged_records
        self.scrubber = Scrubber(journal, index, damaged_records)
        self.compactor = Compactor(journal, index, is_dirty, self._damaged, reader_pin_s)

    async def run(self) -> None:
        """Run until cancelled. A failure of the journal ends it: the node then goes down."""
        await run_together(
            self._flush_in_time(),
            self.compactor.run(),
            self.scrubber.run(),
            self._damaged_records.run(),
        )

    def report(self) -> EngineReport:
        ledger, compactor, scrubber = self._index.ledger, self.compactor, self.scrubber
        return EngineReport(
            live_bytes=ledger.live_bytes(),
            written_bytes=ledger.written_bytes(),
            segments=len(ledger.segments),
            free_bytes=self._journal.disk.free_bytes(self._journal.directory),
            copied_bytes=compactor.copied_bytes,
            freed_bytes=compactor.freed_bytes,
            scrubbed_bytes=scrubber.bytes_read,
            scrub_rounds=scrubber.state.rounds,
            damage=self._damaged_records.report(),
        )

    async def _flush_in_time(self) -> None:
        """Keep what a restart would have to replay bounded, in bytes and in time."""
        journal = self._journal
        flushed_to, records = journal.position(), journal.records_appended
        while True:
            await asyncio.sleep(INDEX_FLUSH_POLL_S)
            place = journal.position()
            segments = segment_of(place) - segment_of(flushed_to)
            gone_on = segments * journal.segment_bytes + offset_of(place) - offset_of(flushed_to)
            appended = journal.records_appended - records
            if gone_on >= INDEX_FLUSH_AFTER_BYTES or appended >= INDEX_FLUSH_AFTER_RECORDS:
                flushed_to, records = place, journal.records_appended
                await self._index.flush_in_thread()

    def _damaged(self, error: CorruptRecord) -> None:
        log.error("compaction leaves a segment as it is: %s", error)
