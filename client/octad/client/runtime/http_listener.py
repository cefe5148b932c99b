"""An aiohttp application on a port, with bounds on what anyone who reaches the port can take of it.

The number of connections is bounded (`connection_room.py`). One that has no whole request,
and one that does not read its answer, are closed after a while; a head has a largest size. Bodies
are the application's own to bound: `client_max_size`, and `body_in_time` here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestHandler

from octad.client.runtime.connection_room import ConnectionRoom
from octad.client.runtime.logs.seldom_log import SeldomLog
from octad.client.runtime.wrong_protocol import CODE, PLAIN_IS_SPOKEN, TLS_BEGINS

IDLE_S_MAX: Final = 75.0  # Without a whole request; common clients keep theirs for 60 s.
STALLED_S_MAX: Final = 60.0  # An answer of which no byte is read.
BODY_S_MAX: Final = 10.0
HEADERS_MAX: Final = 32
HEADER_BYTES_MAX: Final = 4096
_LOOK_S: Final = 2.0

_FULL = ("503 Service Unavailable", "too-many-connections", "try again", True)
_TLS_MET = "somebody tried TLS (https://) on the %s, which speaks plain HTTP (http://)"

# Makes a protocol when somebody connects; and puts another one, as of TLS, before all of them.
Protocols = Callable[[], asyncio.BaseProtocol]
Secured = Callable[[Protocols], Protocols]

_logger = logging.getLogger(__name__)


class HttpListener:
    """Serves `application`, which it changes: no other one may serve it.

    `secured` is what speaks TLS, where that is spoken here; `port` is the port's name in the log.
    """

    def __init__(
        self,
        application: web.Application,
        connections_max: int,
        shutdown_s: float,
        port: str,
        secured: Secured | None = None,
    ) -> None:
        application.middlewares.insert(0, self._watched())
        self._port, self._secured = port, secured
        self._tells_of_tls = SeldomLog(_logger)
        self._connections_max = connections_max
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=shutdown_s,
            max_headers=HEADERS_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )
        self._connections: dict[object, _Connection] = {}  # By aiohttp's protocol of each.
        self._present: set[_Connection] = set()
        self._room: ConnectionRoom | None = None
        self._server: asyncio.Server | None = None
        self._looking: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (for port 0); raises OSError where it cannot be had."""
        protocols = await self._new_protocols()
        try:
            self._server = await asyncio.get_running_loop().create_server(protocols, host, port)
        except OSError:
            await self._runner.cleanup()
            raise
        self._look()
        actual: int = self._server.sockets[0].getsockname()[1]
        return actual

    async def start_on(self, listener: socket.socket) -> None:
        """Serve on a socket that is bound already, and close it in the end."""
        protocols = await self._new_protocols()
        self._server = await asyncio.get_running_loop().create_server(protocols, sock=listener)
        self._look()

    async def stop(self) -> None:
        """Take no more requests; finish those under way."""
        if self._server is None or self._room is None:
            return
        self._server.close()
        if self._looking is not None:
            self._looking.cancel()
        self._room.close()
        await self._runner.cleanup()
        await self._server.wait_closed()

    def connection_made(self, connection: _Connection) -> None:
        self._connections[connection.handler] = connection
        self._present.add(connection)

    def connection_lost(self, connection: _Connection) -> None:
        self._connections.pop(connection.handler, None)
        self._present.discard(connection)

    def met_tls(self) -> None:
        self._tells_of_tls.warning(_TLS_MET, self._port)

    async def _new_protocols(self) -> Protocols:
        await self._runner.setup()
        self._room = ConnectionRoom(
            self._connections_max,
            "HTTP clients",
            self._new_connection,
            self._present,
            lambda begin: _refusal(begin, *_FULL),
        )
        return self._room if self._secured is None else self._secured(self._room)

    def _new_connection(self) -> _Connection:
        server = self._runner.server
        assert server is not None, "it has been set up"
        return _Connection(self, server())

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._present):
            connection.look(now)
        self._looking = loop.call_later(_LOOK_S, self._look)

    def _watched(self) -> Middleware:
        @web.middleware
        async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = self._connections.get(request.protocol)
            if connection is None:  # The client left before anything was done.
                return web.Response()
            connection.idle_since = None
            try:
                return await handler(request)
            except ConnectionResetError:
                transport = request.transport
                if transport is not None and not transport.is_closing():
                    raise  # It was another connection.
                return web.Response()  # The client has left; nothing is wrong.
            finally:
                connection.idle_since = asyncio.get_running_loop().time()

        return watched


class _Connection(asyncio.Protocol):
    """A connection that aiohttp's `handler` serves, and its timers."""

    def __init__(self, listener: HttpListener, handler: RequestHandler) -> None:
        self.handler = handler
        self.idle_since: float | None = None
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._stalled_since: float | None = None
        self._silent = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.idle_since = self._loop.time()
        self._listener.connection_made(self)
        self.handler.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.idle_since = None
        self._listener.connection_lost(self)
        self.handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._silent:
            self._silent = False
            if data.startswith(TLS_BEGINS) and self._transport is not None:
                self._listener.met_tls()
                self._transport.write(wrong_protocol_refusal(data, PLAIN_IS_SPOKEN))
                self._transport.close()
                return
        self.handler.data_received(data)

    def eof_received(self) -> None:
        self.handler.eof_received()

    def pause_writing(self) -> None:
        self._stalled_since = self._loop.time()
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        self.handler.resume_writing()

    def look(self, now: float) -> None:
        """Called periodically: closes a client that sends or reads nothing for too long."""
        idle, stalled = self.idle_since, self._stalled_since
        if (idle is not None and now - idle > IDLE_S_MAX) or (
            stalled is not None and now - stalled > STALLED_S_MAX
        ):
            self.let_go()

    def let_go(self) -> None:
        self.idle_since = None
        self._listener.connection_lost(self)
        if self._transport is not None:
            self._transport.abort()


async def body_in_time(request: web.Request) -> bytes:
    """Returns the body of a request that is not authenticated yet.

    Raises HTTPRequestTimeout, and HTTPRequestEntityTooLarge past the application's bound.
    """
    try:
        async with asyncio.timeout(BODY_S_MAX):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the body did not arrive in time") from None


def wrong_protocol_refusal(begin: bytes, why: str) -> bytes:
    """The whole answer to what begins TLS where plain HTTP is spoken, or the reverse."""
    return _refusal(begin, "400 Bad Request", CODE, why, passes=False)


def _refusal(begin: bytes, status: str, code: str, reason: str, passes: bool) -> bytes:
    document = {"code": code, "reason": reason, "passes": passes}
    body = json.dumps(document, separators=(",", ":")).encode()
    again = "Retry-After: 1\r\n" if passes else ""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{again}"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    return head if begin.startswith(b"HEAD ") else head + body
