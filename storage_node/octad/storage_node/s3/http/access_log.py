"""The access log: a line of JSON for each request, in a file and up to three before it.

    access.json ─► access.json.1 ─► access.json.2 ─► access.json.3 ─► gone

A thread writes them, so no request waits for the disk. Where the disk cannot keep up, or takes
nothing, lines are left out and counted: the log is no reason not to serve.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from octad.client.runtime.logs.log_file import LOG_FILES_MAX, open_log
from octad.client.runtime.logs.seldom_log import SeldomLog
from octad.sharding.limits import KIB, MIB
from octad.storage_node.s3.handlers.request import Request

ACCESS_LOG_BYTES_MAX: Final = 64 * MIB  # All files of one node.
LINES_WAITING_MAX: Final = 20_000  # The answers of some seconds.
PAUSE_S: Final = 0.2  # A crash loses the lines of this time at most.
_LINES_AT_ONCE: Final = 64
_LINE_BYTES_MAX: Final = KIB  # Far more than its fields can take.
_NAME_CHARACTERS_MAX: Final = 128
_FILE_BYTES_MAX: Final = ACCESS_LOG_BYTES_MAX // LOG_FILES_MAX - _LINES_AT_ONCE * _LINE_BYTES_MAX

_logger = logging.getLogger(__name__)


class AccessLine(msgspec.Struct, frozen=True):
    """One request; names are S3's. Bytes are those of bodies."""

    time: str  # When it was over.
    request_id: str
    key_id: str  # Empty if it is not signed.
    operation: str
    bucket: str
    status: int | None  # None: its client left before it was answered.
    received_bytes: int
    sent_bytes: int
    first_byte_s: float
    seconds: float


# The fields of a finished request's line, in order, without its time.
_Ended = tuple[float, bytes, str, str, str, int | None, int, int, int, int]


class AccessLog:
    """A `RequestLog` that appends to `path`. Raises OSError if it cannot."""

    def __init__(self, path: Path, file_bytes_max: int = _FILE_BYTES_MAX) -> None:
        self._path, self._file_bytes_max = path, file_bytes_max
        self.left_out = 0  # Lines.
        self._waiting: deque[_Ended] = deque()
        self._file: BinaryIO | None = open_log(path, file_bytes_max)
        self._is_torn = False  # The last write ended within a line.
        self._encode = msgspec.json.Encoder().encode
        self._failures = SeldomLog(_logger)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="octad-access-log", daemon=True)
        self._thread.start()

    def add(
        self,
        request_id: bytes,
        request: Request,
        status: int | None,
        received_bytes: int,
        sent_bytes: int,
        first_byte_ns: int,
        whole_ns: int,
    ) -> None:
        """See `RequestLog.add`."""
        if len(self._waiting) >= LINES_WAITING_MAX:
            self.left_out += 1
            return
        what = request.key_id, request.operation, request.bucket[:_NAME_CHARACTERS_MAX]
        figures = status, received_bytes, sent_bytes, first_byte_ns, whole_ns
        self._waiting.append((time.time(), request_id, *what, *figures))

    def close(self) -> None:
        """Write what waits, then end. Blocks."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(PAUSE_S)
            while self._waiting:
                count = min(len(self._waiting), _LINES_AT_ONCE)
                ended = [self._waiting.popleft() for _ in range(count)]
                try:
                    self._write(b"".join(self._encode(_line(*each)) + b"\n" for each in ended))
                except OSError as error:
                    self.left_out += count
                    self._failures.warning("no access log in %s for now: %s", self._path, error)
        if self._file is not None:
            self._file.close()

    def _write(self, lines: bytes) -> None:
        if self._file is not None and not self._path.exists():
            self._file.close()
            self._file = None  # Somebody took it away: no one would read what went there.
        if self._file is None:
            self._file = open_log(self._path, self._file_bytes_max)
            self._is_torn = False
        rest = memoryview(b"\n" + lines if self._is_torn else lines)
        self._is_torn = True
        while rest:
            rest = rest[self._file.write(rest) :]
        self._is_torn = False
        if self._file.tell() >= self._file_bytes_max:
            self._file.close()
            self._file = None  # Opened with the next line, as a new one.


def _line(
    at: float,
    request_id: bytes,
    key_id: str,
    operation: str,
    bucket: str,
    status: int | None,
    received_bytes: int,
    sent_bytes: int,
    first_byte_ns: int,
    whole_ns: int,
) -> AccessLine:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return AccessLine(
        f"{seconds}.{int(at % 1 * 1000):03d}Z",
        request_id.hex(),
        key_id,
        operation,
        bucket.encode("ascii", "backslashreplace").decode(),  # It may be anything.
        status,
        received_bytes,
        sent_bytes,
        first_byte_ns / 1e9,
        whole_ns / 1e9,
    )
