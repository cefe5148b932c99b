"""The one thread that writes and syncs the journal, a batch at a time, in order.

A batch is durable when its `fdatasync` has returned; only then does the next one begin, and only
then is the event loop notified. After the first error nothing more is written: a sync that failed
may have dropped dirty pages, so trying again would report as durable what is lost.
"""

from __future__ import annotations

import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from octad.client.runtime.time_histogram import TimeHistogram
from octad.storage_node.journal.record_format import Position
from octad.storage_node.journal.segment_file import SegmentFile
from octad.storage_node.journal.segment_preparer import SegmentPreparer


@dataclass(slots=True)
class Batch:
    """Bytes that lie one behind the other in one segment, and the journal's end after them."""

    file: SegmentFile
    offset: int
    buffers: list[bytes | memoryview]
    length: int
    end: Position
    bulk: bool  # Large bodies: to be read rarely, and from the disk.


class CommitThread:
    """Runs from construction to `close`; both callbacks run on the loop."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        preparer: SegmentPreparer,
        on_synced: Callable[[Batch], None],
        on_failed: Callable[[Exception], None],
        sync_times: TimeHistogram,
    ) -> None:
        self._loop = loop
        self._preparer = preparer
        self._on_synced = on_synced
        self._on_failed = on_failed
        self._sync_times = sync_times
        self._file: SegmentFile | None = None  # That of the latest batch.
        self._start()

    def _start(self) -> None:
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="octad-journal", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """Write `batch` after all earlier ones."""
        self._batches.put(batch)

    def close(self) -> None:
        """Write what was submitted, then end. Blocks."""
        self._batches.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (batch := self._batches.get()) is not None:
                self._write(batch)
                self._sync(batch)
                self._loop.call_soon_threadsafe(self._on_synced, batch)
                del batch  # It may be the last batch for hours, and holds up to 64 MiB.
        except Exception as error:  # A bug must stop the journal as loudly as a disk does.
            self._loop.call_soon_threadsafe(self._on_failed, error)
        finally:
            self._close_file()

    def _write(self, batch: Batch) -> None:
        if self._file is not batch.file:
            self._close_file()
            self._file = batch.file
            self._preparer.settle(batch.file)
        batch.file.write(batch.buffers, batch.offset, cached=not batch.bulk)

    def _sync(self, batch: Batch) -> None:
        began_ns = time.monotonic_ns()
        batch.file.sync()
        self._sync_times.add(time.monotonic_ns() - began_ns)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(frozen=True, slots=True)
class Threads:
    """Who writes and syncs, and who makes segments, beside the event loop."""

    committer: type[CommitThread] = CommitThread
    preparer: type[SegmentPreparer] = SegmentPreparer


REAL_THREADS = Threads()
