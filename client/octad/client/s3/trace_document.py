"""What a node tells who watches its requests: which it is asked for, and a line for each.

GET /node/v1/trace?operation=PutObject&status=5xx     a JSON document a line, as they end
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec

TRACE_PATH: Final = "/node/v1/trace"
_STATUS: Final = re.compile(r"[1-5](xx|\d\d)")


class BadFilter(ValueError):
    """A parameter that is not understood."""


class TraceFilter(msgspec.Struct, frozen=True):
    """Which requests; "" and 0: all. `sample`: the share of those that is told."""

    operation: str = ""  # S3's name.
    bucket: str = ""
    key_id: str = ""
    status: str = ""  # As in 404 or 5xx; 499: its client left before it was answered.
    slower_s: float = 0.0
    sample: float = 1.0

    def takes(
        self, operation: str, bucket: str, key_id: str, status: int | None, seconds: float
    ) -> bool:
        """Whether such a request is one of those."""
        code = str(LEFT_STATUS if status is None else status)
        return (
            seconds >= self.slower_s
            and self.operation in ("", operation)
            and self.bucket in ("", bucket)
            and self.key_id in ("", key_id)
            and self.status in ("", code, f"{code[0]}xx")
        )

    def query(self) -> str:
        """For `filter_of`; "" where it takes all."""
        given = {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if value != getattr(_ALL, name)
        }
        return urlencode(sorted(given.items()))


LEFT_STATUS: Final = 499
_ALL: Final = TraceFilter()


def filter_of(query: Mapping[str, str]) -> TraceFilter:
    """Raises BadFilter."""
    try:
        found = msgspec.convert(dict(query), TraceFilter, strict=False)
    except msgspec.ValidationError as error:
        raise BadFilter(str(error)) from error
    if unknown := set(query) - set(TraceFilter.__struct_fields__):
        raise BadFilter(f"there is no filter {min(unknown)!r}")
    if found.status and _STATUS.fullmatch(found.status) is None:
        raise BadFilter(f"{found.status!r} is no status: as in 404 or 5xx")
    if not 0 < found.sample <= 1:
        raise BadFilter(f"sample={found.sample:g}: more than 0, at most 1")
    return found


class TraceLine(msgspec.Struct, frozen=True, tag="request", tag_field="kind"):
    """A request that has ended. Bytes are those of bodies; the path is without its query."""

    time: str
    request_id: str
    key_id: str  # Empty if it was not signed.
    operation: str
    method: str
    path: str
    status: int | None  # None: its client left before it was answered.
    received_bytes: int
    sent_bytes: int
    first_byte_s: float
    seconds: float


class TraceProgress(msgspec.Struct, frozen=True, tag="progress", tag_field="kind"):
    """At the beginning, and every some seconds: that the node goes on."""

    left_out: int  # Requests since the beginning that came too fast to be told.


def decode_told(line: bytes) -> TraceLine | TraceProgress:
    """Raises msgspec.DecodeError."""
    return _DECODER.decode(line)


_DECODER: Final = msgspec.json.Decoder(TraceLine | TraceProgress)
