"""The coordinator over HTTP, under /cluster/v1/: everybody reads, holders of the token write.

Default deny: whatever is not a GET or HEAD must be signed with the cluster's key (`internal_auth`),
whether the path exists or not, before anything looks at it. Answers to signed requests are signed.
It translates; what a request means is in `coordinator.py`. All of it, with examples:
`docs/reference/coordinator-http.md`.
"""

from __future__ import annotations

import asyncio
import secrets
import socket

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from octad.client.core.internal_auth import (
    ANSWER_MAC_HEADER,
    AUTHORIZATION_HEADER,
    NotAuthentic,
    ReplayWindow,
    TimestampRefused,
    sign_answer,
    verify,
)
from octad.client.core.status_document import STATUS_PATH
from octad.client.shell.steady_clock import SteadyClock
from octad.coordinator.core.admission import JoinRefused
from octad.coordinator.core.cluster_view import BadRecord
from octad.coordinator.core.join_messages import (
    AUTH_PURPOSE,
    JOIN_PATH,
    SEAL_PURPOSE,
    JoinMessage,
    JoinRequest,
    RefusalMessage,
)
from octad.coordinator.core.sealing import NONCE_BYTES, seal
from octad.coordinator.shell.coordinator import Coordinator
from octad.coordinator.store.interface import StoreUnavailable
from octad.coordinator.store.open_store import encode_store_address

HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"
MAP_PATH = "/cluster/v1/map"
NODES_PATH = "/cluster/v1/nodes"
SHARDS_PATH = "/cluster/v1/shards"
REQUEST_BYTES_MAX = 64 * 1024
_BODY_TIMEOUT_S = 10.0
_SHUTDOWN_S = 2.0


class HttpService:
    """Serves one coordinator on a socket that is bound already."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._token = coordinator.config.token
        self._key = self._token.key_for(AUTH_PURPOSE)
        self._clock = SteadyClock()
        self._window = ReplayWindow(floor_ms=self._clock.now_ms())
        self._runner: web.AppRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on `listener`, which the service closes when it stops."""
        application = web.Application(
            middlewares=[self._guard()], client_max_size=REQUEST_BYTES_MAX
        )
        routes: dict[str, Handler] = {
            HEALTH_PATH: self._health,
            READY_PATH: self._ready,
            MAP_PATH: self._map,
            NODES_PATH: self._nodes,
            SHARDS_PATH: self._shards,
            STATUS_PATH: self._status,
        }
        for path, handler in routes.items():
            application.router.add_get(path, handler)
        application.router.add_post(JOIN_PATH, self._join)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Take no more requests; finish those under way."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _guard(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.method in ("GET", "HEAD"):
                return await self._answer(request, handler)
            authorization = request.headers.get(AUTHORIZATION_HEADER)
            refusal = await self._authenticate(request, authorization)
            response = refusal if refusal is not None else await self._answer(request, handler)
            if authorization is not None:
                assert isinstance(response, web.Response), "what is signed is sent whole"
                assert isinstance(response.body, bytes), "what is signed is sent whole"
                response.headers[ANSWER_MAC_HEADER] = sign_answer(
                    self._key, authorization, response.status, response.body
                )
            return response

        return guard

    async def _authenticate(
        self, request: web.Request, authorization: str | None
    ) -> web.Response | None:
        """The refusal, or None for a signed request seen for the first time."""
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                body = await request.read()
            verify(
                self._key,
                request.method,
                request.raw_path,
                body,
                authorization,
                self._window,
                self._clock.now_ms(),
            )
        except TimestampRefused as error:
            return self._refusal(401, "timestamp", str(error), now_ms=error.now_ms)
        except NotAuthentic as error:
            return self._refusal(401, "not-authentic", str(error))
        except TimeoutError:
            return self._refusal(408, "too-slow", "the body did not arrive in time")
        except web.HTTPRequestEntityTooLarge:
            return self._refusal(413, "too-large", f"at most {REQUEST_BYTES_MAX} bytes")
        return None

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except JoinRefused as error:
            return self._refusal(409, error.code, error.reason, passes=error.passes)
        except msgspec.DecodeError as error:
            return self._refusal(400, "bad-request", str(error))
        except StoreUnavailable as error:
            return self._refusal(503, "store-unavailable", str(error), passes=True)
        except BadRecord as error:
            return self._refusal(500, "bad-record", str(error))
        except web.HTTPException as error:  # No such path, or no such method for it.
            return self._refusal(error.status, error.reason.lower().replace(" ", "-"), error.reason)

    def _refusal(
        self,
        status: int,
        code: str,
        reason: str,
        *,
        passes: bool = False,
        now_ms: int | None = None,
    ) -> web.Response:
        message = RefusalMessage(
            code=code, reason=reason, cluster=self._token.cluster, passes=passes, now_ms=now_ms
        )
        return _json(msgspec.json.encode(message), status)

    async def _join(self, request: web.Request) -> web.Response:
        joined = await self._coordinator.join(
            msgspec.json.decode(await request.read(), type=JoinRequest)
        )
        store_sealed = seal(
            self._token.key_for(SEAL_PURPOSE),
            encode_store_address(joined.store),
            request.headers[AUTHORIZATION_HEADER].encode(),
            secrets.token_bytes(NONCE_BYTES),
        )
        message = JoinMessage(
            cluster=self._token.cluster,
            node=joined.node,
            region=joined.region,
            store_sealed=store_sealed,
        )
        return _json(msgspec.json.encode(message))

    async def _map(self, request: web.Request) -> web.Response:
        tag = self._coordinator.map_tag()
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return _json(self._coordinator.map_document(), headers=headers)

    async def _nodes(self, _: web.Request) -> web.Response:
        return _json(msgspec.json.encode({"nodes": self._coordinator.status().nodes}))

    async def _shards(self, _: web.Request) -> web.Response:
        return _json(msgspec.json.encode({"shards": self._coordinator.shards()}))

    async def _status(self, _: web.Request) -> web.Response:
        return _json(msgspec.json.encode(self._coordinator.status()))

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self._coordinator.not_ready()
        if reason is not None:
            return self._refusal(503, "not-ready", reason, passes=True)
        return web.Response(text="ready\n")


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
