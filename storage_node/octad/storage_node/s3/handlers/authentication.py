"""The one authentication step: who signed this request? Whoever cannot show it gets no further."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.requests.request_headers import as_signed
from octad.storage_node.s3.protocol.signatures.sigv2_url import is_sigv2_url, verify_sigv2_url
from octad.storage_node.s3.protocol.signatures.sigv4_verify import Authenticated, verify_request

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

    `sigv2_urls`: presigned URLs of the old version are good, too. Where the host names the bucket
    (`host_bucket`), that is part of what they sign.
    """

    def secret(access_key: str) -> str | None:
        found = secret_of(access_key)
        return None if found is None else found[0]

    signed = as_signed(headers)
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
    found = secret_of(authenticated.access_key)
    if found is None:  # Revoked this very moment.
        raise S3Error("InvalidAccessKeyId")
    return authenticated, found[1]
