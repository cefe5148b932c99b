"""The same bytes into both ways of a front door, without sockets and on a clock of its own.

Each way has its own store, in the same state at first. What differs in the answers or in the
stores then is a fault: which way a request takes must not show.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import re
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast
from unittest.mock import patch

import msgspec
from tests.unit.s3.front_door_site import ALICE, CLUSTER, REGION
from tests.unit.s3.memory_store import MemoryStore

from octad.client.s3.owners import canonical_id
from octad.client.s3.sigv4 import UNSIGNED_PAYLOAD, sign_request
from octad.coordinator.schema.bucket_settings import OPEN
from octad.sharding.limits import MIB
from octad.storage_node.index.rows import ObjectExtras, ObjectRow, UploadRow
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.http.server import FrontDoor

BUCKET: Final = "public-bucket"  # With an object, `key`, that anybody may read, and an upload.
NOW_S: Final = 1_800_000_000.25
HOST: Final = "127.0.0.1:9000"
SIGN_HERE: Final = b"authorization: ALICE\r\n"  # Becomes her signature of the head it is in.
_PATIENCE_S: Final = 300.0  # More than any time limit of the door.
_REQUEST_LINE: Final = re.compile(rb"[A-Z]+ [^ \r\n]+ HTTP/1\.[01]\r\n")
_ID: Final = re.compile(rb"(?<=x-amz-request-id: )[0-9a-f]{32}|(?<=<RequestId>)[0-9a-f]{32}")
_CONNECTION: Final = re.compile(rb"Connection: [^\r\n]*\r\n")
_NO_REQUEST: Final = b"<Resource></Resource>"
_BEGINS: Final = re.compile(rb"(?=HTTP/1\.[01] [0-9]{3} )")


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for no timer: time jumps to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return super().select(timeout)
        found = super().select(0)
        if not found:
            self.now_s += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class _OpenSocket:
    """Of a connection that both sides keep open."""

    family = socket.AF_UNIX

    def getsockopt(self, *_: int) -> bytes:
        return b"\x01"

    def setsockopt(self, *_: int) -> None:
        """It has none."""


class _Pipe(asyncio.Transport):
    """A connection whose client sends `pieces` as fast as they are read, and then ends if told."""

    def __init__(self, pieces: list[bytes], *, ends: bool) -> None:
        super().__init__({"socket": _OpenSocket()})
        self.loop = asyncio.get_running_loop()
        self.written = bytearray()
        self.closed = asyncio.Event()
        self._closing = self._paused = False
        self._pieces, self._ends = deque(pieces), ends

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)
        self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        if self._paused or self._closing:
            return
        if self._pieces:
            self._receive(self._pieces.popleft())
            self.loop.call_soon(self._pump)
        elif self._ends:
            self._ends = False
            self.loop.call_later(1, self._end)  # Once all that can be answered is answered.

    def _end(self) -> None:
        if not self._closing and not cast(asyncio.Protocol, self._protocol).eof_received():
            self.close()

    def _receive(self, data: bytes) -> None:
        if not isinstance(self._protocol, asyncio.BufferedProtocol):
            cast(asyncio.Protocol, self._protocol).data_received(data)
            return
        space = cast(memoryview, self._protocol.get_buffer(-1))
        taken = min(len(space), len(data))
        space[:taken] = data[:taken]
        if data[taken:]:
            self._pieces.appendleft(data[taken:])
        self._protocol.buffer_updated(taken)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.loop.call_soon(self._protocol.connection_lost, None)
            self.loop.call_soon(self.closed.set)

    abort = close

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.loop.call_soon(self._pump)


@dataclass(frozen=True)
class Outcome:
    """What one way made of the bytes."""

    answers: bytes
    stored: str

    def agrees_with(self, other: Outcome) -> bool:
        """Whether they are alike, as far as both go.

        Either may end the connection earlier: after a refusal whose request has not come in whole
        yet, and where what follows is no request. aiohttp then drops also those that came with it,
        and refuses what follows the last request of a connection, where our own way is deaf to it.
        """
        (ours, we_refuse), (theirs, they_refuse) = self._answers(), other._answers()
        if ours == theirs and we_refuse == they_refuse:
            return self.stored == other.stored
        if len(ours) > len(theirs):
            return other.agrees_with(self)
        if theirs[: len(ours)] != ours:
            return False
        return self._is_ended() and (not we_refuse or other._is_ended())

    def _answers(self) -> tuple[list[bytes], bool]:
        """Those to requests, and whether something was no request."""
        answers = [_CONNECTION.sub(b"", answer) for answer in _BEGINS.split(self.answers) if answer]
        if answers and _NO_REQUEST in answers[-1]:
            return answers[:-1], True
        return answers, False

    def _is_ended(self) -> bool:
        return b"\r\nConnection: close\r\n" in _BEGINS.split(self.answers)[-1]


class _Door:
    def __init__(self, loop: _Loop, *, all_through_aiohttp: bool) -> None:
        self.store = MemoryStore()
        self._loop = loop
        self._ids = itertools.count(1)
        self._empty = copy.copy(self.store.__dict__)
        self._door = FrontDoor(
            self.store,
            {ALICE.access_key: (ALICE.secret_key, "alice")}.get,
            REGION,
            lambda: next(self._ids).to_bytes(16, "big"),
            BodyBudget(64 * MIB),
            cluster=CLUSTER,
            owner_of_id={canonical_id(CLUSTER, "alice"): "alice"}.get,
            all_through_aiohttp=all_through_aiohttp,
        )
        loop.run_until_complete(self._door.start("127.0.0.1", 0))

    def stop(self) -> None:
        self._loop.run_until_complete(self._door.stop(grace_s=0))

    async def _fill(self) -> None:
        """The store as it is before every run."""
        self.store.__dict__.update(copy.deepcopy(MemoryStore().__dict__))
        settings = msgspec.structs.replace(OPEN, acl="public-read")
        bucket = await self.store.create_bucket(BUCKET, "alice", settings=settings)
        row = ObjectRow(4, "e" * 32, 1_700_000_000_000, extras=ObjectExtras(acl="public-read"))
        await self.store.put_object(bucket, b"key", row, b"data", b"a" * 16)
        upload = UploadRow(1_700_000_000_000, "alice")
        await self.store.create_upload(bucket, b"key", bytes(16), upload, b"b" * 16)

    async def run(self, pieces: list[bytes], *, ends: bool) -> Outcome:
        await self._fill()
        self._ids = itertools.count(1)
        assert self._door.room is not None
        pipe = _Pipe(pieces, ends=ends)
        pipe.begin(self._door.room())
        async with asyncio.timeout(_PATIENCE_S):
            await pipe.closed.wait()
        for _ in range(3):
            await asyncio.sleep(1)  # What was under way ends.
        store = self.store
        assert not store.open_bodies, "a body was neither finished nor abandoned"
        assert not self._door.room.present, "a connection is kept"
        stored = (store.buckets, store.objects, store.uploads, store.extents, store.request_ids)
        return Outcome(_ID.sub(b"", bytes(pipe.written)), repr(stored))


class TwinDoors:
    """Both ways; use it within `open_doors`."""

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop
        self._hot = _Door(loop, all_through_aiohttp=False)
        self._aiohttp = _Door(loop, all_through_aiohttp=True)

    def stop(self) -> None:
        self._hot.stop()
        self._aiohttp.stop()

    def outcomes(self, sent: bytes, *, ends: bool = True) -> dict[str, Outcome]:
        """Of all at once and of small pieces, both ways."""
        sent = signed(sent)
        found: dict[str, Outcome] = {}
        for name, door in (("own way", self._hot), ("aiohttp", self._aiohttp)):
            for manner, pieces in (("at once", [sent]), ("in pieces", list(_pieces(sent)))):
                run = door.run(pieces, ends=ends)
                found[f"{name}, {manner}"] = self._loop.run_until_complete(run)
        return found

    def compare(self, sent: bytes, *, ends: bool) -> None:
        """Raises AssertionError where it matters which way the bytes take, or in which pieces."""
        found = self.outcomes(sent, ends=ends)
        (first, expected), *others = found.items()
        for other, outcome in others:
            assert expected.agrees_with(outcome), (
                f"{first}: {expected}\n{other}: {outcome}\nof {signed(sent)!r}"
            )


def _pieces(sent: bytes) -> Iterator[bytes]:
    sizes, start = itertools.cycle((1, 2, 3, 41)), 0
    while start < len(sent):
        size = next(sizes)
        yield sent[start : start + size]
        start += size


@contextmanager
def open_doors() -> Iterator[TwinDoors]:
    """Time stands still for all that asks for it meanwhile."""
    loop = _Loop()
    with patch.object(time, "time", lambda: NOW_S):
        doors = TwinDoors(loop)
        try:
            yield doors
        finally:
            doors.stop()
            left = asyncio.all_tasks(loop)
            loop.close()
            assert not left


def signed(sent: bytes) -> bytes:
    """`sent` with Alice's signature wherever it says so, if a signature can be made there."""
    while SIGN_HERE in sent:
        before, _, after = sent.partition(SIGN_HERE)
        begins = [found.start() for found in _REQUEST_LINE.finditer(before)]
        rest, _, _ = (b"\r\n" + after).partition(b"\r\n\r\n")
        lines = _signature(before[begins[-1] :] + rest) if begins else b""
        sent = before + lines + after
    return sent


def _signature(head: bytes) -> bytes:
    """The lines of a signature over the lines of a head."""
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = request_line.split(" ")
    path, _, query = target.partition("?")
    headers: dict[str, str] = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip(" \t")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    try:
        added, _ = sign_request(
            method=method,
            path=path,
            query=query,
            headers={"host": "", **headers},
            credentials=ALICE,
            region=REGION,
            now=NOW_S,
            content_sha256=headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD),
        )
    except UnicodeError:
        return b""
    added = {name: value for name, value in added.items() if name not in headers}
    return "".join(f"{name}: {value}\r\n" for name, value in added.items()).encode("latin-1")
