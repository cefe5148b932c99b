"""The aiohttp way into the node: its low-level server, with our limits and our words.

It takes any HTTP request, with a body of any size and framing. What is not HTTP never reaches
a handler: aiohttp refuses it, here in S3's words instead of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from octad.client.runtime.logs.seldom_log import SeldomLog
from octad.client.runtime.wrong_protocol import PLAIN_IS_SPOKEN, TLS_BEGINS
from octad.client.s3.errors import S3Error
from octad.client.s3.http_dates import http_date
from octad.sharding.limits import KIB, PUT_BYTES_MAX
from octad.storage_node.s3.http.request_head import HEADERS_MAX
from octad.storage_node.s3.http.wire import open_transport
from octad.storage_node.s3.protocol.answers import (
    CONTINUE,
    connection_line,
    error_answer,
    head_bytes,
)

CLIENT_HEAD_BYTES_MAX: Final = 16 * KIB  # S3 allows 8, and a presigned query as much again.

HEADER_LINE_BYTES_MAX: Final = (
    8 * KIB
)  # A key of 1 KiB is 3 KiB encoded; a presigned query adds some.
IDLE_S_MAX: Final = (
    75.0  # A connection without a whole request; common clients keep theirs for 60 s.
)
LINGER_S_MAX: Final = 5.0  # A refused body is read on for a while, so that the refusal can be read.
READ_BUFFER_BYTES: Final = 32 * KIB  # aiohttp reads on until it has twice as much.
_TLS_MET: Final = "somebody tried TLS (https://) on the S3 port, which speaks plain HTTP (http://)"
_FOR_EVER_S: Final = 1e9  # Nought would close a connection after its first request.

_logger = logging.getLogger("octad.front_door")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Host(Protocol):
    """The owner of the connection, if aiohttp was only handed a request of it."""

    def guest_begins(self) -> None:
        """A request that was handed over is being answered."""

    def guest_ends(self) -> None:
        """That request has been answered."""


class Sent(web.StreamResponse):
    """Notifies aiohttp that the answer has been written, and whether the connection goes on."""

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


class HttpWire:
    """A `Wire` on aiohttp's connection."""

    __slots__ = ("_http",)

    def __init__(self, http: web.BaseRequest) -> None:
        self._http = http

    @property
    def transport(self) -> asyncio.Transport | None:
        """None once the client is gone."""
        return self._http.transport

    @property
    def writing_paused(self) -> bool:
        """Whether the client reads slower than we write."""
        return self._http.protocol.writing_paused

    async def drained(self) -> None:
        """Returns when it has caught up."""
        await self._http.writer.drain()


class HttpBody:
    """A `Body` that aiohttp reads from the connection."""

    __slots__ = ("_http", "held", "invited", "received")

    def __init__(self, http: web.BaseRequest) -> None:
        self._http = http
        self.held: bytes | None = None
        self.invited = False
        self.received = 0  # Bytes that were read.

    async def invite(self) -> None:
        """Let a client that waits send its body."""
        self.invited = True
        open_transport(HttpWire(self._http)).write(CONTINUE)

    @property
    def left(self) -> int:
        """No one knows how many, where it is chunked."""
        return 0 if self._http.content.at_eof() else PUT_BYTES_MAX

    async def read_into(self, space: memoryview, wait_s: float) -> int:
        """See `Body.read_into`."""
        content = self._http.content
        count = 0
        try:
            async with asyncio.timeout(wait_s):
                while count < len(space) and not content.at_eof():
                    piece = await content.read(len(space) - count)
                    space[count : count + len(piece)] = piece
                    count += len(piece)
        except web.RequestPayloadError:  # Its HTTP framing is broken.
            raise S3Error("IncompleteBody") from None
        except TimeoutError:
            pass
        except RuntimeError:
            if self._http.transport is not None:
                raise
            raise ConnectionResetError("the client is gone") from None
        finally:
            self.received += count
        return count


def head_size(http: web.BaseRequest) -> int:
    """Bytes of the head of a request, without blanks that mean nothing."""
    lines = sum(len(name) + len(value) + 4 for name, value in http.raw_headers)
    return len(http.method) + len(http.raw_path) + len(" HTTP/1.1\r\n") + lines + 3


class Listener(web.Server):
    """Makes a connection's protocol; `web.Server` has no argument for its class."""

    def __init__(self, handler: Handler, next_request_id: Callable[[], bytes]) -> None:
        super().__init__(handler)
        self.next_request_id = next_request_id
        self.direct: set[Connection] = set()  # Those that are no one's guests.
        self.tells_of_tls = SeldomLog(_logger)

    def refusal(self, code: str, begin: bytes, message: str | None = None) -> bytes:
        """The whole answer to a request that is not read any further than how it begins."""
        request_id = self.next_request_id().hex()
        answer = error_answer(S3Error(code, message), resource="", request_id=request_id)
        head = head_bytes(
            answer,
            request_id=request_id,
            date=http_date(int(time.time()) * 1000),
            connection=connection_line(keep=False, persistent=True),
        )
        return head if begin.startswith(b"HEAD ") else head + answer.body

    def __call__(self) -> RequestHandler:
        return Connection(self, None)

    def guest_of(self, host: Host) -> Connection:
        """A protocol for the requests that `host` hands over."""
        return Connection(self, host)


class Connection(RequestHandler):
    """aiohttp's protocol of one connection, with our limits and our words."""

    __slots__ = (
        "_answers",
        "_begun",
        "_client_ended",
        "_head_bytes",
        "_in_head",
        "_last_payload",
        "_listener",
        "host",
        "idle_since",
    )

    def __init__(self, listener: Listener, host: Host | None) -> None:
        super().__init__(
            listener,
            loop=asyncio.get_running_loop(),
            # A guest sees only some of the requests: its host knows when the connection is idle.
            keepalive_timeout=IDLE_S_MAX if host is None else _FOR_EVER_S,
            max_line_size=HEADER_LINE_BYTES_MAX,
            max_field_size=HEADER_LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
            lingering_time=LINGER_S_MAX,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,  # An object's Content-Encoding is the client's own affair.
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to switch it off.
        )
        self._listener = listener
        self.host = host
        self.idle_since: float | None = None  # By the loop's clock, of one that is no one's guest.
        self._begun = 0  # Requests that came to the handler.
        self._in_head = True  # No request is under way, nor the rest of one that was refused.
        self._head_bytes = 0  # Bytes of an incomplete head.
        self._answers = False  # A request is being answered.
        self._last_payload: StreamReader | None = None  # The last request's whose head arrived.
        self._client_ended = False  # It sends nothing more.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected, or a request is handed over."""
        super().connection_made(transport)
        if self.host is None:
            self._listener.direct.add(self)
            self.idle_since = self._loop.time()

    async def start(self) -> None:
        """Begin to answer, unless the client has left before it came to that."""
        if self.transport is not None:
            await super().start()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        self.idle_since = None
        self._listener.direct.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The next bytes; a head that has no end is refused, and what begins TLS at once."""
        if data.startswith(TLS_BEGINS) and not self._head_bytes and self._awaits_request():
            self._listener.tells_of_tls.warning(_TLS_MET)
            self.refuse("BadRequest", data, PLAIN_IS_SPOKEN)
            return
        super().data_received(data)
        if self._messages:
            self._last_payload = self._messages[-1][1]
        if not self._awaits_request():
            return
        self._head_bytes += len(data)
        if self._head_bytes > CLIENT_HEAD_BYTES_MAX:
            self.refuse("RequestHeaderSectionTooLarge", data)

    def _awaits_request(self) -> bool:
        return self._in_head and self._begun == self._request_count  # aiohttp's count of heads.

    def refuse(self, code: str, begin: bytes, message: str | None = None) -> None:
        """Answer what is no request, which no one reads any further."""
        if self.transport is not None:
            self.transport.write(self._listener.refusal(code, begin, message))
            self.force_close()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks; aiohttp never says.
        """The client sends nothing more, and waits for answers to its complete requests."""
        self._client_ended = True
        payload = self._last_payload
        is_whole = payload is None or payload.is_eof()
        return is_whole and (self._answers or self._begun < self._request_count)

    @property
    def sends_nothing_more(self) -> bool:
        """Whether the client has ended, and the request being answered is its last."""
        return self._client_ended and self._begun == self._request_count

    def begins(self) -> None:
        """A request came to the handler."""
        self._begun += 1
        self._answers = True
        self._in_head, self._head_bytes = False, 0
        self.idle_since = None
        if self.host is not None:
            self.host.guest_begins()

    def ends(self, *, keep: bool) -> None:
        """The request has been answered, and the connection goes on if `keep`."""
        self._answers = False
        self._in_head = keep
        if self.host is not None:
            self.host.guest_ends()
        elif self.transport is not None:
            self.idle_since = self._loop.time()

    def let_go(self) -> None:
        """Close it at once, dropping unsent bytes."""
        self.idle_since = None
        self._listener.direct.discard(self)
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that are not a request; a client that is gone gets none."""
        if exc is not None and status != 400:
            raise exc
        code = "RequestHeaderSectionTooLarge" if isinstance(exc, LineTooLong) else "BadRequest"
        if self.transport is not None:
            self.transport.write(self._listener.refusal(code, b""))
        return SENT_CLOSE
