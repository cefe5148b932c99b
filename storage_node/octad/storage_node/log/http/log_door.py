"""The log's listener of a node: `/v1/topics…`, for requests that are signed as S3's are.

Nothing of a request is read before its signature holds, and its body then within a bound that all
of them share. A topic is its owner's alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from octad.client.log.log_documents import JSON_TYPE
from octad.client.runtime.address import Address
from octad.client.runtime.http_listener import HttpListener, Protocols, wrong_protocol_refusal
from octad.client.s3.access_lists import ANONYMOUS
from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4 import PayloadMode
from octad.coordinator.tls.certificate import Certificate
from octad.coordinator.tls.tls_transport import TlsListener
from octad.storage_node.log.http.held_routes import HeldRoutes
from octad.storage_node.log.http.log_forms import bad_request
from octad.storage_node.log.http.log_openapi import openapi_document
from octad.storage_node.log.http.log_refusals import refused
from octad.storage_node.log.http.log_requests import Asked, Handler
from octad.storage_node.log.http.record_routes import RecordRoutes
from octad.storage_node.log.http.topic_routes import TopicRoutes
from octad.storage_node.log.record_batch import BATCH_BYTES_MAX
from octad.storage_node.log.topic_log import TopicLog
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.handlers.authentication import SecretOf, authenticate
from octad.storage_node.s3.protocol.requests.request_headers import header_values
from octad.storage_node.shards.object_store import Unavailable

BODY_BYTES_MAX: Final = 2 * BATCH_BYTES_MAX  # JSON takes more room than what it says.
_SHUTDOWN_S: Final = 1.0
_PORT: Final = "log's port"
_BODY_S_MAX: Final = 30.0


class LogDoor:
    """See the module. With a `certificate` it speaks TLS, and nothing else."""

    def __init__(
        self,
        log: TopicLog,
        secret_of: SecretOf,
        region: str,
        budget: BodyBudget,
        version: str,
        certificate: Certificate | None,
    ) -> None:
        self._log = log
        self._secret_of = secret_of
        self._region = region
        self._budget = budget
        self.certificate = certificate
        self._openapi = msgspec.json.encode(openapi_document(version))
        self._listener: HttpListener | None = None
        self.is_open = False  # It listens before the node can answer.
        self.requests: Counter[tuple[str, int]] = Counter()  # By operation and status.

    async def start(self, address: Address, connections_max: int) -> int:
        """Listen, and return the port (for port 0); raises OSError where it cannot be had."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        handlers = TopicRoutes(self._log), RecordRoutes(self._log), HeldRoutes(self._log)
        for each in handlers:
            for method, path, handler in each.routes():
                application.router.add_route(method, path, self._signed(handler))
        application.router.add_get("/v1/openapi.json", self._describe_all)
        secured = None if self.certificate is None else self._secured
        listener = HttpListener(application, connections_max, _SHUTDOWN_S, _PORT, secured)
        port = await listener.start(address.host, address.port)
        self._listener = listener
        return port

    def _secured(self, protocols: Protocols) -> Protocols:
        assert self.certificate is not None
        return TlsListener(self.certificate, protocols, _PORT, wrong_protocol_refusal)

    async def stop(self) -> None:
        """Finish what is under way; who waits at an end is sent away."""
        if self._listener is not None:
            await self._listener.stop()

    # -- requests ------------------------------------------------------------------------------

    def _signed(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        operation = handler.__name__.strip("_").replace("_", "-")

        async def answer(http: web.Request) -> web.StreamResponse:
            known = "none"
            try:
                asked = self._asked(http)
                known = operation
                answered = await self._with_body(asked, handler)
            except Exception as error:
                refusal = refused(error)
                answered = web.Response(
                    status=refusal.status, body=refusal.body, headers=refusal.headers
                )
                if not http.content.is_eof():
                    answered.force_close()  # The rest of the body would pass for a request.
            self.requests[known, answered.status] += 1
            return answered

        return answer

    def _asked(self, http: web.Request) -> Asked:
        """Without its body. Raises S3Error, Refused, Unavailable."""
        if not self.is_open:
            raise Unavailable("the node is starting")
        content_sha256, owner = self._signer(http)
        length = http.content_length
        if http.can_read_body and (length is None or length > BODY_BYTES_MAX):
            raise bad_request(f"a body has a stated length of up to {BODY_BYTES_MAX} bytes")
        return Asked(http, owner, content_sha256, length or 0)

    async def _with_body(self, asked: Asked, handler: Handler) -> web.StreamResponse:
        size = asked.length
        if not size:
            return await handler(asked)
        gate = self._budget.gate(size)
        await gate.take(size)
        try:
            asked.body = await _body(asked.http, asked.content_sha256)
            return await handler(asked)
        finally:
            gate.give_back(size)

    def _signer(self, http: web.Request) -> tuple[str, str]:
        """The SHA-256 that was signed for the body, or "", and the owner. Raises S3Error."""
        path, _, query = http.raw_path.partition("?")
        signature, owner = authenticate(
            http.method,
            path,
            query,
            header_values(http.raw_headers),
            now_s=time.time(),
            region=self._region,
            secret_of=self._secret_of,
            sigv2_urls=False,
            host_bucket="",
        )
        if owner == ANONYMOUS:
            raise S3Error("AccessDenied")
        if signature.payload_mode is PayloadMode.SIGNED:
            return signature.content_sha256.lower(), owner
        if signature.payload_mode is PayloadMode.UNSIGNED:
            return "", owner
        raise S3Error("NotImplemented", "Sign the body as a whole, or not at all.")

    async def _describe_all(self, _: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type=JSON_TYPE)


async def _body(http: web.Request, content_sha256: str) -> bytes:
    """Raises S3Error where it is not what was signed."""
    try:
        async with asyncio.timeout(_BODY_S_MAX):
            body = await http.read()
    except TimeoutError:
        raise S3Error("RequestTimeout") from None
    if content_sha256 and hashlib.sha256(body).hexdigest() != content_sha256:
        raise S3Error("XAmzContentSHA256Mismatch")
    return body
