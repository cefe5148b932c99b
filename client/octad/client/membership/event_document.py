"""The events that watchers receive: every change under a prefix, in one order, by revision.

A document is a reset (the full state as of `revision`) or the changes after the token that was
asked for, up to `revision`: complete revisions, always. Its `token` is where to go on from, at any
coordinator: the life of the configuration store, and the revision in it. A store that was filled
anew has another life, so that its revisions are not taken for those of the one before. As
server-sent events, each document is one message whose id is that token:

    event: reset | events | progress
    id: <life>-<revision>
    data: <the document>

This file knows bytes only. Examples: `docs/reference/coordinator-http.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec

EVENTS_PATH = "/cluster/v1/events"
SSE_TYPE = "text/event-stream"
# Prefixes that anyone may watch. Access keys, fences and the like are not among them.
PUBLIC_KINDS = ("nodes/", "services/", "locks/", "shards/", "pools/", "plans/", "leader")
LAST_EVENT_ID_HEADER = "Last-Event-ID"
SSE_LINE_BYTES_MAX = 256 * 1024 * 1024  # A reset is one line.

NO_VALUE = msgspec.Raw(b"null")

_TOKEN = re.compile(r"(?:([0-9a-f]{1,16})-)?([0-9]{1,19})", re.ASCII)

EventType = Literal["join", "change", "leave"]


class WatchToken(NamedTuple):
    """The position of a watch. Revisions of different lives cannot be compared."""

    life: str
    revision: int


def encode_token(token: WatchToken) -> str:
    return f"{token.life}-{token.revision}"


def decode_token(text: str) -> WatchToken:
    """The inverse; a bare number is of no known life. Raises ValueError."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is not the token of an earlier answer")
    return WatchToken(found[1] or "", int(found[2]))


class ClusterEvent(msgspec.Struct, frozen=True):
    """One key came, changed or went. `value` is what the store keeps under it; null: gone."""

    type: EventType
    key: str  # `services/web/a`, `nodes/3`, `shards/0/17`, …
    revision: int
    value: msgspec.Raw


class EventsDocument(msgspec.Struct, frozen=True):
    """`reset`: discard the former state; `events` are the full state, as joins."""

    revision: int
    reset: bool
    events: tuple[ClusterEvent, ...] = ()
    age_s: float = 0.0  # How long ago the configuration store last confirmed this.
    token: str = ""  # Where to go on from.


@dataclass(frozen=True, slots=True)
class SseMessage:
    """One server-sent event."""

    event: str
    id: str
    data: bytes


def encode_sse(document: EventsDocument) -> bytes:
    """`document` as one server-sent event. Its JSON has no line ends."""
    kind = "reset" if document.reset else "events" if document.events else "progress"
    data = msgspec.json.encode(document)
    return b"event: %s\nid: %s\ndata: %s\n\n" % (kind.encode(), document.token.encode(), data)


class SseReader:
    """Bytes as they come from the network in, complete messages out."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._fields: dict[str, bytes] = {}

    def feed(self, data: bytes) -> Iterator[SseMessage]:
        """The messages that `data` completes. Raises ValueError for a line without end."""
        self._unread += data
        if b"\n" not in data:
            if len(self._unread) > SSE_LINE_BYTES_MAX:
                raise ValueError(f"a line of more than {SSE_LINE_BYTES_MAX} bytes")
            return
        *lines, rest = bytes(self._unread).split(b"\n")
        self._unread = bytearray(rest)
        for line in lines:
            message = self._take(line.removesuffix(b"\r"))
            if message is not None:
                yield message

    def _take(self, line: bytes) -> SseMessage | None:
        if line:
            name, _, value = line.partition(b":")
            self._fields[name.decode(errors="replace")] = value.removeprefix(b" ")
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None  # A comment, which keeps the connection alive.
        event, id_ = fields.get("event", b"message"), fields.get("id", b"")
        return SseMessage(
            event.decode(errors="replace"), id_.decode(errors="replace"), fields["data"]
        )
