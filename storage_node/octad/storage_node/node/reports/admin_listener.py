"""A node's endpoints for operators, on a separate port: on the S3 port every path is S3's.

    GET  /metrics        Prometheus format
    GET  /healthz        200 while the process lives
    GET  /readyz         200 while it serves, else 503 with the reason
    POST /node/v1/kept   its snapshot of the configuration store; signed with the cluster's key
    GET  /node/v1/trace  its S3 requests as they end (`trace_route.py`); signed by an admin

The first three are open to anyone who reaches the port, so it is on loopback by default.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from octad.client.cluster.internal_auth import (
    ANSWER_MAC_HEADER,
    AUTHORIZATION_HEADER,
    NotAuthentic,
    SignAgain,
    sign_answer,
    verify,
)
from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.refusal import RefusalMessage
from octad.client.cluster.request_signer import new_replay_window
from octad.client.runtime.address import Address
from octad.client.runtime.http_listener import HttpListener, body_in_time
from octad.client.runtime.steady_clock import SteadyClock
from octad.client.s3.trace_document import TRACE_PATH
from octad.coordinator.schema.cluster_snapshot import SNAPSHOT_PATH, SNAPSHOT_PURPOSE
from octad.sharding.limits import ADMIN_CONNECTIONS_MAX
from octad.storage_node.node.reports.node_metrics import NodeMetrics

BODY_BYTES_MAX = 1024
_SHUTDOWN_S = 1.0

log = logging.getLogger(__name__)


class AdminListener:
    """`not_ready` returns a reason or None; `snapshot` the bytes of the node's snapshot."""

    def __init__(
        self,
        token: JoinToken,
        metrics: NodeMetrics,
        not_ready: Callable[[], str | None],
        snapshot: Callable[[], Awaitable[bytes]],
        trace: Handler,
    ) -> None:
        self._cluster = token.cluster
        self._key = token.key_for(SNAPSHOT_PURPOSE)
        self._clock = SteadyClock()
        self._window = new_replay_window()
        self._metrics = metrics
        self._not_ready = not_ready
        self._snapshot = snapshot
        self._trace = trace
        self._listener: HttpListener | None = None

    async def start(self, address: Address) -> int:
        """Listen, and return the port (for port 0); raises OSError where it cannot be had."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_get("/metrics", self._answer_metrics)
        application.router.add_get("/healthz", self._answer_health)
        application.router.add_get("/readyz", self._answer_ready)
        application.router.add_post(SNAPSHOT_PATH, self._answer_snapshot)
        application.router.add_get(TRACE_PATH, self._trace, allow_head=False)
        listener = HttpListener(application, ADMIN_CONNECTIONS_MAX, _SHUTDOWN_S, "admin port")
        port = await listener.start(address.host, address.port)
        self._listener = listener
        return port

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.stop()

    async def _answer_metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _answer_health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _answer_ready(self, _: web.Request) -> web.Response:
        reason = self._not_ready()
        if reason is not None:
            return web.Response(status=503, text=f"{reason}\n")
        return web.Response(text="ready\n")

    async def _answer_snapshot(self, request: web.Request) -> web.Response:
        authorization = request.headers.get(AUTHORIZATION_HEADER)
        status, body = self._refusal(request, await body_in_time(request), authorization)
        if status == 200:
            log.info("sending %s the snapshot of the configuration store", request.remote)
            body = await self._snapshot()
        answer = web.Response(status=status, body=body)
        if authorization is not None:
            mac = sign_answer(self._key, authorization, status, body)
            answer.headers[ANSWER_MAC_HEADER] = mac
        return answer

    def _refusal(
        self, request: web.Request, body: bytes, authorization: str | None
    ) -> tuple[int, bytes]:
        """(200, b"") for a request that a holder of the key has signed."""
        now_ms = audience = None
        try:
            verify(
                self._key,
                request.method,
                request.raw_path,
                body,
                authorization,
                self._window,
                self._clock.now_ms(),
            )
            return 200, b""
        except SignAgain as error:
            code, reason, now_ms, audience = error.code, str(error), error.now_ms, error.audience
        except NotAuthentic as error:
            code, reason = "not-authentic", str(error)
        message = RefusalMessage(
            code=code, reason=reason, cluster=self._cluster, now_ms=now_ms, audience=audience
        )
        return 401, msgspec.json.encode(message)
