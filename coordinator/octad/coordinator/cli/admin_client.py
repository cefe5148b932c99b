"""Asks a coordinator's admin API, for the command line: signed, blocking, one request at a time.

Who signs is whose keys the environment has, as for every S3 client, else the first key of the octad
dev in `--data`. Several coordinators may be named; the first that answers is the one.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import time
from typing import TypeVar

import msgspec

from octad.client.cli.coordinator_option import coordinator_url, dev_access_key
from octad.client.cluster.coordinator_reads import Origin, no_answer, origin_of, why_not
from octad.client.runtime.command import CommandError
from octad.client.s3.sigv4 import Credentials, sign_request
from octad.coordinator.cli.plan_client import decoded, refusal_of
from octad.coordinator.schema.join_messages import REGION

_TIMEOUT_S = 15.0
_ACCESS_KEY, _SECRET_KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
_Message = TypeVar("_Message")


class AdminClient:
    """`credentials` are an admin's."""

    def __init__(self, urls: str, credentials: Credentials) -> None:
        self._origins = [origin_of(url.strip()) for url in urls.split(",")]
        self.credentials = credentials

    def ask(
        self, method: str, path: str, kind: type[_Message], request: msgspec.Struct | None = None
    ) -> _Message:
        """Returns the answer; raises CommandError. Requests are idempotent."""
        body = b"" if request is None else msgspec.json.encode(request)
        failures: list[str] = []
        for origin in self._origins:
            try:
                status, answer = self._send(origin, method, path, body)
            except (OSError, http.client.HTTPException) as error:
                failures.append(f"{origin.authority}: {why_not(error)}")
                continue
            if status == http.client.OK:
                return decoded(origin, answer, kind)
            raise self._refused(origin, status, answer)
        raise no_answer("no coordinator answers", failures)

    def _send(self, origin: Origin, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        headers = {"host": origin.authority}
        signed, _ = sign_request(
            method=method,
            path=path,
            query="",
            headers=headers,
            credentials=self.credentials,
            region=REGION,
            now=time.time(),
            content_sha256=hashlib.sha256(body).hexdigest(),
        )
        connection = origin.connection(_TIMEOUT_S)
        try:
            connection.request(method, path, body or None, {**headers, **signed})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _refused(self, origin: Origin, status: int, body: bytes) -> CommandError:
        """A refusal may say the way out itself, behind its last semicolon."""
        reason = refusal_of(origin, status, body).reason
        what, separator, fix = reason.rpartition("; ")
        if separator:
            return CommandError(what, fix)
        if status == http.client.FORBIDDEN:
            key = self.credentials.access_key
            return CommandError(
                f"{origin.authority} does not take access key {key} for an admin's ({reason})",
                f"set {_ACCESS_KEY} and {_SECRET_KEY} to an admin's",
            )
        return CommandError(reason, f"ask {origin.authority} again")


def admin_client(arguments: argparse.Namespace) -> AdminClient:
    """Raises CommandError where no admin's key is known."""
    return AdminClient(coordinator_url(arguments), admin_credentials(arguments))


def admin_credentials(arguments: argparse.Namespace) -> Credentials:
    """Those of the environment, or of the octad dev; raises CommandError."""
    access_key, secret_key = os.environ.get(_ACCESS_KEY), os.environ.get(_SECRET_KEY)
    if access_key and secret_key:
        return Credentials(access_key, secret_key)
    found = dev_access_key(arguments) if arguments.coordinator is None else None
    if found is None:
        raise CommandError(
            "this needs the access key of an admin",
            f"set {_ACCESS_KEY} and {_SECRET_KEY} to the first key that was printed",
            2,
        )
    return Credentials(*found)
