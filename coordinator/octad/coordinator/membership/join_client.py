"""How a node joins: asks the coordinators, one after the other, and checks who answers.

The question is signed with the cluster's key and so is the answer, so neither a stranger's node nor
a stranger's coordinator gets further than an error. What may pass by itself (no coordinator up yet,
an old lease that still runs) is marked `passes`; how long to try again is the caller's choice.
"""

from __future__ import annotations

import http
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import msgspec

from octad.client.cluster.coordinator_calls import is_etcd_at
from octad.client.cluster.coordinator_tls import (
    context_for,
    says_tls_is_spoken,
    why_no_answer,
)
from octad.client.cluster.etcd_instead import IS_ETCD
from octad.client.cluster.internal_auth import (
    ANSWER_MAC_HEADER,
    AUTHORIZATION_HEADER,
    NotAuthentic,
    verify_answer,
)
from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.request_signer import SIGN_TRIES_MAX, RequestSigner
from octad.client.runtime.wrong_protocol import TLS_IS_SPOKEN
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.schema.join_messages import (
    AUTH_PURPOSE,
    JOIN_PATH,
    SEAL_PURPOSE,
    JoinMessage,
    JoinRequest,
    RefusalMessage,
)
from octad.coordinator.schema.sealing import unseal
from octad.coordinator.store.open_store import StoreAddress, decode_store_address
from octad.sharding.ids import NodeId

_TIMEOUT_S = 10.0
_ANSWER_BYTES_MAX = 64 * 1024


class JoinFailed(Exception):
    """No coordinator let the node in. `passes`: trying again later may help."""

    def __init__(self, reason: str, *, passes: bool) -> None:
        super().__init__(reason)
        self.passes = passes


class CoordinatorUnreachable(JoinFailed):
    """None of the coordinators answered."""


class OtherCluster(JoinFailed):
    """The coordinator serves another cluster than the token's, or knows another secret."""


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """The node's id, and its configuration store's address (to be stored on disk as a secret)."""

    node: NodeId
    region: str
    store: StoreAddress


@dataclass(frozen=True, slots=True)
class _Answer:
    """The raw answer, with what is needed to verify it."""

    authorization: str
    status: int
    body: bytes
    mac: str | None


async def join(
    coordinator_urls: str,
    token: JoinToken,
    request: JoinRequest,
    authority_file: str | None = None,
) -> JoinAnswer:
    """Ask each of `coordinator_urls` (separated by commas) until one decides.

    `authority_file`: whom to trust with https. Raises JoinRefused with the cluster's reason,
    OtherCluster, CoordinatorUnreachable, or, for what is no URL or no such file, ValueError.
    """
    urls = [_checked_url(url.strip()) for url in coordinator_urls.split(",")]
    failures: list[str] = []
    timeout = aiohttp.ClientTimeout(_TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=context_for(urls, authority_file) or True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, trust_env=False
    ) as session:
        for url in urls:
            try:
                return await _join_at(session, url, token, request)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failures.append(f"{url}: {why_no_answer(error)}")
            except CoordinatorUnreachable as error:
                is_etcd = not error.passes and await is_etcd_at(session, url)
                failures.append(f"{url} {IS_ETCD}" if is_etcd else str(error))
    raise CoordinatorUnreachable(f"no coordinator answers: {'; '.join(failures)}", passes=True)


async def _join_at(
    session: aiohttp.ClientSession, url: str, token: JoinToken, request: JoinRequest
) -> JoinAnswer:
    signer, heard = RequestSigner(token.key_for(AUTH_PURPOSE)), list[str]()
    for _ in range(SIGN_TRIES_MAX):
        answer = await _post(session, url, signer, request)
        if answer.status == http.HTTPStatus.OK:
            return _joined(url, token, answer)
        refusal = _refusal(url, token, answer)
        if refusal.audience is None or refusal.now_ms is None:
            break
        signer.learn(refusal.audience, refusal.now_ms, heard)
    if answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        raise CoordinatorUnreachable(f"{url}: {refusal.reason}", passes=True)
    raise JoinRefused(refusal.code, refusal.reason, passes=refusal.passes)


async def _post(
    session: aiohttp.ClientSession, url: str, signer: RequestSigner, request: JoinRequest
) -> _Answer:
    body = msgspec.json.encode(request)
    authorization = signer.sign("POST", JOIN_PATH, body)
    headers = {AUTHORIZATION_HEADER: authorization, "Content-Type": "application/json"}
    async with session.post(
        url + JOIN_PATH, data=body, headers=headers, allow_redirects=False
    ) as response:
        answer = await response.content.read(_ANSWER_BYTES_MAX)
        mac = response.headers.get(ANSWER_MAC_HEADER)
        return _Answer(authorization, response.status, answer, mac)


def _joined(url: str, token: JoinToken, answer: _Answer) -> JoinAnswer:
    _check_origin(url, token, answer, None)
    message = msgspec.json.decode(answer.body, type=JoinMessage)
    key = token.key_for(SEAL_PURPOSE)
    store = unseal(key, message.store_sealed, answer.authorization.encode())
    return JoinAnswer(message.node, message.region, decode_store_address(store))


def _refusal(url: str, token: JoinToken, answer: _Answer) -> RefusalMessage:
    try:
        refusal = msgspec.json.decode(answer.body, type=RefusalMessage)
    except msgspec.DecodeError as error:
        if says_tls_is_spoken(answer.body):
            raise CoordinatorUnreachable(f"{url}: {TLS_IS_SPOKEN}", passes=True) from error
        raise CoordinatorUnreachable(
            f"{url} did not answer like a coordinator (status {answer.status})", passes=False
        ) from error
    _check_origin(url, token, answer, refusal.cluster)
    return refusal


def _check_origin(url: str, token: JoinToken, answer: _Answer, cluster: str | None) -> None:
    """Raises OtherCluster unless a holder of the same token gave the answer."""
    try:
        verify_answer(
            token.key_for(AUTH_PURPOSE),
            answer.authorization,
            answer.status,
            answer.body,
            answer.mac,
        )
    except NotAuthentic as error:
        if cluster not in (None, token.cluster):
            what = f"{url} serves cluster {cluster}, the join token is for {token.cluster}"
        else:
            what = f"{url} does not know the secret of this join token"
        raise OtherCluster(what, passes=False) from error


def _checked_url(url: str) -> str:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is not a coordinator's URL: expected http://host:port")
    return url.rstrip("/")
