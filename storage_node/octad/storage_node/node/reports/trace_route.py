"""`GET /node/v1/trace` on the admin port: the node's S3 requests as they end, for an admin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from octad.client.cluster.refusal import RefusalMessage
from octad.client.runtime.http_listener import body_in_time
from octad.client.s3.trace_document import BadFilter, TraceProgress, filter_of
from octad.coordinator.admin.admin_signature import (
    NotAdmin,
    SignedRequest,
    Signer,
    check_admin,
    claimed_key,
)
from octad.coordinator.schema.join_messages import REGION
from octad.storage_node.s3.http.request_trace import (
    WATCHERS_MAX,
    RequestTraces,
    TooManyWatchers,
    TraceWatcher,
)

PROGRESS_S: Final = 5.0
PAUSE_S: Final = 0.1  # Lines of this time travel together.
_TYPE: Final = "application/x-ndjson"


class TraceRoute:
    """`signer_of` returns the access key that may sign, if it is a valid one."""

    def __init__(
        self,
        cluster: str,
        traces: RequestTraces,
        signer_of: Callable[[str], Signer | None],
        not_ready: Callable[[], str | None],
    ) -> None:
        self._cluster = cluster
        self._traces = traces
        self._signer_of = signer_of
        self._not_ready = not_ready
        self._encode = msgspec.json.Encoder().encode

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Never ends by itself, but for a key that is not an admin's any more."""
        try:
            access_key = self._check(request, await body_in_time(request))
            wanted = filter_of(request.query)
        except NotAdmin as error:
            return self._refusal(403, error.code, str(error))
        except BadFilter as error:
            return self._refusal(400, "bad-request", str(error))
        if (reason := self._not_ready()) is not None:
            return self._refusal(503, "not-ready", reason, passes=True)
        try:
            watcher = self._traces.watch(wanted)
        except TooManyWatchers:
            reason = f"{WATCHERS_MAX} watch this node's requests already"
            return self._refusal(503, "too-many-watchers", reason, passes=True)
        try:
            return await self._stream(request, watcher, access_key)
        finally:
            self._traces.leave(watcher)

    async def _stream(
        self, request: web.Request, watcher: TraceWatcher, access_key: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _TYPE})
        await response.prepare(request)
        next_progress = 0.0
        while self._is_admin(access_key):
            told: list[msgspec.Struct] = []
            if (now := time.monotonic()) >= next_progress:
                next_progress = now + PROGRESS_S
                told.append(TraceProgress(watcher.left_out))
            else:
                told += await watcher.lines(next_progress - now)
            if told:
                await response.write(b"".join(self._encode(each) + b"\n" for each in told))
                await asyncio.sleep(PAUSE_S)
        return response

    def _check(self, request: web.Request, body: bytes) -> str:
        """The access key that has signed; raises NotAdmin."""
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            known = headers.get(name.lower())
            headers[name.lower()] = value if known is None else f"{known},{value}"
        signed = SignedRequest(request.method, request.raw_path, headers, body)
        access_key = claimed_key(signed, time.time(), REGION)
        check_admin(signed, self._signer_of(access_key), time.time(), REGION)
        return access_key

    def _is_admin(self, access_key: str) -> bool:
        signer = self._signer_of(access_key)
        return signer is not None and signer.is_admin

    def _refusal(
        self, status: int, code: str, reason: str, *, passes: bool = False
    ) -> web.Response:
        message = RefusalMessage(code=code, reason=reason, cluster=self._cluster, passes=passes)
        return web.Response(
            status=status, body=msgspec.json.encode(message), content_type="application/json"
        )
