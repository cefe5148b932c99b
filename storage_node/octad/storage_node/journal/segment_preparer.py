"""Makes the journal's next segment ahead of need, in a thread of its own.

A segment is ready once its space is reserved and its header and name are durable. It is made of a
spare file where compaction has left one. Writing into reserved but never written space costs a
file-system transaction at every sync. So the rest of a new file can be filled with zeros, a slice
at a time, where the journal's batches are so small that this saves more time than it takes
(measured: `docs/reference/journal.md`). Filling ends when the segment is taken, done or not.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path

from octad.client.runtime.open_files import none_left
from octad.sharding.limits import MIB
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import RECORDS_OFFSET, Identity, SegmentId
from octad.storage_node.journal.segment_file import (
    FIRST_GENERATION,
    SegmentFile,
    create_segment,
    spares_in,
)

_SLICE = bytes(MIB)
_NO_FILE_S = 0.05  # Before it is tried again to open a file, where too many are open.
_PAUSE_S = 0.01  # Between slices, so that filling never takes the disk from the journal for long.


class SegmentPreparer:
    """At most one segment is made or held ready at a time."""

    def __init__(self, disk: Disk, directory: Path, identity: Identity, length: int) -> None:
        self.disk = disk
        self._directory = directory
        self._identity = identity
        self._length = length
        self._changed = threading.Condition()
        self._wanted: SegmentId | None = None
        self._ready: SegmentFile | None = None
        self._filling: SegmentFile | None = None
        # Bytes of the ready segment that are filled; all if there is none.
        self._filled_to = length
        self._closing = False
        self._fill_failure: OSError | None = None
        self._failure: OSError | None = None  # Why the last attempt made no segment.
        self._spares = deque(spares_in(disk, directory))
        self.free_bytes = disk.free_bytes(directory)  # When the last segment was made.
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="octad-segments", daemon=True)
        self._thread.start()

    def prepare(self, segment: SegmentId) -> None:
        """Begin to make `segment`. Asked again after a failure, it tries again."""
        with self._changed:
            self._wanted = segment
            self._changed.notify_all()

    def fill(self) -> None:
        """Begin to fill the ready segment with zeros; a recycled one needs none."""
        with self._changed:
            if self._ready is not None and self._ready.header.generation == FIRST_GENERATION:
                self._filled_to = RECORDS_OFFSET
                self._changed.notify_all()

    def take(self, segment: SegmentId, wait_s: float) -> SegmentFile | None:
        """The segment, which is the caller's from now on; None when it is not ready in time.

        Raises OSError when it could not be made, and begins to try again.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._ready, wait_s)
            if self._failure is not None:
                failure, self._failure, self._wanted = self._failure, None, segment
                self._changed.notify_all()
                raise failure
            file = self._ready
            if file is not None:
                assert file.segment == segment
                self._ready = None
                self._filled_to = self._length
            return file

    def settle(self, file: SegmentFile) -> None:
        """Return once no zeros are on their way into `file`. Raises OSError if they failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._filling is not file)
            if self._fill_failure is not None:
                raise self._fill_failure

    def add_spare(self, path: Path) -> None:
        """Make a coming segment of this file."""
        with self._changed:
            self._spares.append(path)

    def spares(self) -> int:
        return len(self._spares)

    def close(self) -> None:
        """Stop the thread. A segment that no one took stays in the directory, empty."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._ready is not None:
            self._ready.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._wanted or self._fillable())
                if self._closing:
                    return
                wanted, file, offset = self._wanted, self._ready, self._filled_to
                self._filling = file if wanted is None else None
            if wanted is not None:
                self._make(wanted)
            elif file is not None:
                self._fill_slice(file, offset)

    def _fillable(self) -> bool:
        return self._ready is not None and self._filled_to < self._length

    def _make(self, wanted: SegmentId) -> None:
        made: SegmentFile | None = None
        failure: OSError | None = None
        spare = self._spares.popleft() if self._spares else None
        try:
            made = self._create(wanted, spare)
            self.free_bytes = self.disk.free_bytes(self._directory)
        except OSError as error:
            failure = error
        with self._changed:
            self._ready, self._failure, self._wanted = made, failure, None
            self._filled_to = self._length
            self._changed.notify_all()

    def _create(self, wanted: SegmentId, spare: Path | None) -> SegmentFile:
        """The segment. Made ahead of need, it has time to wait until a file can be opened."""
        while True:
            try:
                return create_segment(
                    self.disk, self._directory, wanted, self._identity, self._length, spare
                )
            except FileNotFoundError:
                if spare is None:
                    raise  # Else someone has removed the file: another will do.
            except OSError as error:
                if not none_left(error) or self._closing:
                    raise
                time.sleep(_NO_FILE_S)
            spare = None  # Unless it is gone, it has its new name already.

    def _fill_slice(self, file: SegmentFile, offset: int) -> None:
        length = min(len(_SLICE) - offset % len(_SLICE), self._length - offset)
        failure: OSError | None = None
        try:
            file.write([memoryview(_SLICE)[:length]], offset)
            file.sync()
        except OSError as error:  # Reserved space was to be had: this disk is failing.
            failure = error
        with self._changed:
            self._filling, self._fill_failure = None, failure
            if self._filled_to == offset:
                self._filled_to = offset + length if failure is None else self._length
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing or self._ready is not file, _PAUSE_S)
