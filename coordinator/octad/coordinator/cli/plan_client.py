"""Asks a coordinator about placement, for the command line: signed, blocking, one at a time.

Several coordinators may be named; the first that answers is the one.
"""

from __future__ import annotations

import argparse
import http.client
from typing import TypeVar

import msgspec

from octad.client.cli.coordinator_option import coordinator_url, dev_join_token
from octad.client.cluster.coordinator_reads import (
    Origin,
    no_answer,
    not_a_coordinator,
    origin_of,
    why_not,
)
from octad.client.cluster.internal_auth import (
    ANSWER_MAC_HEADER,
    AUTHORIZATION_HEADER,
    NotAuthentic,
    verify_answer,
)
from octad.client.cluster.join_token import BadJoinToken, JoinToken, decode_join_token
from octad.client.cluster.refusal import RefusalMessage
from octad.client.cluster.request_signer import SIGN_TRIES_MAX, RequestSigner
from octad.client.runtime.command import CommandError
from octad.coordinator.schema.join_messages import AUTH_PURPOSE
from octad.coordinator.schema.placement_messages import (
    PLAN_ACTIONS_PATH,
    PLAN_STATUS_PATH,
    PlanAnswer,
    PlanRequest,
    PlanStatus,
)

_TIMEOUT_S = 60.0  # A target for 65,536 shards takes some seconds.
_Message = TypeVar("_Message")


class PlanClient:
    """`token` is needed for requests only, not for looking."""

    def __init__(self, urls: str, token: JoinToken | None) -> None:
        self._origins = [origin_of(url.strip()) for url in urls.split(",")]
        self._token = token

    def get(self, path: str, kind: type[_Message]) -> _Message:
        """Returns a public document; raises CommandError."""
        origin, status, body, _ = self._send("GET", path, b"", {})
        if status != http.client.OK:
            raise _refused(origin, status, body)
        return decoded(origin, body, kind)

    def status(self) -> PlanStatus:
        return self.get(PLAN_STATUS_PATH, PlanStatus)

    def ask(self, action: str, request: PlanRequest) -> PlanAnswer:
        """Send a request for a change, or for its dry run; raises CommandError."""
        return self.post(f"{PLAN_ACTIONS_PATH}{action}", request, PlanAnswer)

    def post(self, path: str, request: msgspec.Struct, kind: type[_Message]) -> _Message:
        """The answer to a signed request; raises CommandError."""
        if self._token is None:
            raise CommandError(
                "who changes placement must show the cluster's join token",
                "give --join-token or OCTAD_JOIN_TOKEN as the first coordinator printed it",
                2,
            )
        signer, heard = RequestSigner(self._token.key_for(AUTH_PURPOSE)), list[str]()
        for _ in range(SIGN_TRIES_MAX):
            origin, status, body = self._post(self._token, path, request, signer)
            if status == http.client.OK:
                return decoded(origin, body, kind)
            refusal = refusal_of(origin, status, body)
            if refusal.audience is None or refusal.now_ms is None:
                break
            signer.learn(refusal.audience, refusal.now_ms, heard)
        raise _refused(origin, status, body)

    def _post(
        self, token: JoinToken, path: str, request: msgspec.Struct, signer: RequestSigner
    ) -> tuple[Origin, int, bytes]:
        body = msgspec.json.encode(request)
        authorization = signer.sign("POST", path, body)
        headers = {AUTHORIZATION_HEADER: authorization, "Content-Type": "application/json"}
        origin, status, answer, mac = self._send("POST", path, body, headers)
        try:
            verify_answer(token.key_for(AUTH_PURPOSE), authorization, status, answer, mac)
        except NotAuthentic as error:
            refusal_of(origin, status, answer)  # A coordinator's, of another cluster.
            raise CommandError(
                f"{origin.authority} does not know the secret of this join token",
                "give the join token of the cluster that it serves, or correct --coordinator",
            ) from error
        return origin, status, answer

    def _send(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[Origin, int, bytes, str | None]:
        """(who answered, status, body, its mac). Proxies are not asked."""
        failures = []
        for origin in self._origins:
            connection = origin.connection(_TIMEOUT_S)
            try:
                connection.request(method, path, body or None, headers)
                response = connection.getresponse()
                mac = response.headers.get(ANSWER_MAC_HEADER)
                return origin, response.status, response.read(), mac
            except (OSError, http.client.HTTPException) as error:
                failures.append(f"{origin.authority}: {why_not(error)}")
            finally:
                connection.close()
        raise no_answer("no coordinator answers", failures)


def client_of(arguments: argparse.Namespace) -> PlanClient:
    """Raises CommandError."""
    text = arguments.join_token
    if text is None and arguments.coordinator is None:
        text = dev_join_token(arguments)
    try:
        token = decode_join_token(text) if text else None
    except BadJoinToken as error:
        raise CommandError(str(error), "give --join-token as it was printed", 2) from error
    return PlanClient(coordinator_url(arguments), token)


def decoded(origin: Origin, body: bytes, kind: type[_Message]) -> _Message:
    """The answer of `origin`; raises CommandError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise not_a_coordinator(origin.url, str(error), body) from error


def refusal_of(origin: Origin, status: int, body: bytes) -> RefusalMessage:
    """Returns why `origin` refuses; raises CommandError if it is not a coordinator."""
    try:
        return msgspec.json.decode(body, type=RefusalMessage)
    except msgspec.DecodeError as error:
        raise not_a_coordinator(origin.url, f"status {status}", body) from error


def _refused(origin: Origin, status: int, body: bytes) -> CommandError:
    """A refusal states its own fix, behind its last semicolon."""
    reason = refusal_of(origin, status, body).reason
    what, separator, fix = reason.rpartition("; ")
    return (
        CommandError(what, fix)
        if separator
        else CommandError(reason, f"ask {origin.authority} again")
    )
