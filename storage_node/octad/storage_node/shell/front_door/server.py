"""The front door: the S3 listener of a node.

`FrontDoor.handle` is the one way in for every request. It gives it an id, authenticates it before
anything else is looked at (default deny; not even the existence of a bucket shows to a stranger),
finds the operation, calls its handler and writes the answer. The hot path comes before it: a
protocol of our own that answers plain small requests itself and hands every other to `handle`, with
the bytes it has read; it must call the same `authenticate`.

Promises: every answer carries `x-amz-request-id`, and an error document the same one. What a client
gets wrong is an S3Error, what storage refuses a StoreError; anything else is our bug, is logged
with its traceback and answered with 500.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from octad.client.core.http_dates import http_date
from octad.client.core.s3_errors import S3Error
from octad.storage_node.core.object_store import ObjectStore, StoreError
from octad.storage_node.s3.answers import Answer, error_answer
from octad.storage_node.s3.request_headers import header_values
from octad.storage_node.s3.routes import route, with_hoisted_headers
from octad.storage_node.s3.store_errors import s3_error_of
from octad.storage_node.s3.targets import parse_query, split_path, split_target
from octad.storage_node.shell.front_door.authentication import SecretOf, authenticate
from octad.storage_node.shell.front_door.connections import Listener, Sent, send
from octad.storage_node.shell.front_door.dispatch import HANDLERS
from octad.storage_node.shell.front_door.exchange import Exchange

_logger = logging.getLogger("octad.front_door")
_BACKLOG = 1024
_STOP_POLL_S = 0.01
_CANCEL_S = 0.05


class FrontDoor:
    """Answers S3 requests from `store`, to those whose secret `secret_of` knows."""

    def __init__(
        self,
        store: ObjectStore,
        secret_of: SecretOf,
        region: str,
        next_request_id: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._secret_of = secret_of
        self._region = region
        self._next_request_id = next_request_id
        self._listener: Listener | None = None
        self._server: asyncio.Server | None = None
        self._busy: set[object] = set()  # Connections with a request in progress.
        self._stopping = False
        self.requests: Counter[tuple[str, int]] = Counter()  # By operation and status.

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError where the address cannot be had. Port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        self._listener = Listener(self.handle, self._next_request_id)
        self._server = await loop.create_server(
            self._listener, host, port, backlog=_BACKLOG, reuse_address=True
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None, "the front door has not been started"
        port = self._server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def stop(self, grace_s: float) -> None:
        """Take no new connection, let requests in progress finish for `grace_s`, then close all."""
        if self._server is None or self._listener is None:
            return
        self._stopping = True
        self._server.close()
        for connection in self._listener.connections:
            if connection not in self._busy:
                connection.force_close()
        deadline = time.monotonic() + grace_s
        while self._busy and time.monotonic() < deadline:
            await asyncio.sleep(_STOP_POLL_S)
        await self._listener.shutdown(_CANCEL_S)
        while self._busy:  # Those that were cut short put away what they had open.
            await asyncio.sleep(_STOP_POLL_S)
        await self._server.wait_closed()
        self._server = None

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Raises only ConnectionError: the client is gone."""
        request_id = self._next_request_id()
        connection = http.protocol
        self._busy.add(connection)
        try:
            answer = await self._answer(http, request_id)
            return await self._send(http, answer, request_id)
        finally:
            self._busy.discard(connection)

    async def _answer(self, http: web.BaseRequest, request_id: bytes) -> Answer:
        operation = "none"
        try:
            exchange = self._admit(http, request_id)
            operation = exchange.operation.value
            answer = await HANDLERS[exchange.operation](exchange)
            self.requests[operation, answer.status] += 1
            return answer
        except S3Error as error:
            refusal = error
        except StoreError as error:
            refusal = s3_error_of(error)
            if refusal.http_status >= 500:
                _logger.warning(
                    "%s: %s %s: %r", request_id.hex(), http.method, http.raw_path, error
                )
        except ConnectionError:
            raise
        except Exception:
            _logger.exception("%s: %s %s failed", request_id.hex(), http.method, http.raw_path)
            refusal = S3Error("InternalError")
        self.requests[operation, refusal.http_status] += 1
        path = http.raw_path.partition("?")[0]
        return error_answer(refusal, resource=path, request_id=request_id.hex())

    def _admit(self, http: web.BaseRequest, request_id: bytes) -> Exchange:
        """From bytes to an authenticated request with one operation; raises S3Error."""
        path, raw_query = split_target(http.raw_path)
        headers = header_values(http.raw_headers)
        now_s = time.time()
        signature, owner = authenticate(
            http.method,
            path,
            raw_query,
            headers,
            now_s=now_s,
            region=self._region,
            secret_of=self._secret_of,
        )
        query, headers = with_hoisted_headers(parse_query(raw_query), headers)
        bucket, key = split_path(path)
        return Exchange(
            http=http,
            store=self._store,
            region=self._region,
            request_id=request_id,
            next_request_id=self._next_request_id,
            now_ms=int(now_s * 1000),
            owner=owner,
            signature=signature,
            operation=route(http.method, bucket, key, query, headers),
            path=path,
            headers=headers,
            query=query,
            bucket_name=bucket,
            key=key,
            body_awaited="expect" in headers and headers["expect"].lower() == "100-continue",
        )

    async def _send(self, http: web.BaseRequest, answer: Answer, request_id: bytes) -> Sent:
        """A connection goes on only when the request's body is out of it."""
        complete = http.content.is_eof()
        invited = http.writer.output_size > 0  # Only `100 Continue` is ever sent before.
        sent = await send(
            http,
            answer,
            request_id=request_id.hex(),
            date=http_date(int(time.time()) * 1000),
            keep=complete and http.keep_alive and not self._stopping,
        )
        if not complete and not invited and "Expect" in http.headers:
            http.protocol.force_close()  # The body was never asked for: do not wait for it.
        return sent
