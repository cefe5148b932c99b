"""Our own way into the node: one connection's requests that are small and plainly framed.

    READING ──head and body are here──> ANSWERING ──written──> READING
       │  └──the client awaits our word──> ANSWERING, its body arrives meanwhile
       └──large, chunked, slow or unusual──> VISITED by aiohttp ──answered──> READING

Which way a request takes depends on how it is framed, never on what it asks for: both ways ask the
same `Answerer`. aiohttp is handed a request from its first byte on, and no byte of the next one,
so the connection comes back to us after it; only where the end of a body cannot be told from its
head (chunked coding, or what is no HTTP) it keeps the connection.

One request of a connection is answered at a time. What a client sends ahead waits here, up to a
bound, and then in its socket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, cast

from octad.client.core.http_dates import http_date
from octad.client.core.s3_errors import S3Error
from octad.sharding.limits import INLINE_BYTES_MAX, KIB
from octad.storage_node.s3.answers import CONTINUE, Answer, connection_line
from octad.storage_node.s3.payload import ObjectBytes
from octad.storage_node.shell.front_door.connections import (
    IDLE_S_MAX,
    READ_BUFFER_BYTES,
    Connection,
    Host,
)
from octad.storage_node.shell.front_door.request import HeldBody, Request
from octad.storage_node.shell.front_door.request_head import (
    HEAD_BYTES_MAX,
    HEAD_END,
    RequestHead,
    read_head,
)
from octad.storage_node.shell.front_door.wire import STALLED_S_MAX, open_transport, write_answer

# An object that lies in its own record, with what aws-chunked adds to it.
BODY_BYTES_MAX: Final = INLINE_BYTES_MAX + 8 * KIB
SLOW_S: Final = 5.0  # A body that is not here by then is left to aiohttp, which counts its pauses.
_NOTHING: Final = HeldBody(b"")


@dataclass(slots=True)
class HotDoor:
    """What the connections of one listener share."""

    answer: Callable[[Request, bytes], Awaitable[Answer]]
    next_request_id: Callable[[], bytes]
    new_guest: Callable[[Host], Connection]
    connections: set[HotConnection] = field(default_factory=set)
    stopping: bool = False

    def __call__(self) -> HotConnection:
        return HotConnection(self)


class HotConnection(asyncio.Protocol):
    """One connection, and the `Wire` that its answers are written to."""

    __slots__ = (
        "_arrival",
        "_door",
        "_drained",
        "_ended",
        "_guest",
        "_guest_answers",
        "_guest_left",
        "_head",
        "_held",
        "_loop",
        "_needed",
        "_reading_paused",
        "_since",
        "_task",
        "_visited",
        "transport",
        "writing_paused",
    )

    def __init__(self, door: HotDoor) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.writing_paused = False
        self._held = b""  # What arrived and belongs to no request that is being answered.
        self._needed = 0  # How much of it there must be before it is worth another look.
        self._head: RequestHead | None = None  # Of the request whose body is arriving.
        self._task: asyncio.Task[None] | None = None  # Answers a request.
        self._arrival: asyncio.Future[None] | None = None  # Wakes whoever waits for its body.
        self._drained: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._ended = False  # The client sends nothing more.
        self._since = self._loop.time()  # When the wait for the rest of a request began.
        self._guest: Connection | None = None  # Made when it is first needed, and kept.
        self._visited = False  # What arrives is the guest's.
        self._guest_left: int | None = 0  # Bytes of the request that it still lacks; None: all.
        self._guest_answers = False

    # -- what the transport tells ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast(asyncio.Transport, transport)
        self._door.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """The next bytes of the connection."""
        if self._visited:
            self._to_guest(data)
            return
        held = self._held = self._held + data if self._held else data
        if self._task is None:
            if len(held) >= self._needed:
                self._proceed()
            return
        self._limit_reading()
        self._wake(None)

    def eof_received(self) -> bool:
        """The client sends nothing more, but may still read its answer."""
        self._ended = True
        if self._visited and self._guest is not None:
            self._guest.eof_received()
            return False
        self._wake(ConnectionResetError("the client has ended"))
        return self._task is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone. A write in progress goes on: its outcome would be unknown."""
        self.transport = None
        if self._task is None:
            self._door.connections.discard(self)
        gone = ConnectionResetError("the client is gone")
        self._wake(gone)
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(gone)
        if self._guest is not None:
            self._guest.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self.writing_paused = True
        if self._guest is not None:
            self._guest.pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._guest is not None:
            self._guest.resume_writing()

    async def drained(self) -> None:
        """Returns when the client has caught up; raises ConnectionError where it is gone."""
        if self.writing_paused:
            open_transport(self)
            self._drained = self._loop.create_future()
            await self._drained

    # -- from bytes to requests -----------------------------------------------------------------

    def _proceed(self) -> None:
        """Begin to answer the next request if enough of it is here."""
        held, head = self._held, self._head
        end = held.find(HEAD_END, 0, HEAD_BYTES_MAX) + len(HEAD_END)
        if end < len(HEAD_END):
            if len(held) >= HEAD_BYTES_MAX:
                self._visit(None)
            return
        if head is None:
            head = read_head(held[:end])
            if head is None:
                self._visit(None)
                return
        size = head.body_bytes
        whole = end + size
        if size > BODY_BYTES_MAX:
            self._visit(whole)
        elif head.awaits_word:
            self._held = held[end:]
            body = _AwaitedBody(self, size)
            self._begin(head, body, body)
        elif len(held) >= whole:
            self._held = held[whole:]
            self._begin(head, HeldBody(held[end:whole]) if size else _NOTHING, None)
        else:
            self._head, self._needed = head, whole
            self._since = self._loop.time()

    def _begin(
        self, head: RequestHead, body: HeldBody | _AwaitedBody, awaited: _AwaitedBody | None
    ) -> None:
        self._head, self._needed = None, 0
        self._task = self._loop.create_task(self._answer(head, body, awaited))

    async def _answer(
        self, head: RequestHead, body: HeldBody | _AwaitedBody, awaited: _AwaitedBody | None
    ) -> None:
        door = self._door
        request_id = door.next_request_id()
        written = keep = False
        try:
            request = Request(head.method, head.target, head.headers, body)
            answer = await door.answer(request, request_id)
            past = awaited is None or awaited.is_past()
            keep = head.keep_alive and past and not self._ended and not door.stopping
            await write_answer(
                self,
                head.method,
                answer,
                request_id=request_id.hex(),
                date=http_date(int(time.time()) * 1000),
                connection=connection_line(keep=keep, persistent=head.persistent),
            )
            written = True
        except ConnectionError:
            pass  # Nobody is left to be answered.
        except asyncio.CancelledError:
            self._abort()  # Cut short at the end: an answer in part must not look like a whole one.
            raise
        finally:
            self._task = None
            self._go_on(keep=keep and written)

    def _go_on(self, *, keep: bool) -> None:
        """The answer is written: what comes next?"""
        if self.transport is None:
            self._door.connections.discard(self)
            return
        if self.transport.is_closing():
            return
        if not keep:
            self.transport.close()
            return
        self._since = self._loop.time()
        if self._held:
            self._proceed()
        self._limit_reading()

    def _limit_reading(self) -> None:
        """What waits here is bounded; the rest waits in the socket."""
        full = len(self._held) > READ_BUFFER_BYTES
        if full == self._reading_paused or self.transport is None or self.transport.is_closing():
            return
        self._reading_paused = full
        if full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # -- a body that is on its way --------------------------------------------------------------

    def take(self, size: int) -> bytes:
        """Up to `size` of the bytes that have arrived."""
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    async def arrival(self) -> None:
        """Returns when more has arrived; raises ConnectionError where nothing more will."""
        open_transport(self)
        if self._ended:
            raise ConnectionResetError("the client has ended")
        self._arrival = self._loop.create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None

    def _wake(self, error: Exception | None) -> None:
        if self._arrival is None or self._arrival.done():
            return
        if error is None:
            self._arrival.set_result(None)
        else:
            self._arrival.set_exception(error)

    # -- aiohttp as a guest ---------------------------------------------------------------------

    def _visit(self, size: int | None) -> None:
        """Hand over the request whose first byte is the first that is held.

        It is `size` bytes long, or None where only aiohttp can tell.
        """
        assert self.transport is not None
        if self._guest is None:
            self._guest = self._door.new_guest(self)
            self._guest.connection_made(self.transport)
        self._head, self._needed = None, 0
        self._visited, self._guest_left = True, size
        data, self._held = self._held, b""
        self._to_guest(data)

    def _to_guest(self, data: bytes) -> None:
        assert self._guest is not None
        if self._guest_left is not None:
            if len(data) > self._guest_left:
                self._held += data[self._guest_left :]
                data = data[: self._guest_left]
                self._limit_reading()
            self._guest_left -= len(data)
        if data:
            self._guest.data_received(data)

    def guest_begins(self) -> None:
        """The request that was handed over is being answered."""
        self._guest_answers = True

    def guest_ends(self, *, keep: bool) -> None:
        """It has been, and the connection goes on if `keep`."""
        self._guest_answers = False
        self._since = self._loop.time()
        if keep and self._guest_left == 0:
            self._visited = False
            self._go_on(keep=True)

    # -- patience -------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a request of it is being answered, or its body is on its way."""
        return self._is_answering or self._head is not None

    @property
    def idle_since(self) -> float | None:
        """By the loop's clock; None while a request is under way, and once it is closed."""
        return None if self.is_busy or self.transport is None else self._since

    def let_go(self) -> None:
        """Somebody else needs the room."""
        self._door.connections.discard(self)
        self._abort()

    @property
    def _is_answering(self) -> bool:
        return self._task is not None or self._guest_answers

    def look(self, now: float) -> None:
        """Called now and then: an idle connection ends, a slow body becomes aiohttp's."""
        if self._is_answering or self.transport is None:
            return
        waited_s = now - self._since
        if self._head is not None and waited_s > SLOW_S:
            self._visit(self._needed)
        elif waited_s > IDLE_S_MAX and not self.transport.is_closing():
            self.transport.close()
        elif waited_s > IDLE_S_MAX:
            self._abort()  # It was closed, and the client does not read its last answer.

    def close_if_idle(self) -> None:
        """The node stops."""
        if not self.is_busy and self.transport is not None:
            self.transport.close()

    def cut_short(self) -> None:
        """The node does not wait any longer for what is being answered."""
        if self._task is not None:
            self._task.cancel()
        self._abort()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _AwaitedBody:
    """The body of a request with `Expect: 100-continue`, which may not have been sent yet."""

    __slots__ = ("_connection", "_invited", "_left", "held")

    def __init__(self, connection: HotConnection, size: int) -> None:
        self._connection = connection
        self._left = size
        self._invited = False
        self.held: bytes | None = None

    async def invite(self) -> None:
        """Let the client send it, also an empty one: see `is_past`."""
        self._invited = True
        open_transport(self._connection).write(CONTINUE)

    async def pieces(self) -> AsyncGenerator[ObjectBytes]:
        """The body as it arrives."""
        while self._left:
            if piece := self._take():
                yield piece
                continue
            try:
                async with asyncio.timeout(STALLED_S_MAX):
                    await self._connection.arrival()
            except TimeoutError:
                raise S3Error("RequestTimeout") from None

    def is_past(self) -> bool:
        """Whether the connection can go on after it.

        Not where the client was answered instead of invited: botocore takes the status of such an
        answer for that of the next one, too, on the same connection.
        """
        self._take()
        return self._invited and self._left == 0

    def _take(self) -> bytes:
        piece = self._connection.take(self._left)
        self._left -= len(piece)
        return piece
