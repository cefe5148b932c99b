"""The configuration store of another process, over HTTP; `http_server.py` is the other end."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

import aiohttp
import msgspec

from octad.client.cluster.internal_auth import (
    ANSWER_MAC_HEADER,
    AUTHORIZATION_HEADER,
    NotAuthentic,
    verify_answer,
)
from octad.client.cluster.request_signer import RequestSigner
from octad.coordinator.store.http_format import (
    PATH,
    ErrorAnswer,
    GetQuestion,
    GrantLeaseQuestion,
    LeaseQuestion,
    RangeQuestion,
    WatchLine,
    WatchQuestion,
    transact_question,
)
from octad.coordinator.store.interface import (
    Compacted,
    Compare,
    EventBatch,
    KeyValue,
    LeaseExpired,
    LeaseId,
    Listing,
    Outcome,
    Revision,
    StoreOperation,
    StoreUnavailable,
)
from octad.coordinator.store.transaction_rules import check_transaction
from octad.sharding.limits import KIB

STORE_CONNECTIONS_OF_ONE = 16  # Per node, its watches included.

CALL_S_MAX = 5.0
CONNECT_S_MAX = 2.0
LARGE_BODY_BYTES_MIN = 256 * KIB  # aiohttp warns of larger plain bytes; a file object is slower.
SILENCE_S_MAX = 4.0  # A watch has a line every second while the other end lives.

A = TypeVar("A")
_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(WatchLine).decode
_decode_error = msgspec.json.Decoder(ErrorAnswer).decode


class _SignAgain(Exception):
    """The signature named another process or time; the signer has learnt the right ones."""


class HttpStore:
    """A `ConfigStore` at `url`, for a holder of `key` (`JoinToken.key_for(PURPOSE)`)."""

    def __init__(self, url: str, key: bytes) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._signer = RequestSigner(key)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        return await self._read("range", RangeQuestion(prefix, revision), Listing)

    async def get(self, key: str) -> KeyValue | None:
        answer_type: type[KeyValue | None] = KeyValue | None  # type: ignore[assignment]
        return await self._read("get", GetQuestion(key), answer_type)

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        check_transaction(compares, operations)
        return await self._call("transact", transact_question(compares, operations), Outcome)

    async def grant_lease(self, ttl_s: float) -> LeaseId:
        return LeaseId(await self._call("lease/grant", GrantLeaseQuestion(ttl_s), int))

    async def keep_alive(self, lease: LeaseId) -> None:
        await self._read("lease/keep-alive", LeaseQuestion(lease), type(None))

    async def revoke_lease(self, lease: LeaseId) -> None:
        await self._read("lease/revoke", LeaseQuestion(lease), type(None))

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[EventBatch, None]:
        question = _encode(WatchQuestion(prefix, after))
        try:
            for last_try in (False, True):
                try:
                    async with aclosing(self._watch_once(question)) as batches:
                        async for batch in batches:
                            yield batch
                except _SignAgain as error:
                    if last_try:
                        raise StoreUnavailable(f"{self._url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{self._url}: the watch broke: {error!r}") from error
        except NotAuthentic as error:
            raise StoreUnavailable(f"{self._url}: {error}") from error

    async def versions(self) -> Mapping[str, str]:
        return {}

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _read(self, name: str, question: object, answer_type: type[A]) -> A:
        """An idempotent call: a pooled connection may turn out to be dead."""
        try:
            return await self._call(name, question, answer_type)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, aiohttp.ServerDisconnectedError | ConnectionError):
                raise
            return await self._call(name, question, answer_type)

    async def _call(self, name: str, question: object, answer_type: type[A]) -> A:
        path, body = PATH + name, _encode(question)
        timeout = aiohttp.ClientTimeout(total=CALL_S_MAX, sock_connect=CONNECT_S_MAX)
        try:
            try:
                answer = await self._ask(path, body, timeout)
            except _SignAgain:
                answer = await self._ask(path, body, timeout)
            return msgspec.json.decode(answer, type=answer_type)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{self._url}: {error!r}") from error
        except (NotAuthentic, _SignAgain) as error:
            raise StoreUnavailable(f"{self._url}: {error}") from error

    async def _ask(self, path: str, body: bytes, timeout: aiohttp.ClientTimeout) -> bytes:
        """One question; the answer of a good one."""
        authorization = self._signer.sign("POST", path, body)
        async with self._post(path, body, authorization, timeout) as response:
            answer = await response.read()
        self._check(response, authorization, answer)
        return answer

    def _check(self, response: aiohttp.ClientResponse, authorization: str, body: bytes) -> None:
        """Raises unless it is a good answer, signed."""
        mac = response.headers.get(ANSWER_MAC_HEADER)
        if mac is None and response.status == 401:
            raise NotAuthentic("it refuses this cluster's secret")
        verify_answer(self._key, authorization, response.status, body, mac)
        if response.status != 200:
            self._raise(_decode_error(body))

    async def _watch_once(self, question: bytes) -> AsyncGenerator[EventBatch, None]:
        path = PATH + "watch"
        authorization = self._signer.sign("POST", path, question)
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S_MAX, sock_read=SILENCE_S_MAX)
        async with self._post(path, question, authorization, timeout) as response:
            if response.status != 200:
                self._check(response, authorization, await response.read())
            number, unread = 0, b""
            async for chunk in response.content.iter_any():
                *lines, unread = (unread + chunk).split(b"\n")
                for line in lines:
                    yield self._batch_of(line, authorization, number)
                    number += 1
        raise StoreUnavailable(f"{self._url}: the watch's connection ended")

    def _batch_of(self, line: bytes, authorization: str, number: int) -> EventBatch:
        mac, _, body = line.partition(b" ")
        verify_answer(self._key, authorization, number, body, mac.decode())
        message = _decode_line(body)
        if message.error is not None:
            self._raise(message.error)
        assert message.batch is not None, "a line holds a batch or an error"
        return message.batch

    def _post(
        self, path: str, body: bytes, authorization: str, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.client._RequestContextManager:
        if self._closed:
            raise StoreUnavailable("the configuration store is closed on this side")
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=STORE_CONNECTIONS_OF_ONE)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        headers = {AUTHORIZATION_HEADER: authorization, "Content-Type": "application/json"}
        data = body if len(body) < LARGE_BODY_BYTES_MIN else io.BytesIO(body)
        return self._session.post(self._url + path, data=data, headers=headers, timeout=timeout)

    def _raise(self, error: ErrorAnswer) -> None:
        if error.error == "sign-again":
            self._signer.learn(error.audience, error.now_ms, [])
            raise _SignAgain(error.message)
        if error.error == "compacted":
            raise Compacted(error.message)
        if error.error == "lease-expired":
            raise LeaseExpired(error.message)
        if error.error == "bad-request":
            raise ValueError(error.message)
        raise StoreUnavailable(error.message)
