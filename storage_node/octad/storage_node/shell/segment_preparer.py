"""Makes the journal's next segment ahead of need, in a thread of its own.

A segment is ready once its space is reserved and its header and name are durable. Writing into
reserved but never written space costs a file-system transaction at every sync. So the rest of the
file can be filled with zeros, a slice at a time, where the journal's batches are so small that this
saves more time than it takes (measured: `docs/reference/journal.md`). Filling ends when the segment
is taken, done or not.
"""

from __future__ import annotations

import threading
from pathlib import Path

from octad.sharding.limits import MIB, SEGMENT_BYTES
from octad.storage_node.core.record_format import RECORDS_OFFSET, Identity, SegmentId
from octad.storage_node.shell.disk import Disk
from octad.storage_node.shell.segment_file import FIRST_GENERATION, SegmentFile, create_segment

_SLICE = bytes(MIB)
_PAUSE_S = 0.01  # Between slices, so that filling never takes the disk from the journal for long.


class SegmentPreparer:
    """At most one segment is made or held ready at a time."""

    def __init__(self, disk: Disk, directory: Path, identity: Identity) -> None:
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self._changed = threading.Condition()
        self._wanted: SegmentId | None = None
        self._ready: SegmentFile | None = None
        self._filled_to = (
            SEGMENT_BYTES  # Of the ready segment; its end when nothing is to be filled.
        )
        self._writing = False
        self._closing = False
        self.failure: OSError | None = None  # Why the last attempt made no segment.
        self._thread = threading.Thread(target=self._run, name="octad-segments", daemon=True)
        self._thread.start()

    def prepare(self, segment: SegmentId) -> None:
        """Begin to make `segment`. Asked again after a failure, it tries again.

        `failure` stands until a segment is made: nobody may count on one that is only tried for.
        """
        with self._changed:
            self._wanted = segment
            self._changed.notify_all()

    def fill(self) -> None:
        """Begin to fill the ready segment with zeros."""
        with self._changed:
            if self._ready is not None:
                self._filled_to = RECORDS_OFFSET
                self._changed.notify_all()

    def take(self, segment: SegmentId) -> SegmentFile:
        """The segment, once it is ready; blocks. Raises OSError when it could not be made."""
        with self._changed:
            assert segment in (self._wanted, self._ready and self._ready.segment)
            self._filled_to = SEGMENT_BYTES
            self._changed.wait_for(lambda: self.failure or (self._ready and not self._writing))
            if self.failure is not None:
                raise self.failure
            file, self._ready = self._ready, None
            assert file is not None
            assert file.segment == segment
            return file

    def close(self) -> None:
        """Stop the thread. A segment that nobody took stays in the directory, empty."""
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
                self._writing = wanted is None
            if wanted is not None:
                self._make(wanted)
            elif file is not None:
                self._fill_slice(file, offset)

    def _fillable(self) -> bool:
        return self._ready is not None and self._filled_to < SEGMENT_BYTES

    def _make(self, wanted: SegmentId) -> None:
        made: SegmentFile | None = None
        failure: OSError | None = None
        try:
            made = create_segment(
                self._disk, self._directory, wanted, FIRST_GENERATION, self._identity
            )
        except OSError as error:
            failure = error
        with self._changed:
            self._ready, self.failure, self._wanted = made, failure, None
            self._filled_to = SEGMENT_BYTES
            self._changed.notify_all()

    def _fill_slice(self, file: SegmentFile, offset: int) -> None:
        length = min(len(_SLICE) - offset % len(_SLICE), SEGMENT_BYTES - offset)
        try:
            file.write([memoryview(_SLICE)[:length]], offset)
            file.sync()
        except OSError as error:
            self._filling_failed(error)
            return
        with self._changed:
            self._writing = False
            if self._filled_to == offset:
                self._filled_to = offset + length
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing or self._ready is not file, _PAUSE_S)

    def _filling_failed(self, error: OSError) -> None:
        """A disk that refuses zeros would refuse records: the segment is not used."""
        with self._changed:
            self._writing = False
            self.failure, self._ready = error, None
            self._changed.notify_all()
