"""Our own way into the node: one connection's requests that are plainly framed.

    READING ──head is here──> ANSWERING, its body is read as it is wanted ──written──> READING
       │                                        └──some of the body is left──> SKIPPING ──┘
       └──chunked or unusual──> VISITED by aiohttp, which keeps the connection

Which way a request takes depends on how it is framed, never on what it asks for: both ways ask the
same `S3Handler`. aiohttp is handed what arrives from the request's first byte on, since the end of
such a request cannot be seen from its head.

One request of a connection is answered at a time. No more of its body is read than came with its
head before it is requested. What a client sends ahead waits here, up to a bound, and then in
its socket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, cast

from octad.client.s3.http_dates import http_date
from octad.sharding.limits import INLINE_BYTES_MAX, KIB
from octad.storage_node.s3.handlers.request import HeldBody, Request
from octad.storage_node.s3.http.arriving_body import ArrivingBody
from octad.storage_node.s3.http.connections import (
    IDLE_S_MAX,
    LINGER_S_MAX,
    Connection,
    Host,
)
from octad.storage_node.s3.http.cut_short import is_cut_short
from octad.storage_node.s3.http.door_figures import DoorFigures
from octad.storage_node.s3.http.request_head import (
    HEAD_BYTES_MAX,
    HEAD_END,
    RequestHead,
    begins_a_head,
    read_head,
)
from octad.storage_node.s3.http.wire import open_transport, write_answer
from octad.storage_node.s3.protocol.answers import Answer, connection_line

SCRATCH_BYTES: Final = 64 * KIB  # Bytes read at a time while no body is requested.
AHEAD_BYTES_MAX: Final = 16 * KIB  # Beyond what was read with them, of requests sent ahead.
# What is left of a body that was not wanted, up to an object in its own record with what
# aws-chunked adds to it: the client need not connect again for that.
SKIPPED_BYTES_MAX: Final = INLINE_BYTES_MAX + 8 * KIB
_NOTHING: Final = HeldBody(b"")


@dataclass(slots=True)
class HotListener:
    """Shared by the connections of one listener."""

    answer: Callable[[Request, bytes], Awaitable[Answer]]
    next_request_id: Callable[[], bytes]
    new_guest: Callable[[Host], Connection]
    figures: DoorFigures
    connections: set[HotConnection] = field(default_factory=set)
    stopping: bool = False
    scratch: memoryview = field(default_factory=lambda: memoryview(bytearray(SCRATCH_BYTES)))

    def __call__(self) -> HotConnection:
        return HotConnection(self)


class HotConnection(asyncio.BufferedProtocol):
    """One connection: the `Source` of its bodies, and the `Wire` that answers are written to."""

    __slots__ = (
        "_arrival",
        "_body",
        "_door",
        "_drained",
        "_ended",
        "_filled",
        "_guest",
        "_guest_answers",
        "_held",
        "_is_last",
        "_loop",
        "_reading_paused",
        "_since",
        "_skipped",
        "_space",
        "_task",
        "_visited",
        "transport",
        "writing_paused",
    )

    def __init__(self, door: HotListener) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.writing_paused = False
        self._held = b""  # Bytes that arrived before they were requested.
        self._task: asyncio.Task[None] | None = None  # Answers a request.
        self._body: ArrivingBody | None = None  # That request's, if it had not all arrived.
        self._space: memoryview | None = None  # Where its next bytes go, as far as it is wanted,
        self._filled = 0  # and how many of them are there.
        self._arrival: asyncio.Future[None] | None = None  # Wakes the reader that waits for them.
        self._skipped = 0  # Bytes still to come of the body before, which no one wanted.
        self._drained: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._ended = False  # The client sends nothing more.
        self._is_last = False  # Nothing that it sends is answered any more.
        self._since = self._loop.time()  # When the wait for the rest of a request began.
        self._guest: Connection | None = None  # Made when it is first needed, then reused.
        self._visited = False  # Arriving bytes go to the guest.
        self._guest_answers = False

    # -- events of the transport -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast(asyncio.Transport, transport)
        self._door.connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer for the next bytes: their reader's, else the one all connections share."""
        return self._door.scratch if self._space is None else self._space[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """They are there."""
        if self._space is None:
            self.data_received(bytes(self._door.scratch[:nbytes]))
        else:
            self._filled += nbytes
            if self._filled == len(self._space):
                self._space = None
                self._limit_reading()
                self._wake(None)

    def data_received(self, data: bytes) -> None:
        """The next bytes of the connection, which no one has asked for."""
        if self._visited:
            assert self._guest is not None
            self._guest.data_received(data)
            return
        self._held = self._held + data if self._held else data
        if self._task is None:
            self._proceed()
        else:
            self._limit_reading()

    def eof_received(self) -> bool:
        """The client sends nothing more, but may still read its answer."""
        self._ended = True
        if self._visited and self._guest is not None:
            return self._guest.eof_received()
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
        """The client has caught up."""
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
        """Begin to answer the next request if its head is here."""
        if self._skipped and not self._skip():
            return
        held = self._held
        end = held.find(HEAD_END, 0, HEAD_BYTES_MAX) + len(HEAD_END)
        if end < len(HEAD_END):
            if len(held) >= HEAD_BYTES_MAX or (held and not begins_a_head(held)):
                self._visit()
            return
        head = read_head(held[:end])
        if head is None:
            self._visit()
            return
        size, whole = head.body_bytes, end + head.body_bytes
        if len(held) >= whole and not head.expects_continue:
            self._held = held[whole:]
            self._begin(head, HeldBody(held[end:whole]) if size else _NOTHING, None)
        else:
            self._held = held[end:]
            body = ArrivingBody(self, size, is_awaited=head.expects_continue)
            self._begin(head, body, body)

    def _begin(
        self, head: RequestHead, body: HeldBody | ArrivingBody, arriving: ArrivingBody | None
    ) -> None:
        self._body = arriving
        self._task = self._loop.create_task(self._answer(head, body, arriving, time.monotonic_ns()))
        if self._held or arriving is not None:
            self._limit_reading()

    async def _answer(
        self,
        head: RequestHead,
        body: HeldBody | ArrivingBody,
        arriving: ArrivingBody | None,
        began_ns: int,
    ) -> None:
        door, figures = self._door, self._door.figures
        figures.in_flight += 1
        request_id = door.next_request_id()
        request = Request(head.method, head.target, head.headers, body, head.expects_continue)
        answer: Answer | None = None
        answered_ns = began_ns
        written = keep = False
        try:
            answer = await door.answer(request, request_id)
            answered_ns = time.monotonic_ns()
            last = self._ended and not self._held
            keep = head.keep_alive and not last and not door.stopping
            if arriving is not None:
                keep &= arriving.may_be_passed and arriving.left <= SKIPPED_BYTES_MAX
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
            pass  # No client is left to answer.
        except asyncio.CancelledError:
            self._abort()  # Cut short at the end: an answer in part must not look like a whole one.
            raise
        finally:
            self._task = self._body = None
            received = head.body_bytes
            if arriving is not None:
                received -= arriving.left
                if arriving.may_be_passed:
                    self._skipped = arriving.left
            figures.ended(request_id, request, answer, received, began_ns, answered_ns)
            self._go_on(keep=keep and written)

    def _go_on(self, *, keep: bool) -> None:
        """The answer is written: what comes next?"""
        if self.transport is None:
            self._door.connections.discard(self)
            return
        if self.transport.is_closing():
            return
        self._since = self._loop.time()
        self._is_last = not keep
        if self._is_last and not self._skipped:
            self.transport.close()
            return
        if self._held:
            self._proceed()
        if self._ended and self._task is None and not self._visited:
            self.transport.close()  # The rest of the request will not arrive.
        self._limit_reading()

    def _skip(self) -> bool:
        """Whether the rest of a body that no one wanted is past, and another request may come.

        A client reads its answer only once it has sent all, or as much as is taken.
        """
        skipped = min(len(self._held), self._skipped)
        self._held = self._held[skipped:]
        self._skipped -= skipped
        if self._is_last and not self._skipped and self.transport is not None:
            self.transport.close()
        return not self._is_last and not self._skipped

    def _limit_reading(self) -> None:
        """Bytes waiting here are bounded, and not a body's; the rest waits in the socket."""
        if self._body is not None and self._body.left:
            pause = self._space is None
        else:
            pause = len(self._held) > AHEAD_BYTES_MAX
        if pause == self._reading_paused:
            return
        if self.transport is None or self.transport.is_closing():
            return
        self._reading_paused = pause
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # -- a body that is on its way --------------------------------------------------------------

    def take_into(self, space: memoryview) -> int:
        """See `Source.take_into`."""
        taken, self._held = self._held[: len(space)], self._held[len(space) :]
        space[: len(taken)] = taken
        return len(taken)

    async def receive_into(self, space: memoryview, wait_s: float) -> int:
        """See `Source.receive_into`."""
        transport, body = open_transport(self), self._body
        assert body is not None
        left = body.left
        if self._ended or (left > SKIPPED_BYTES_MAX and is_cut_short(transport, left)):
            raise ConnectionResetError("the client has ended")
        self._space, self._filled = space, 0
        self._arrival = self._loop.create_future()
        over = self._loop.call_later(wait_s, self._wake, None)
        self._limit_reading()
        try:
            await self._arrival
            return self._filled
        finally:
            over.cancel()
            self._space = self._arrival = None
            self._limit_reading()

    def _wake(self, error: Exception | None) -> None:
        if self._arrival is None or self._arrival.done():
            return
        if error is None:
            self._arrival.set_result(None)
        else:
            self._arrival.set_exception(error)

    # -- aiohttp as a guest ---------------------------------------------------------------------

    def _visit(self) -> None:
        """Hand over what is held, and all that comes."""
        assert self.transport is not None
        self._guest = self._door.new_guest(self)
        self._guest.connection_made(self.transport)
        data, self._held = self._held, b""
        self._limit_reading()  # The guest does so from now on.
        self._visited = True
        self._guest.data_received(data)
        if self._ended and not self._guest.eof_received():
            self.transport.close()

    def guest_begins(self) -> None:
        """A request is being answered."""
        self._guest_answers = True

    def guest_ends(self) -> None:
        """That request has been answered."""
        self._guest_answers = False
        self._since = self._loop.time()

    # -- patience -------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a request of it is being answered."""
        return self._task is not None or self._guest_answers

    @property
    def idle_since(self) -> float | None:
        """By the loop's clock; None while a request is under way, and once it is closed."""
        return None if self.is_busy or self.transport is None else self._since

    def let_go(self) -> None:
        """Somebody else needs the room."""
        self._door.connections.discard(self)
        self._abort()

    def look(self, now: float) -> None:
        """Called now and then: an idle connection ends, and one that only skips a body."""
        if self.is_busy or self.transport is None:
            return
        waited_s = now - self._since
        most_s = LINGER_S_MAX if self._is_last else IDLE_S_MAX
        if waited_s > most_s and not self.transport.is_closing():
            self.transport.close()
        elif waited_s > IDLE_S_MAX:
            self._abort()  # It was closed, but the client does not read its last answer.

    def close_if_idle(self) -> None:
        """The node stops."""
        if not self.is_busy and self.transport is not None:
            self.transport.close()

    def cut_short(self) -> None:
        """The node no longer waits for the answer under way."""
        if self._task is not None:
            self._task.cancel()
        self._abort()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()
