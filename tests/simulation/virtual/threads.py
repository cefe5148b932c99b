"""The journal's threads without threads: the same work, at moments that the seed decides.

A batch is written at one moment and synced at a later one, so that a kill or a power cut comes
before, between or after; the next batch follows. A segment is made some moments after it is asked
for, and at once where the journal would wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random
from typing import cast

from tests.simulation.virtual.virtual_loop import VirtualLoop

from octad.storage_node.journal.commit_thread import Batch, CommitThread, Threads
from octad.storage_node.journal.record_format import SegmentId
from octad.storage_node.journal.segment_file import SegmentFile
from octad.storage_node.journal.segment_preparer import SegmentPreparer

WRITE_S = (0.00002, 0.0003)
SYNC_S = (0.0002, 0.002)
NO_FILE_S = 0.05
SEGMENT_S = (0.001, 0.03)
NOT_READY = 0.05  # Of the times that a segment is needed before it is ready.


def _loop() -> VirtualLoop:
    return cast("VirtualLoop", asyncio.get_running_loop())


class SimulatedCommitter(CommitThread):
    """One batch after the other; see `MachineDisk.slowness`."""

    def _start(self) -> None:
        self._virtual = _loop()
        self._queue: deque[Batch] = deque()
        self._has_failed = False

    def submit(self, batch: Batch) -> None:
        self._queue.append(batch)
        if len(self._queue) == 1:
            self._virtual.after(self._lasts(WRITE_S), self._write_first)

    def _write_first(self) -> None:
        if self._queue and not self._has_failed and self._done(self._write, self._queue[0]):
            self._virtual.after(self._lasts(SYNC_S), self._sync_first)

    def _sync_first(self) -> None:
        if self._queue and not self._has_failed and self._done(self._sync, self._queue[0]):
            self._loop.call_soon_threadsafe(self._on_synced, self._queue.popleft())
            if self._queue:
                self._virtual.after(self._lasts(WRITE_S), self._write_first)

    def _done(self, what: object, batch: Batch) -> bool:
        try:
            what(batch)  # type: ignore[operator]
        except Exception as error:
            self._has_failed = True
            self._loop.call_soon_threadsafe(self._on_failed, error)
            return False
        return True

    def _lasts(self, usual: tuple[float, float]) -> float:
        random: Random = self._virtual.timeline.random
        slowness: float = getattr(self._preparer.disk, "slowness", 1.0)
        return random.uniform(*usual) * slowness

    def close(self) -> None:
        while self._queue and not self._has_failed:
            batch = self._queue[0]
            if self._done(self._write, batch) and self._done(self._sync, batch):
                self._loop.call_soon_threadsafe(self._on_synced, self._queue.popleft())
        self._close_file()


class SimulatedPreparer(SegmentPreparer):
    """Makes what is asked for, and fills nothing: that changes no byte that is ever read."""

    def _start(self) -> None:
        self._virtual = _loop()

    def prepare(self, segment: SegmentId) -> None:
        self._wanted = segment
        self._virtual.after(self._virtual.timeline.random.uniform(*SEGMENT_S), self._make_wanted)

    def _make_wanted(self) -> None:
        if self._wanted is None or self._closing:
            return
        if getattr(self.disk, "refuses_to_open", False):  # The thread that ships waits, too.
            self._virtual.after(NO_FILE_S, self._make_wanted)
        else:
            self._make(self._wanted)

    def fill(self) -> None:
        """See the class."""

    def take(self, segment: SegmentId, wait_s: float) -> SegmentFile | None:
        if self._ready is None and self._virtual.timeline.random.random() < NOT_READY:
            return None
        self._make_wanted()
        if self._failure is not None:
            self.prepare(segment)
        return super().take(segment, 0.0)

    def close(self) -> None:
        self._closing = True
        if self._ready is not None:
            self._ready.close()


SIMULATED_THREADS = Threads(SimulatedCommitter, SimulatedPreparer)
