"""The front door: the S3 listener of a node.

There are two ways in. A protocol of our own (`hot_connection.py`) answers what is plainly framed;
every other request it hands to aiohttp (`connections.py`), with the bytes it has read.
`octad node --front-door aiohttp` sends all of them there. Both ways ask the same `S3Handler`.

Promises: every answer carries `x-amz-request-id`, and an error document the same one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

from aiohttp import web

from octad.client.runtime.connection_room import ConnectionRoom
from octad.client.s3.http_dates import http_date
from octad.coordinator.schema.bucket_settings import CLOSED, BucketSettings
from octad.coordinator.tls.certificate import Certificate
from octad.coordinator.tls.tls_transport import TlsListener
from octad.sharding.limits import CLIENT_CONNECTIONS_MAX
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.answering.s3_handler import S3Handler
from octad.storage_node.s3.handlers.authentication import SecretOf
from octad.storage_node.s3.handlers.request import Request, expects_continue
from octad.storage_node.s3.handlers.unknown_headers import UnknownHeaders
from octad.storage_node.s3.http.connections import (
    CLIENT_HEAD_BYTES_MAX,
    IDLE_S_MAX,
    SENT_CLOSE,
    SENT_KEEP,
    Connection,
    HttpBody,
    HttpWire,
    Listener,
    head_size,
)
from octad.storage_node.s3.http.door_figures import DoorFigures
from octad.storage_node.s3.http.hot_connection import HotListener
from octad.storage_node.s3.http.wire import write_answer
from octad.storage_node.s3.protocol.answers import Answer, connection_line
from octad.storage_node.s3.protocol.asked_lists import OwnerOf
from octad.storage_node.s3.protocol.requests.request_headers import header_values
from octad.storage_node.shards.object_store import ObjectStore

_BACKLOG: Final = 1024
_LOOK_S: Final = 2.0  # Between checks for connections that have waited too long.
_STOP_POLL_S: Final = 0.01
_CANCEL_S: Final = 0.05


class FrontDoor:
    """Answers S3 requests from `store`, to those whose secret `secret_of` knows.

    With a `certificate` it speaks TLS, and nothing else.
    """

    def __init__(
        self,
        store: ObjectStore,
        secret_of: SecretOf,
        region: str,
        next_request_id: Callable[[], bytes],
        budget: BodyBudget,
        *,
        cluster: str,
        owner_of_id: OwnerOf,
        all_through_aiohttp: bool = False,
        sigv2_urls: bool = True,
        domains: tuple[str, ...] = (),
        certificate: Certificate | None = None,
        new_buckets: BucketSettings = CLOSED,
        strict_aws: bool = False,
        connections_max: int = CLIENT_CONNECTIONS_MAX,
    ) -> None:
        self._answerer = S3Handler(
            store,
            secret_of,
            region,
            next_request_id,
            budget,
            sigv2_urls=sigv2_urls,
            domains=domains,
            scheme="http" if certificate is None else "https",
            new_buckets=new_buckets,
            cluster=cluster,
            owner_of_id=owner_of_id,
            strict_aws=strict_aws,
        )
        self.figures = DoorFigures()
        self._all_through_aiohttp = all_through_aiohttp
        self._certificate = certificate
        self._connections_max = connections_max
        self._listener: Listener | None = None
        self._hot: HotListener | None = None
        self._room: ConnectionRoom | None = None
        self._server: asyncio.Server | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._busy: set[Connection] = set()  # aiohttp's connections with a request in progress.
        self._stopping = False

    @property
    def requests(self) -> Counter[tuple[str, int]]:
        """The number of answers, by operation and status."""
        return self._answerer.requests

    @property
    def unknown_headers(self) -> UnknownHeaders:
        """The unknown headers seen in requests."""
        return self._answerer.unknown_headers

    @property
    def room(self) -> ConnectionRoom | None:
        """Its connections, and how many are allowed; None before the start."""
        return self._room

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError where the address cannot be had. Port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        answerer = self._answerer
        self._listener = Listener(self._handle, answerer.next_request_id)
        self._hot = HotListener(
            answerer.answer, answerer.next_request_id, self._listener.guest_of, self.figures
        )
        direct = self._all_through_aiohttp
        self._room = ConnectionRoom(
            self._connections_max,
            "S3 clients",
            self._listener if direct else self._hot,
            self._listener.direct if direct else self._hot.connections,
            self._turn_away,
        )
        new: Callable[[], asyncio.BaseProtocol] = self._room
        if self._certificate is not None:
            new = TlsListener(self._certificate, self._room, "S3 port", self._plain_refused)
        self._server = await loop.create_server(
            new, host, port, backlog=_BACKLOG, reuse_address=True
        )
        self._look()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None, "the front door has not been started"
        port = self._server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def stop(self, grace_s: float) -> None:
        """Take no new connection, let requests in progress finish for `grace_s`, then close all."""
        if self._server is None or self._listener is None or self._hot is None:
            return
        assert self._room is not None
        self._stopping = self._hot.stopping = True
        self._server.close()
        self._room.close()
        if self._looking is not None:
            self._looking.cancel()
        for hot in list(self._hot.connections):
            hot.close_if_idle()
        for connection in self._listener.connections:
            if connection not in self._busy and cast(Connection, connection).host is None:
                connection.force_close()
        deadline = time.monotonic() + grace_s
        while self._is_busy() and time.monotonic() < deadline:
            await asyncio.sleep(_STOP_POLL_S)
        for hot in list(self._hot.connections):
            hot.cut_short()
        await self._listener.shutdown(_CANCEL_S)
        while self._is_busy():  # Cancelled ones release what they had open.
            await asyncio.sleep(_STOP_POLL_S)
        await self._server.wait_closed()
        self._server = None

    def _is_busy(self) -> bool:
        assert self._hot is not None
        return bool(self._busy) or any(hot.is_busy for hot in self._hot.connections)

    def _turn_away(self, begin: bytes) -> bytes:
        assert self._listener is not None
        self._answerer.requests["none", HTTPStatus.SERVICE_UNAVAILABLE.value] += 1
        return self._listener.refusal("SlowDown", begin)

    def _plain_refused(self, begin: bytes, why: str) -> bytes:
        assert self._listener is not None
        return self._listener.refusal("BadRequest", begin, why)

    def _look(self) -> None:
        assert self._hot is not None
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for hot in list(self._hot.connections):
            hot.look(now)
        for direct in list(self._listener.direct):
            if direct.idle_since is not None and now - direct.idle_since > IDLE_S_MAX:
                direct.let_go()
        self._looking = loop.call_later(_LOOK_S, self._look)

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that came through aiohttp; ConnectionError: the client is gone."""
        connection = cast(Connection, http.protocol)
        self._busy.add(connection)
        connection.begins()
        keep = False
        try:
            if head_size(http) > CLIENT_HEAD_BYTES_MAX:  # It came too fast to be refused before.
                connection.refuse("RequestHeaderSectionTooLarge", http.method.encode() + b" ")
                return SENT_CLOSE
            keep = await self._answer(http)
            return SENT_KEEP if keep else SENT_CLOSE
        finally:
            self._busy.discard(connection)
            connection.ends(keep=keep)

    async def _answer(self, http: web.BaseRequest) -> bool:
        """Whether the connection goes on: only once the request's body has been read from it."""
        began_ns = answered_ns = time.monotonic_ns()
        request_id = self._answerer.next_request_id()
        body = HttpBody(http)
        headers = header_values(http.raw_headers)
        persistent = http.version >= (1, 1)
        awaited = expects_continue(headers, persistent=persistent)
        request = Request(http.method, http.raw_path, headers, body, awaited)
        answer: Answer | None = None
        self.figures.in_flight += 1
        try:
            answer = await self._answerer.answer(request, request_id)
            answered_ns = time.monotonic_ns()
            return await self._write(http, request, body, answer, request_id)
        finally:
            self.figures.ended(request_id, request, answer, body.received, began_ns, answered_ns)

    async def _write(
        self,
        http: web.BaseRequest,
        request: Request,
        body: HttpBody,
        answer: Answer,
        request_id: bytes,
    ) -> bool:
        """The same; see `_answer`."""
        complete = http.content.is_eof()
        # A client that was answered instead of invited might take our answer for the next one, too.
        told = body.invited or not request.expects_continue
        ended = cast(Connection, http.protocol).sends_nothing_more
        keep = complete and told and http.keep_alive and not ended and not self._stopping
        keep &= "upgrade" not in request.headers  # aiohttp forgets what came behind it.
        await write_answer(
            HttpWire(http),
            http.method,
            answer,
            request_id=request_id.hex(),
            date=http_date(int(time.time()) * 1000),
            connection=connection_line(keep=keep, persistent=http.version >= (1, 1)),
        )
        if keep and not http.content.at_eof():
            http.content.read_nowait()  # It is not wanted, and would delay later requests.
        if not complete and not told:
            http.protocol.force_close()  # The body was never asked for: do not wait for it.
        return keep
