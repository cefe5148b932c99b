"""Verifies that an admin signed a request: SigV4 in its headers, as in S3, over the whole body.

Default deny. A signature is good for 15 minutes either way by the coordinator's clock, and for the
host, method, path, query and body that it names. Within these minutes the same request may be sent
again, as with S3: so every request is idempotent: it states the result, not an increment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4 import PayloadMode
from octad.client.s3.sigv4_verify import SecretOf, verify_request


class NotAdmin(Exception):
    """The request is not proved to come from an admin; `code` is as in S3."""

    def __init__(self, reason: str, code: str = "AccessDenied") -> None:
        super().__init__(reason)
        self.code = code


class SignedRequest(msgspec.Struct, frozen=True):
    """The request exactly as received: `target` with its query, `headers` with lower-case names."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Signer(msgspec.Struct, frozen=True):
    """An access key that may sign."""

    access_key: str
    secret: str
    is_admin: bool

    def __repr__(self) -> str:
        return f"Signer({self.access_key!r}, is_admin={self.is_admin})"


def claimed_key(request: SignedRequest, now_s: float, region: str) -> str:
    """Returns the access key that the request claims, for a look-up; nothing is proved yet.

    Raises NotAdmin for what no key could have signed now.
    """
    asked: list[str] = []

    def unknown(access_key: str) -> None:
        asked.append(access_key)

    try:
        _verify(request, now_s, region, unknown)
    except S3Error as error:
        if not asked:
            raise NotAdmin(_words(error), error.code) from error
    return asked[0]


def check_admin(request: SignedRequest, signer: Signer | None, now_s: float, region: str) -> None:
    """Raises NotAdmin unless `signer`, who is looked up, has signed it and is an admin."""

    def secret_of(access_key: str) -> str | None:
        known = signer is not None and signer.access_key == access_key
        return signer.secret if signer is not None and known else None

    try:
        content_sha256 = _verify(request, now_s, region, secret_of)
    except S3Error as error:
        raise NotAdmin(_words(error), error.code) from error
    if content_sha256 != hashlib.sha256(request.body).hexdigest():
        raise NotAdmin("the body is not the one whose SHA-256 was signed")
    assert signer is not None, "nobody's signature was verified"
    if not signer.is_admin:
        raise NotAdmin("the access key is not an admin's; octad key create OWNER --admin makes one")


def _verify(request: SignedRequest, now_s: float, region: str, secret_of: SecretOf) -> str:
    """The SHA-256 of the body that was signed."""
    path, _, query = request.target.partition("?")
    proved = verify_request(
        request.method, path, query, request.headers, now=now_s, region=region, secret_of=secret_of
    )
    if proved.presigned or proved.payload_mode is not PayloadMode.SIGNED:
        raise S3Error("AccessDenied", "sign the headers, and the SHA-256 of the body")
    return proved.content_sha256.lower()


def _words(error: S3Error) -> str:
    if error.code == "AccessDenied" and "authorization" not in str(error).lower():
        return f"{error.message}: sign the request with SigV4 and the access key of an admin"
    return error.message
