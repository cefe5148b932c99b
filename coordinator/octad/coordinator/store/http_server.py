"""A configuration store served to other processes over HTTP; `http_client.py` is the other end.

It authenticates, translates and calls: what a call means is the store's. Everything that is not a
signed request is refused, for any path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from octad.client.cluster.internal_auth import (
    ANSWER_MAC_HEADER,
    AUTHORIZATION_HEADER,
    NotAuthentic,
    SignAgain,
    sign_answer,
    verify,
)
from octad.client.cluster.request_signer import new_replay_window
from octad.client.runtime.http_listener import HttpListener, body_in_time
from octad.client.runtime.steady_clock import SteadyClock
from octad.coordinator.store.http_format import (
    PATH,
    STATUS_BY_ERROR,
    ErrorAnswer,
    ErrorKind,
    GetQuestion,
    GrantLeaseQuestion,
    LeaseQuestion,
    RangeQuestion,
    TransactQuestion,
    WatchLine,
    WatchQuestion,
    transaction_of,
)
from octad.coordinator.store.interface import (
    Compacted,
    ConfigStore,
    LeaseExpired,
    StoreUnavailable,
)
from octad.coordinator.store.watching import watching
from octad.sharding.limits import STORE_TRANSACTION_BYTES_MAX

STORE_CONNECTIONS_MAX = 256  # Connections to the embedded store, on loopback.

BODY_BYTES_MAX = 2 * STORE_TRANSACTION_BYTES_MAX  # Base64 and the rest of the JSON.
SHUTDOWN_S = 1.0  # For answers under way when the face stops.

Q = TypeVar("Q")
_encode = msgspec.json.Encoder().encode


class HttpFace:
    """Serves `store` to holders of `key` (`JoinToken.key_for(PURPOSE)`)."""

    def __init__(self, store: ConfigStore, key: bytes) -> None:
        self._store = store
        self._key = key
        self._clock = SteadyClock()
        self._window = new_replay_window()
        self._watches: set[asyncio.Task[None]] = set()
        self._listener: HttpListener | None = None
        self._calls: dict[str, Callable[[bytes], Awaitable[object]]] = {
            "range": self._range,
            "get": self._get,
            "transact": self._transact,
            "lease/grant": self._grant_lease,
            "lease/keep-alive": self._keep_alive,
            "lease/revoke": self._revoke_lease,
        }

    async def start(self, host: str, port: int = 0) -> str:
        """Listen; the URL to reach it. Raises OSError where it cannot."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{anything:.*}", self._handle)
        listener = HttpListener(
            application, STORE_CONNECTIONS_MAX, SHUTDOWN_S, "configuration store's port"
        )
        bound_port = await listener.start(host, port)
        self._listener = listener
        return f"http://{f'[{host}]' if ':' in host else host}:{bound_port}"

    async def stop(self) -> None:
        """Watches end at once, as for a lost connection; the store stays open."""
        for watch in self._watches:
            watch.cancel()
        if self._listener is not None:
            await self._listener.stop()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await body_in_time(request)
        authorization = request.headers.get(AUTHORIZATION_HEADER)
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
        except SignAgain as error:
            assert authorization is not None, "its timestamp was read"
            refusal = ErrorAnswer("sign-again", str(error), error.now_ms, error.audience)
            return self._signed(authorization, 401, _encode(refusal))
        except NotAuthentic as error:
            return web.json_response(
                body=_encode(ErrorAnswer("not-authentic", str(error))), status=401
            )
        assert authorization is not None, "it was verified"
        call_name = request.raw_path.removeprefix(PATH)
        if call_name == "watch":
            return await self._watch(request, authorization, body)
        status, answer = await self._answer(call_name, body)
        return self._signed(authorization, status, _encode(answer))

    async def _answer(self, call_name: str, body: bytes) -> tuple[int, object]:
        call = self._calls.get(call_name)
        if call is None:
            return _refused("bad-request", f"there is no call {call_name!r}")
        try:
            return 200, await call(body)
        except ValueError as error:  # The body is malformed, or the transaction is invalid.
            return _refused("bad-request", str(error))
        except (Compacted, LeaseExpired, StoreUnavailable) as error:
            return _refused(_kind_of(error), str(error))

    def _signed(self, authorization: str, status: int, body: bytes) -> web.Response:
        mac = sign_answer(self._key, authorization, status, body)
        return web.Response(
            status=status,
            body=body,
            content_type="application/json",
            headers={ANSWER_MAC_HEADER: mac},
        )

    async def _range(self, body: bytes) -> object:
        question = _decode(body, RangeQuestion)
        return await self._store.range(question.prefix, question.revision)

    async def _get(self, body: bytes) -> object:
        return await self._store.get(_decode(body, GetQuestion).key)

    async def _transact(self, body: bytes) -> object:
        return await self._store.transact(*transaction_of(_decode(body, TransactQuestion)))

    async def _grant_lease(self, body: bytes) -> object:
        return await self._store.grant_lease(_decode(body, GrantLeaseQuestion).ttl_s)

    async def _keep_alive(self, body: bytes) -> object:
        await self._store.keep_alive(_decode(body, LeaseQuestion).lease)
        return None

    async def _revoke_lease(self, body: bytes) -> object:
        await self._store.revoke_lease(_decode(body, LeaseQuestion).lease)
        return None

    async def _watch(
        self, request: web.Request, authorization: str, body: bytes
    ) -> web.StreamResponse:
        try:
            question = _decode(body, WatchQuestion)
        except ValueError as error:
            status, answer = _refused("bad-request", str(error))
            return self._signed(authorization, status, _encode(answer))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        try:
            await response.prepare(request)
            await self._stream(response, authorization, question)
        except ConnectionResetError:
            pass  # The other end has gone.
        finally:
            self._watches.discard(task)
        return response

    async def _stream(
        self, response: web.StreamResponse, authorization: str, question: WatchQuestion
    ) -> None:
        number = 0

        async def send(line: WatchLine) -> None:
            nonlocal number
            body = _encode(line)
            mac = sign_answer(self._key, authorization, number, body)
            number += 1
            await response.write(b"%s %s\n" % (mac.encode(), body))

        try:
            async with watching(self._store, question.prefix, question.after) as batches:
                async for batch in batches:
                    await send(WatchLine(batch))
        except (Compacted, StoreUnavailable) as error:
            await send(WatchLine(error=ErrorAnswer(_kind_of(error), str(error))))
        await response.write_eof()


def _decode(body: bytes, question: type[Q]) -> Q:
    """Raises msgspec.DecodeError, which is a ValueError."""
    return msgspec.json.decode(body, type=question)


def _refused(kind: ErrorKind, message: str) -> tuple[int, ErrorAnswer]:
    return STATUS_BY_ERROR[kind], ErrorAnswer(kind, message)


def _kind_of(error: Compacted | LeaseExpired | StoreUnavailable) -> ErrorKind:
    if isinstance(error, Compacted):
        return "compacted"
    return "lease-expired" if isinstance(error, LeaseExpired) else "unavailable"
