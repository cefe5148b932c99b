"""The journal of one node: one append-only log on one disk, shared by all its shards.

`append` assigns a record its place at once; the bytes of one tick of the event loop, and of as many
as pass while the disk is busy, go out as one write and one sync. `on_durable(lsn)` then says that
every record up to `lsn` will survive a power cut, and nothing says so earlier.

    open ─ replay(from the index's position) ─ start ─ append … on_durable … read … ─ close

It knows nothing of shards beyond their numbers: order, epochs and commit points are its caller's.
Bytes: `journal/record_format.py`; writing: `commit_thread.py`; replay: `journal_recovery.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from octad.client.runtime.open_files import none_left
from octad.client.runtime.time_histogram import TimeHistogram
from octad.sharding.ids import Epoch, Seq, ShardId
from octad.sharding.limits import (
    INLINE_BYTES_MAX,
    JOURNAL_OPEN_FILES_MAX,
    KIB,
    MIB,
    RECORD_DATA_BYTES_MAX,
    RECORD_METADATA_BYTES_MAX,
    SEGMENT_BYTES,
)
from octad.storage_node.journal.commit_thread import REAL_THREADS, Batch, Threads
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.disk_reserve import FREEING_KINDS
from octad.storage_node.journal.disk_room import DiskRoom
from octad.storage_node.journal.journal_errors import (
    CorruptRecord,
    JournalFailed,
    JournalFull,
    SegmentNotReady,
)
from octad.storage_node.journal.journal_recovery import JournalRecovery
from octad.storage_node.journal.record_format import (
    RECORD_HEADER_BYTES,
    RECORDS_OFFSET,
    REQUEST_ID_BYTES,
    Identity,
    Location,
    Position,
    Record,
    RecordKind,
    SegmentId,
    encode_record_start,
    position,
)
from octad.storage_node.journal.segment_file import (
    SegmentFile,
    create_segment,
    open_segment,
    segment_path,
    spare_segment,
    spares_in,
)
from octad.storage_node.journal.several_records import Several

JOURNAL_PENDING_BYTES_MAX = 32 * MIB  # Bulk writers wait while more is not yet durable.

_PAGE_BYTES = 4096
_ZEROS = memoryview(bytes(_PAGE_BYTES))
_FILL_BATCH_BYTES_MAX = 256 * KIB  # Zero-filling ahead saves less than it costs above (measured).
_SEGMENT_WAIT_S = 0.5  # Longer than any sound disk takes; the whole node stands still meanwhile.
_MARK_AFTER_S = 0.05  # An idle journal soon says that its last batch is durable.
_NOBODY = bytes(REQUEST_ID_BYTES)


def _what_helps(kind: RecordKind) -> str:
    if kind in FREEING_KINDS:
        return "deletes are taken again when compaction has made room"
    return "only deletes are taken"


class Appended(msgspec.Struct, frozen=True, gc=False):
    """A record's place, and the position that `on_durable` reaches once the record is durable."""

    lsn: Position
    location: Location


class Journal:
    """An open journal. `read` may be called from any thread, all else from the event loop's."""

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        disk: Disk,
        segment_bytes: int = SEGMENT_BYTES,
        open_files_max: int = JOURNAL_OPEN_FILES_MAX,
        nodes_on_disk: int = 1,
        threads: Threads = REAL_THREADS,
    ) -> None:
        self.segment_bytes = segment_bytes
        self._threads = threads
        self._open_files_max = open_files_max
        self.room = DiskRoom(disk, directory, segment_bytes, nodes_on_disk)
        self._directory = directory
        self._identity = identity
        self._disk = disk
        self._recovery: JournalRecovery | None = None
        self._files: dict[SegmentId, SegmentFile] = {}  # Open for reading, oldest first.
        self._failure: Exception | None = None
        self._started = False
        self._end = Position(0)  # Past the last record that was given a place, marks included.
        self._position = Position(0)  # The same without marks.
        self._marked = Position(0)  # `_position` at the last mark.
        self._sealed_to = Position(0)  # Past the last record of a sealed batch.
        self._segment = SegmentId(0)
        self._segment_start = Position(0)
        self._offset = RECORDS_OFFSET
        self._sealed: list[tuple[SegmentId, int]] = []  # Ended, and not yet reported.
        self._batch: list[bytes | memoryview] = []  # The next batch, encoded.
        self._batch_start = RECORDS_OFFSET
        self._batch_records = 0
        self._flush_planned = False
        self._writing = 0  # Batches submitted and not yet durable.
        self._waiting_for_room: deque[asyncio.Future[None]] = deque()
        self._ended = asyncio.Event()  # Set and cleared when a batch ends.
        self._drained: asyncio.Future[None] | None = None
        self._mark_timer: asyncio.TimerHandle | None = None
        self._segment_batches = 0
        self._fill_asked = False
        self.pending_bytes = 0  # Given a place, not yet durable.
        self.durable_to = Position(0)
        self.records_appended = 0
        self.upkeep_appended = 0  # The part of them that no client waits for, as callers say.
        self.batches_synced = 0
        self.sync_times = TimeHistogram()  # How long the disk took to make a batch durable.

    @classmethod
    def open(
        cls,
        directory: Path,
        identity: Identity,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        open_files_max: int = JOURNAL_OPEN_FILES_MAX,
        nodes_on_disk: int = 1,
        threads: Threads = REAL_THREADS,
    ) -> Journal:
        """The journal in `directory`, which is made when absent."""
        disk = disk or Disk()
        disk.make_directory(directory)
        disk.sync_directory(directory.parent)
        return cls(directory, identity, disk, segment_bytes, open_files_max, nodes_on_disk, threads)

    def replay(self, start: Position) -> Iterator[tuple[Location, Record]]:
        """Yields every record from `start` (0: all) to the journal's end, without a torn tail.

        Raises CorruptRecord for damage below the known durable position, SegmentMissing and
        ForeignSegment. Read it to its end: `start` goes on from there.
        """
        assert not self._started
        self._recovery = JournalRecovery(self._disk, self._directory, self._identity, start)
        return self._recovery.records()

    def start(
        self, on_durable: Callable[[Position], None], on_failed: Callable[[Exception], None]
    ) -> None:
        """Cut off a torn tail and begin a fresh segment. Raises OSError."""
        recovery = self._recovery
        assert recovery is not None, "replay first"
        assert recovery.finished, "replay was not read to its end"
        recovery.cut()
        self._on_durable = on_durable
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._end = self._position = self._marked = recovery.end
        self._sealed_to = self.durable_to = recovery.end
        self._sealed += recovery.ends
        segment = recovery.next_segment
        disk, directory, length = self._disk, self._directory, self.segment_bytes
        spare = next(iter(spares_in(disk, directory)), None)
        first = create_segment(disk, directory, segment, self._identity, length, spare)
        self._preparer = self._threads.preparer(disk, directory, self._identity, length)
        self._committer = self._threads.committer(
            *(self._loop, self._preparer, self._batch_synced, self._batch_failed),
            self.sync_times,
        )
        self._enter(first)
        self._started = True

    def position(self) -> Position:
        """Past the last record appended, durable or not: where a replay of what follows begins."""
        return self._position

    def append(
        self,
        kind: RecordKind,
        shard: ShardId,
        epoch: Epoch,
        seq: Seq,
        commit: Seq,
        request_id: bytes,
        metadata: bytes,
        data: bytes | memoryview,
        several: Several | None = None,
    ) -> Appended:
        """Give the record its place; `data` must not change until it is durable.

        Of an entry of `several`, the records inside get theirs, too.

        Raises JournalFull (nothing happened; try later), also SegmentNotReady (try soon), or
        JournalFailed (never again).
        """
        metadata_bytes, data_bytes = len(metadata), len(data)
        length = RECORD_HEADER_BYTES + metadata_bytes + data_bytes
        assert metadata_bytes <= RECORD_METADATA_BYTES_MAX
        assert data_bytes <= RECORD_DATA_BYTES_MAX
        assert len(request_id) == REQUEST_ID_BYTES
        if self._failure is not None or self._offset + length > self.segment_bytes:
            self._make_room(length, kind)
        self.records_appended += 1
        offset = self._offset
        if several is not None:
            inside = offset + RECORD_HEADER_BYTES + metadata_bytes
            place = shard, epoch, seq, commit
            data = several.place(data, self._file.seed, inside, *place, self._sealed_to)
        start = encode_record_start(
            self._file.seed,
            self._sealed_to,  # Its batch is written when all of that is durable.
            offset,
            kind,
            shard,
            epoch,
            seq,
            commit,
            request_id,
            metadata,
            data,
        )
        batch = self._batch
        batch.append(start)
        if data_bytes:
            batch.append(data)
        self._batch_records += 1
        self._offset = offset + length
        self.pending_bytes += length
        end = self._end = self._position = Position(self._segment_start + offset + length)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)
        return Appended(end, Location(self._segment, offset, length))

    def make_room(
        self,
        metadata_bytes: int,
        data_bytes: int,
        kind: RecordKind = RecordKind.PUT_OBJECT,
        *,
        ordered: bool = False,
    ) -> None:
        """See to it that an `append` of that size right after this one succeeds; raises like it.

        For callers that decide more than the append, and must not when it will be refused. What is
        `ordered` by another node holds up its shard until it is here: some room is kept for it.
        """
        length = RECORD_HEADER_BYTES + metadata_bytes + data_bytes
        if self._failure is not None or self._offset + length > self.segment_bytes:
            self._make_room(length, kind, ordered=ordered)

    def read(self, location: Location, *, cached: bool = True) -> Record:
        """The record at `location`, verified as a whole. Raises CorruptRecord.

        Without `cached` it is not expected to be read again soon.
        """
        file = self._files.get(location.segment) or self._open_for_reading(location)
        return file.read(location.offset, location.length, cached=cached)

    def read_if_cached(self, location: Location) -> Record | None:
        """`read` without waiting for the disk: None where that would be needed."""
        file = self._files.get(location.segment) or self._open_for_reading(location)
        return file.read_if_cached(location.offset, location.length)

    async def wait_for_room(self) -> None:
        """Return when few enough bytes are pending to append bulk data."""
        while self.pending_bytes > JOURNAL_PENDING_BYTES_MAX and self._failure is None:
            room: asyncio.Future[None] = self._loop.create_future()
            self._waiting_for_room.append(room)
            await room

    async def durable(self, lsn: Position) -> None:
        """Return once every record up to `lsn` is durable. For background work."""
        while self.durable_to < lsn:
            if self._failure is not None:
                raise JournalFailed("the journal has failed") from self._failure
            await self._ended.wait()

    async def close(self) -> None:
        """Make durable what was appended, mark the end, and stop."""
        if self._started:
            if self._mark_timer is not None:
                self._mark_timer.cancel()
            await self._drain()
            if self._failure is None:
                self._mark()
                self._seal()
            await asyncio.to_thread(self._committer.close)
            self._file.close()
            await asyncio.to_thread(self._preparer.close)
        for file in self._files.values():
            file.close()
        self._files.clear()

    # -- batches -----------------------------------------------------------------------------

    def _flush(self) -> None:
        """At the end of a tick: hand over the batch, or leave it until the disk is idle."""
        self._flush_planned = False
        if not self._writing:
            self._seal()

    def _seal(self) -> None:
        """Submit what gathered as one batch."""
        buffers = self._batch
        if not buffers:
            return
        start, records = self._batch_start, self._batch_records
        self._batch, self._batch_start, self._batch_records = [], self._offset, 0
        buffers.append(_ZEROS[: -self._offset % _PAGE_BYTES])
        self._sealed_to = self._end
        self._writing += 1
        self._segment_batches += 1
        length = self._offset - start
        bulk = length > records * INLINE_BYTES_MAX
        self._committer.submit(Batch(self._file, start, buffers, length, self._end, bulk))

    def _batch_synced(self, batch: Batch) -> None:
        self._writing -= 1
        self.batches_synced += 1
        self.durable_to = batch.end
        self._wake_waiters()
        self.pending_bytes -= batch.length
        if not self._writing:
            self._seal()
        self._on_durable(batch.end)
        if self._waiting_for_room and self.pending_bytes <= JOURNAL_PENDING_BYTES_MAX:
            self._let_in()
        if self._drained is not None and not self.pending_bytes:
            self._drained.set_result(None)
            self._drained = None
        if self._mark_timer is None:
            self._mark_timer = self._loop.call_later(_MARK_AFTER_S, self._mark_if_idle)
        if not self._fill_asked and self._offset > self.segment_bytes // 4:
            self._fill_asked = True
            if self._offset < _FILL_BATCH_BYTES_MAX * self._segment_batches:
                self._preparer.fill()

    def _batch_failed(self, error: Exception) -> None:
        self._failure = error
        self._batch.clear()
        self._wake_waiters()
        self._let_in()
        if self._drained is not None:
            self._drained.set_result(None)
        self._on_failed(error)

    def _wake_waiters(self) -> None:
        """Wake callers that wait for durability."""
        self._ended.set()
        self._ended.clear()

    async def _drain(self) -> None:
        """Return when nothing is pending any more."""
        while self.pending_bytes and self._failure is None:
            drained = self._drained = self._loop.create_future()
            await drained

    def _let_in(self) -> None:
        while self._waiting_for_room:
            room = self._waiting_for_room.popleft()
            if not room.done():
                room.set_result(None)

    # -- segments ----------------------------------------------------------------------------

    def _make_room(self, length: int, kind: RecordKind, *, ordered: bool = False) -> None:
        if self._failure is not None:
            raise JournalFailed("the journal has failed") from self._failure
        if self._offset + length > self.segment_bytes:
            self._roll(kind, ordered=ordered)

    def _roll(self, kind: RecordKind, *, ordered: bool) -> None:
        """Leave the current segment for the next. Raises JournalFull when there will be none."""
        reserve = self.room.reserve_for(kind, ordered=ordered)
        if self._preparer.free_bytes < reserve:
            self._preparer.free_bytes = self.room.free_bytes()
            if self._preparer.free_bytes < reserve:
                raise JournalFull(f"less than {reserve} bytes are free: {_what_helps(kind)}")
        try:
            file = self._preparer.take(SegmentId(self._segment + 1), _SEGMENT_WAIT_S)
        except OSError as error:
            raise JournalFull(f"no further segment could be made: {error}") from error
        if file is None:
            raise SegmentNotReady("the disk has not made the next segment yet")
        self._seal()
        self._sealed.append((self._segment, self._offset))
        self._enter(file)

    def _enter(self, file: SegmentFile) -> None:
        self._file = file
        self._segment = file.segment
        self._segment_start = position(file.segment, 0)
        self._offset = self._batch_start = RECORDS_OFFSET
        self._segment_batches = 0
        self._fill_asked = False
        self._preparer.prepare(SegmentId(file.segment + 1))

    def take_sealed(self) -> list[tuple[SegmentId, int]]:
        """Segments that have durably ended since the last call, each with its end."""
        if not self._sealed:
            return []
        durable = [each for each in self._sealed if position(*each) <= self.durable_to]
        del self._sealed[: len(durable)]
        return durable

    # -- space -------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        return self._directory

    @property
    def disk(self) -> Disk:
        return self._disk

    @property
    def identity(self) -> Identity:
        return self._identity

    def release(self, segment: SegmentId, spares_max: int) -> None:
        """Nothing needs `segment` any more: recycle its file, or remove it. Raises OSError."""
        self._files.pop(segment, None)
        if self._preparer.spares() < spares_max and not self.room.nearly_full():
            self._preparer.add_spare(spare_segment(self._disk, self._directory, segment))
        else:
            self._disk.unlink(segment_path(self._directory, segment))

    def _open_for_reading(self, location: Location) -> SegmentFile:
        segment = location.segment
        path = segment_path(self._directory, segment)
        if len(self._files) >= self._open_files_max:
            self._close_oldest()
        while True:
            try:
                file = open_segment(self._disk, self._directory, segment, self._identity)
                break
            except OSError as error:
                if not none_left(error):
                    raise CorruptRecord(
                        path, location.offset, f"no such segment: {error}"
                    ) from error
                if not self._files:
                    raise  # That is no statement on the segment.
                self._close_oldest()
        self._files[segment] = file
        return file

    def _close_oldest(self) -> None:
        """Close the oldest file open for reading, once no read uses it."""
        self._files.pop(next(iter(self._files)), None)

    # -- marks -------------------------------------------------------------------------------

    def _mark_if_idle(self) -> None:
        """Say on disk that everything is durable, once nothing has been written for a while."""
        self._mark_timer = None
        if self._failure is None and not self._batch and not self._writing:
            self._mark()

    def _mark(self) -> None:
        """A record of nothing whose `synced to` proves what lies before it."""
        if (
            self._position > self._marked
            and self._offset + RECORD_HEADER_BYTES <= self.segment_bytes
        ):
            self._marked = self._position
            kind, none = RecordKind.SYNCED_MARK, Seq(0)
            self.append(kind, ShardId(0), Epoch(0), none, none, _NOBODY, b"", b"")
            self._position = self._marked  # It belongs to no shard, and is not counted.
            self.records_appended -= 1
