"""Calls to a cluster's coordinators: any of them will do, and the next one when one fails.

Writes are signed with the service key, for the very process that is asked (which it says itself, as
it says the time), and their answers are checked. Reads are open to all and not signed.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import aiohttp
import msgspec

from octad.client.cluster.coordinator_tls import context_for, says_tls_is_spoken, why_no_answer
from octad.client.cluster.etcd_instead import IS_ETCD, VERSION_PATH, is_etcd
from octad.client.cluster.internal_auth import (
    ANSWER_MAC_HEADER,
    AUTHORIZATION_HEADER,
    NotAuthentic,
    verify_answer,
)
from octad.client.cluster.refusal import RefusalMessage
from octad.client.cluster.request_signer import SIGN_TRIES_MAX, RequestSigner
from octad.client.cluster.service_token import SCOPE_HEADER, ServiceToken
from octad.client.runtime.wrong_protocol import TLS_IS_SPOKEN

CALL_S_MAX = 5.0
CONNECT_S_MAX = 2.0
NEXT_AFTER_S = 1.0  # A coordinator that is silent for this long may be frozen.
_SERVER_ERROR = 500
_VERSION_S_MAX = 1.0
_VERSION_BYTES_MAX = 4096


class CoordinatorsUnreachable(Exception):
    """No coordinator could answer; the message has each one's reason."""


class CallRefused(Exception):
    """A coordinator decided against it. `passes`: waiting may help.

    `instances` are those that a session has lost, where that is the reason.
    """

    def __init__(
        self, code: str, reason: str, *, passes: bool = False, instances: tuple[str, ...] = ()
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.passes = passes
        self.instances = instances


class Coordinators:
    """`urls`, separated by commas; `token` for writes.

    `authority_file`: whom to trust with https; without one, AWS_CA_BUNDLE names it. Raises
    ValueError for a bad URL or file.
    """

    def __init__(
        self, urls: str, token: ServiceToken | None = None, authority_file: str | None = None
    ) -> None:
        self._urls = [_checked_url(url.strip()) for url in urls.split(",")]
        self.authority_file = authority_file
        self._context = context_for(self._urls, authority_file)
        self._token = token
        self._signers = {} if token is None else {u: RequestSigner(token.key) for u in self._urls}
        self._position = 0
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """The one to ask now."""
        return self._urls[self._position % len(self._urls)]

    @property
    def urls(self) -> str:
        """All of them, as they were given."""
        return ",".join(self._urls)

    @property
    def others(self) -> list[str]:
        """The rest, the next one first."""
        at = self._position % len(self._urls)
        return self._urls[at + 1 :] + self._urls[:at]

    def turn_to(self, url: str) -> None:
        """Ask `url`, one of them, from now on."""
        self._position = self._urls.index(url)

    def turn_to_next(self) -> None:
        """The present one did not serve."""
        self._position += 1

    @property
    def count(self) -> int:
        return len(self._urls)

    def session(self) -> aiohttp.ClientSession:
        """For requests of the caller's own. No proxy is asked: a cluster is on one's network."""
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._context or True)
            self._session = aiohttp.ClientSession(
                connector=connector, trust_env=False, auto_decompress=False
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def write(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        timeout_s: float = CALL_S_MAX,
        next_after_s: float = NEXT_AFTER_S,
    ) -> bytes:
        """Returns the first decisive answer; raises CallRefused, CoordinatorsUnreachable.

        When one fails, or is silent for `next_after_s`, the next is asked as well. So the call
        must be idempotent, and may take effect late.
        """
        failures = list[str]()
        begin = self._position
        waiting = [(begin + place) % len(self._urls) for place in range(len(self._urls))][::-1]
        asked: dict[asyncio.Task[bytes], int] = {}
        try:
            while waiting or asked:
                if waiting:
                    position = waiting.pop()
                    url = self._urls[position]
                    asking = self._write_at(url, method, path, body, timeout_s)
                    asked[asyncio.create_task(asking)] = position
                done, _ = await asyncio.wait(
                    asked,
                    timeout=next_after_s if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    position = asked.pop(task)
                    why = _failure(task)
                    if why is None:
                        self._position = position
                        return task.result()
                    failures.append(f"{self._urls[position]}: {why}")
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        self._position = begin + 1
        raise CoordinatorsUnreachable(f"no coordinator answers: {'; '.join(failures)}")

    async def _write_at(
        self, url: str, method: str, path: str, body: bytes, timeout_s: float
    ) -> bytes:
        heard: list[str] = []
        for _ in range(SIGN_TRIES_MAX):
            status, answer = await self._send(url, method, path, body, timeout_s)
            if status == 200:
                return answer
            refusal = _refusal(answer, status)
            if refusal.audience is not None and refusal.now_ms is not None:
                self._signers[url].learn(refusal.audience, refusal.now_ms, heard)
                continue
            if status >= _SERVER_ERROR:
                raise _NotNow(refusal.reason)
            lost = () if refusal.instances is msgspec.UNSET else refusal.instances
            raise CallRefused(refusal.code, refusal.reason, passes=refusal.passes, instances=lost)
        raise _NotNow(refusal.reason)

    async def _send(
        self, url: str, method: str, path: str, body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        assert self._token is not None, "writes need a token"
        # Later, no one waits for the answer any more.
        path += f"{'&' if '?' in path else '?'}within={timeout_s:g}"
        authorization = self._signers[url].sign(method, path, body)
        headers = {AUTHORIZATION_HEADER: authorization, "Content-Type": "application/json"}
        if self._token.prefix:
            headers[SCOPE_HEADER] = self._token.prefix
        async with self.session().request(
            method,
            url + path,
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(timeout_s, sock_connect=min(timeout_s, CONNECT_S_MAX)),
            allow_redirects=False,
        ) as response:
            answer = await response.read()
            mac = response.headers.get(ANSWER_MAC_HEADER)
            try:
                verify_answer(self._token.key, authorization, response.status, answer, mac)
            except NotAuthentic as error:
                raise NotAuthentic(await self._stranger(url, answer)) from error
            return response.status, answer

    async def who_answers(self, url: str, answer: bytes) -> str:
        """Describes a server at `url` that is not a coordinator, and gave this answer."""
        if says_tls_is_spoken(answer):
            return TLS_IS_SPOKEN
        if await is_etcd_at(self.session(), url):
            return f"it {IS_ETCD}"
        return "it did not answer like a coordinator"

    async def _stranger(self, url: str, answer: bytes) -> str:
        """Describes a server that does not hold our key."""
        assert self._token is not None
        try:
            cluster = msgspec.json.decode(answer, type=RefusalMessage).cluster
        except msgspec.DecodeError:
            return await self.who_answers(url, answer)
        if cluster != self._token.cluster:
            return f"it serves cluster {cluster}, the token is for {self._token.cluster}"
        return "it does not know the secret of this token"


async def is_etcd_at(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether it is etcd that answers at `url`."""
    timeout = aiohttp.ClientTimeout(_VERSION_S_MAX)
    try:
        async with session.get(url + VERSION_PATH, timeout=timeout) as response:
            return is_etcd(await response.content.read(_VERSION_BYTES_MAX))
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


class _NotNow(Exception):
    """This coordinator cannot decide at the moment."""


def _failure(asking: asyncio.Task[bytes]) -> str | None:
    """Why a coordinator did not decide; None where it did, either way. Else raises."""
    error = asking.exception()
    if error is None or isinstance(error, CallRefused):
        return None
    if isinstance(error, (aiohttp.ClientError, OSError, TimeoutError)):
        return why_no_answer(error)
    if isinstance(error, (NotAuthentic, _NotNow)):
        return str(error)
    raise error


def _refusal(answer: bytes, status: int) -> RefusalMessage:
    try:
        return msgspec.json.decode(answer, type=RefusalMessage)
    except msgspec.DecodeError as error:
        raise _NotNow(f"status {status} without a reason") from error


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is not a coordinator's URL: expected http://host:port")
    return url.rstrip("/")
