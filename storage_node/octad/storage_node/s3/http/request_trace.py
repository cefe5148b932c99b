"""Requests as they end, for who watches: a `RequestLog` that stands where one is watched, only.

    nobody watches:   figures ─► access log
    somebody does:    figures ─► RequestTraces ─► access log
                                      └─► each watcher's lines, up to LINES_WAITING_MAX

So while nobody watches, a request costs nothing more than with no trace at all.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from math import ceil
from typing import Final

from octad.client.s3.trace_document import TraceFilter, TraceLine
from octad.storage_node.s3.handlers.request import Request
from octad.storage_node.s3.http.door_figures import DoorFigures, RequestLog

WATCHERS_MAX: Final = 4
LINES_WAITING_MAX: Final = 1000  # Of a watcher that takes them every PAUSE_S.
_PATH_CHARACTERS_MAX: Final = 512


class TooManyWatchers(Exception):
    """As many watch as may."""


class RequestTraces:
    """Of one node's S3 port, whose `figures` it stands behind while somebody watches."""

    def __init__(self, figures: DoorFigures) -> None:
        self._figures = figures
        self._before: RequestLog | None = None
        self._watchers: list[TraceWatcher] = []

    @property
    def left_out(self) -> int:
        """Of the access log."""
        return 0 if self._before is None else self._before.left_out

    def watch(self, wanted: TraceFilter) -> TraceWatcher:
        """To be ended by `leave`. Raises TooManyWatchers."""
        if len(self._watchers) == WATCHERS_MAX:
            raise TooManyWatchers
        if not self._watchers:
            self._before, self._figures.log = self._figures.log, self
        watcher = TraceWatcher(wanted)
        self._watchers.append(watcher)
        return watcher

    def leave(self, watcher: TraceWatcher) -> None:
        self._watchers.remove(watcher)
        if not self._watchers:
            self._figures.log, self._before = self._before, None

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
        figures = status, received_bytes, sent_bytes, first_byte_ns, whole_ns
        if self._before is not None:
            self._before.add(request_id, request, *figures)
        for watcher in self._watchers:
            watcher.add(request_id, request, *figures)


class TraceWatcher:
    """The lines of one watcher."""

    def __init__(self, wanted: TraceFilter) -> None:
        self.left_out = 0
        self._wanted = wanted
        self._seen = 0
        self._waiting: deque[TraceLine] = deque()
        self._came = asyncio.Event()

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
        wanted, seconds = self._wanted, whole_ns / 1e9
        if not wanted.takes(request.operation, request.bucket, request.key_id, status, seconds):
            return
        self._seen += 1
        if ceil(self._seen * wanted.sample) == ceil((self._seen - 1) * wanted.sample):
            return
        if len(self._waiting) == LINES_WAITING_MAX:
            self.left_out += 1
            return
        path = request.target.partition("?")[0][:_PATH_CHARACTERS_MAX]  # A query may be signed.
        at = time.time()
        seconds_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
        self._waiting.append(
            TraceLine(
                f"{seconds_text}.{int(at % 1 * 1000):03d}Z",
                request_id.hex(),
                request.key_id,
                request.operation,
                request.method[:16],
                path.encode("ascii", "backslashreplace").decode(),
                status,
                received_bytes,
                sent_bytes,
                first_byte_ns / 1e9,
                seconds,
            )
        )
        self._came.set()

    async def lines(self, wait_s: float) -> list[TraceLine]:
        """Those that wait, or the next that come; none where none has come by then."""
        try:
            async with asyncio.timeout(wait_s):
                await self._came.wait()
        except TimeoutError:
            return []
        self._came.clear()
        lines = list(self._waiting)
        self._waiting.clear()
        return lines
