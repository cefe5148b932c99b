"""Presigned URLs of signature version 2: GET, HEAD and PUT of an object, and nothing else.

boto3 and awscli 1, and what is built on them (django-storages, s3fs), make these for any endpoint
but AWS's own unless configured otherwise, so most links that people share are of this kind.

    ?AWSAccessKeyId=…&Signature=…&Expires=…        base64(HMAC-SHA1(secret, string to sign))

    string to sign      method, Content-MD5, Content-Type, Expires, every x-amz-* header, resource
    resource            the path as it was sent, and of the query what changes the answer

It is weaker than version 4: the key is the secret itself, the host is not signed, nor the query but
for some names. So a URL may carry nothing beside them: what no one signed could have been added on
the way. Some signers repeat signed headers in the query; there they have to say the same.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from octad.client.s3.http_dates import iso_date
from octad.client.s3.sigv4 import (
    UNSIGNED_PAYLOAD,
    PayloadMode,
    SignatureSeed,
    canonical_path,
    split_query,
    wire_bytes,
)
from octad.client.s3.sigv4_claim import SigV4Error
from octad.client.s3.sigv4_verify import (
    Authenticated,
    payload_mode_of,
    query_text,
    refuse_two_mechanisms,
)
from octad.sharding.limits import PRESIGN_EXPIRY_S_MAX

ACCESS_KEY: Final = "AWSAccessKeyId"
_MECHANISM: Final = (ACCESS_KEY, "Signature", "Expires")
_RESOURCE: Final = frozenset(
    {
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "versionId",
    }
)
_REPEATED: Final = ("content-md5", "content-type")
# A query's parameters of the signature, which say nothing of the operation.
PARAMETERS: Final = frozenset({*_MECHANISM, *_REPEATED})
_METHODS: Final = ("GET", "HEAD", "PUT")
# A chain of signed chunks begins at a signature of version 4.
_MODES: Final = (
    PayloadMode.SIGNED,
    PayloadMode.UNSIGNED,
    PayloadMode.STREAMING_UNSIGNED_TRAILER,
)
_NO_SEED: Final = SignatureSeed("", b"", "", "")


def is_sigv2_url(raw_query: str) -> bool:
    """Whether the query claims to be signed so."""
    return ACCESS_KEY in raw_query and any(name == ACCESS_KEY for name, _ in split_query(raw_query))


def verify_sigv2_url(
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    *,
    now: float,
    secret_of: Callable[[str], str | None],
    host_bucket: str = "",
) -> Authenticated:
    """Verifies the signature of this URL; raises SigV4Error.

    The arguments are those of `verify_request`, and the bucket that the host names: it stands
    before the path in what was signed.
    """
    if host_bucket:
        raw_path = f"/{host_bucket}{raw_path}"
    pairs = [(name, query_text(value)) for name, value in split_query(raw_query)]
    if "authorization" in headers or any(name.startswith("X-Amz-") for name, _ in pairs):
        refuse_two_mechanisms()
    query = dict(pairs)
    if len(query) != len(pairs) or not all(query.get(name) for name in _MECHANISM):
        _deny(
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId "
            "parameters, each once"
        )
    _check_scope(method, raw_path, query, headers)
    _check_expiry(query["Expires"], now)
    access_key, signature = query[ACCESS_KEY], query["Signature"].replace(" ", "+")
    secret = secret_of(access_key)
    if secret is None:
        raise SigV4Error("InvalidAccessKeyId", fields={"AWSAccessKeyId": access_key})
    as_sent = _string_to_sign(method, raw_path, query, headers)
    if not _matches(secret, as_sent, signature) and not _matches(
        secret,
        _string_to_sign(method, canonical_path(raw_path), query, headers),
        signature,
    ):
        raise SigV4Error(
            "SignatureDoesNotMatch",
            fields={
                "AWSAccessKeyId": access_key,
                "StringToSign": as_sent,
                "SignatureProvided": signature,
            },
        )
    content_sha256 = headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
    mode = payload_mode_of(content_sha256)
    if mode not in _MODES:
        _deny("Signed chunks need a signature of version 4")
    return Authenticated(access_key, mode, content_sha256, _NO_SEED, True, sigv2=True)


def _check_scope(
    method: str, raw_path: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> None:
    bucket, _, key = raw_path.removeprefix("/").partition("/")
    if method not in _METHODS or not bucket or not key:
        _deny("A presigned URL of signature version 2 is good for GET, HEAD or PUT of an object")
    for name, value in query.items():
        if name in _MECHANISM or (name in _RESOURCE and value.isprintable()):
            continue
        repeated = name in _REPEATED or name.startswith("x-amz-")
        if not (repeated and headers.get(name) == value):
            _deny(f"The query says {name}, which its signature of version 2 does not cover")


def _check_expiry(expires: str, now: float) -> None:
    if not (expires.isascii() and expires.isdecimal() and len(expires) <= 12):
        _deny("Expires must be a time in seconds since 1970")
    if int(expires) - now > PRESIGN_EXPIRY_S_MAX:
        _deny(f"Expires must be less than a week ahead ({PRESIGN_EXPIRY_S_MAX} seconds)")
    if now > int(expires):
        raise SigV4Error(
            "AccessDenied",
            "Request has expired",
            fields={
                "Expires": iso_date(int(expires) * 1000),
                "ServerTime": iso_date(int(now) * 1000),
            },
        )


def _string_to_sign(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    ours = "".join(
        f"{name}:{headers[name].strip()}\n" for name in sorted(headers) if name[:6] == "x-amz-"
    )
    resource = "&".join(f"{name}={query[name]}" for name in sorted(query) if name in _RESOURCE)
    return (
        f"{method}\n{headers.get('content-md5', '')}\n{headers.get('content-type', '')}\n"
        f"{query['Expires']}\n{ours}{path}{'?' if resource else ''}{resource}"
    )


def _matches(secret: str, text: str, signature: str) -> bool:
    expected = b64encode(hmac.digest(secret.encode(), wire_bytes(text), "sha1")).decode()
    return signature.isascii() and hmac.compare_digest(expected, signature)


def _deny(why: str) -> NoReturn:
    raise SigV4Error("AccessDenied", why)
