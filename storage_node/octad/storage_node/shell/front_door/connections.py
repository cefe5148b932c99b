"""The HTTP side of the listener: aiohttp's low-level server, and how an answer is written to it.

What is not HTTP never reaches a handler: aiohttp refuses it, here in S3's words instead of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from octad.client.core.s3_errors import S3Error
from octad.client.core.s3_xml import CONTENT_TYPE
from octad.sharding.limits import KIB, MIB
from octad.storage_node.s3.answers import Answer, error_answer, head_bytes

HEADER_LINE_BYTES_MAX: Final = (
    8 * KIB
)  # A key of 1 KiB is 3 KiB encoded; a presigned query adds some.
HEADERS_MAX: Final = 128
IDLE_S_MAX: Final = (
    75.0  # A connection without a whole request; common clients keep theirs for 60 s.
)
STALLED_S_MAX: Final = 60.0  # A body or an answer of which no byte moves.
LINGER_S_MAX: Final = 5.0  # A refused body is read on for a while, so that the refusal can be read.
READ_BUFFER_BYTES: Final = 256 * KIB
_JOINED_BYTES_MAX: Final = 64 * KIB  # Up to here a copy is cheaper than a second system call.
_WRITE_BYTES_MAX: Final = MIB

_logger = logging.getLogger("octad.front_door")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Sent(web.StreamResponse):
    """Tells aiohttp that the answer has been written, and whether the connection goes on."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to write."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


SENT_KEEP: Final = Sent(keep_alive=True)
SENT_CLOSE: Final = Sent(keep_alive=False)


async def send(
    http: web.BaseRequest, answer: Answer, *, request_id: str, date: str, keep: bool
) -> Sent:
    """Write `answer`, waiting while the client reads slower than we write.

    Raises ConnectionError where the client is gone or does not read at all.
    """
    connection = ""
    if not keep:
        connection = "Connection: close\r\n"
    elif http.version < (1, 1):
        connection = "Connection: keep-alive\r\n"
    head = head_bytes(answer, request_id=request_id, date=date, connection=connection)
    if http.method == "HEAD":
        await http.writer.write(head)
    elif answer.stream is None and len(answer.body) <= _JOINED_BYTES_MAX:
        await http.writer.write(head + answer.body)  # One packet where it fits, one system call.
    else:
        await http.writer.write(head)
        await _send_body(http, answer)
    if http.protocol.writing_paused:
        await _drain(http)
    return SENT_KEEP if keep else SENT_CLOSE


async def _send_body(http: web.BaseRequest, answer: Answer) -> None:
    try:
        await _write(http, answer.body)
        if answer.stream is not None:
            async for data in answer.stream:
                await _write(http, data)
    except ConnectionError:
        raise
    except Exception as error:
        # Part of the object is out already: only a broken connection can still say that it is bad.
        _logger.error("%s: answer broken off: %r", http.raw_path, error)
        abort(http)
        raise ConnectionResetError("answer broken off") from error


async def _write(http: web.BaseRequest, data: bytes | memoryview) -> None:
    transport = http.transport
    view = memoryview(data)
    for start in range(0, len(view), _WRITE_BYTES_MAX):
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write(view[start : start + _WRITE_BYTES_MAX])
        if http.protocol.writing_paused:
            await _drain(http)


async def _drain(http: web.BaseRequest) -> None:
    try:
        async with asyncio.timeout(STALLED_S_MAX):
            await http.writer.drain()
    except TimeoutError:
        abort(http)  # A plain close would wait for the same client to read.
        raise ConnectionResetError("the client reads nothing") from None


def abort(http: web.BaseRequest) -> None:
    """Drop the connection, with whatever is still to be written to it."""
    if http.transport is not None:
        http.transport.abort()


class Listener(web.Server):
    """Makes a connection's protocol; `web.Server` has no argument for its class."""

    def __init__(self, handler: Handler, next_request_id: Callable[[], bytes]) -> None:
        super().__init__(handler)
        self.next_request_id = next_request_id

    def __call__(self) -> RequestHandler:
        return Connection(self)


class Connection(RequestHandler):
    """aiohttp's protocol of one connection, with our limits and our words."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        super().__init__(
            listener,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_S_MAX,
            max_line_size=HEADER_LINE_BYTES_MAX,
            max_field_size=HEADER_LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
            lingering_time=LINGER_S_MAX,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,  # An object's Content-Encoding is the client's own affair.
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to switch it off.
        )
        self._listener = listener

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not a request; a client that is gone gets none."""
        if exc is not None and status != 400:
            raise exc
        code = "RequestHeaderSectionTooLarge" if isinstance(exc, LineTooLong) else "BadRequest"
        request_id = self._listener.next_request_id().hex()
        answer = error_answer(S3Error(code), resource="", request_id=request_id)
        response = web.Response(
            status=answer.status,
            body=bytes(answer.body),
            headers={"x-amz-request-id": request_id, "Content-Type": CONTENT_TYPE},
        )
        response.force_close()
        return response
