"""The one authentication step: who signed this request? Whoever cannot show it gets no further."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from octad.client.s3.access_lists import ANONYMOUS
from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4 import UNSIGNED_PAYLOAD, PayloadMode, SignatureSeed, split_query
from octad.client.s3.sigv4_verify import (
    Authenticated,
    payload_mode_of,
    query_text,
    verify_request,
)
from octad.storage_node.s3.protocol.requests.request_headers import as_signed
from octad.storage_node.s3.protocol.signatures.sigv2_url import is_sigv2_url, verify_sigv2_url

UNSIGNED: Final = Authenticated(
    "", PayloadMode.UNSIGNED, UNSIGNED_PAYLOAD, SignatureSeed("", b"", "", ""), presigned=False
)

_SIGV2_NAMES: Final = ("awsaccesskeyid", "signature")

SecretOf = Callable[[str], tuple[str, str] | None]
"""(secret, owner) of an access key, or None where there is no such key or it is disabled."""


def authenticate(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    now_s: float,
    region: str,
    secret_of: SecretOf,
    sigv2_urls: bool,
    host_bucket: str,
) -> tuple[Authenticated, str]:
    """The verified signature and the owner it speaks for; raises S3Error for anybody else.

    A request without credentials is ANONYMOUS: its rights are decided elsewhere.

    `sigv2_urls`: presigned URLs of the old version are good, too. Where the host names the bucket
    (`host_bucket`), that is part of what they sign.
    """
    if "authorization" not in headers and not shows_credentials(query):
        return _of_nobody(method, headers), ANONYMOUS
    signed, secret = as_signed(headers), secret_in(secret_of)
    if query and sigv2_urls and is_sigv2_url(query):
        authenticated = verify_sigv2_url(
            method,
            path,
            query,
            signed,
            now=now_s,
            secret_of=secret,
            host_bucket=host_bucket,
        )
    else:
        authenticated = verify_request(
            method, path, query, signed, now=now_s, region=region, secret_of=secret
        )
    return authenticated, owner_of(authenticated, secret_of)


def _of_nobody(method: str, headers: Mapping[str, str]) -> Authenticated:
    """What a request without credentials says of its body, of which no chunk can be signed."""
    content_sha256 = headers.get("x-amz-content-sha256")
    if content_sha256 is None or method in ("GET", "HEAD"):
        return UNSIGNED
    try:
        mode = payload_mode_of(content_sha256)
    except S3Error:
        raise S3Error("AccessDenied") from None
    if mode in (PayloadMode.STREAMING_SIGNED, PayloadMode.STREAMING_SIGNED_TRAILER):
        raise S3Error("AccessDenied")
    return Authenticated("", mode, content_sha256, UNSIGNED.seed, presigned=False)


def secret_in(secret_of: SecretOf) -> Callable[[str], str | None]:
    """The secrets alone."""

    def secret(access_key: str) -> str | None:
        found = secret_of(access_key)
        return None if found is None else found[0]

    return secret


def owner_of(signature: Authenticated, secret_of: SecretOf) -> str:
    """Returns the owner that a verified signature speaks for."""
    found = secret_of(signature.access_key)
    if found is None:  # Revoked this very moment.
        raise S3Error("InvalidAccessKeyId")
    return found[1]


def shows_credentials(query: str) -> bool:
    """Whether anything of a query is part of a signature, good or bad, of either version.

    By decoded names, in any case: nothing that looks like one is passed over.
    """
    return bool(query) and any(
        (name := query_text(raw).lower()).startswith("x-amz-") or name in _SIGV2_NAMES
        for raw, _ in split_query(query)
    )
