"""The front door's counters of requests: their durations, their bytes, and those under way.

Both ways into the node call it once per request, at its end. It is on the path of every
request, so it adds to whole numbers and does nothing else.
"""

from __future__ import annotations

import time
from typing import Protocol

from octad.client.runtime.time_histogram import TimeHistogram
from octad.storage_node.s3.handlers.request import Request
from octad.storage_node.s3.protocol.answers import Answer


class RequestLog(Protocol):
    """Takes a line for each request."""

    @property
    def left_out(self) -> int:
        """Lines that it did not take."""

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
        """A request is over; `status` is None where its client left before it was answered."""


class OperationTimes:
    """One operation's times: until the answer began, and until all of it was written."""

    __slots__ = ("first_byte", "whole")

    def __init__(self) -> None:
        self.first_byte = TimeHistogram()
        self.whole = TimeHistogram()


class DoorFigures:
    """Since the start. Bytes are those of bodies."""

    __slots__ = ("in_flight", "log", "received_bytes", "sent_bytes", "times")

    def __init__(self, log: RequestLog | None = None) -> None:
        self.log = log
        self.in_flight = 0  # Counted up by the caller when a request begins,
        self.received_bytes = 0
        self.sent_bytes = 0
        self.times: dict[str, OperationTimes] = {}  # By operation.

    def ended(
        self,
        request_id: bytes,
        request: Request,
        answer: Answer | None,
        received_bytes: int,
        began_ns: int,
        answered_ns: int,
    ) -> None:
        """A request has ended. Times are of `time.monotonic_ns`."""
        self.in_flight -= 1
        self.received_bytes += received_bytes
        whole_ns = time.monotonic_ns() - began_ns
        first_byte_ns = answered_ns - began_ns
        if answer is not None:
            self.sent_bytes += answer.sent
            times = self.times.get(request.operation)
            if times is None:
                times = self.times[request.operation] = OperationTimes()
            times.first_byte.add(first_byte_ns)
            times.whole.add(whole_ns)
        if self.log is not None:
            status, sent = (None, 0) if answer is None else (answer.status, answer.sent)
            self.log.add(request_id, request, status, received_bytes, sent, first_byte_ns, whole_ns)
