"""AWS Signature Version 4 for S3: the canonical form, the keys, and how a client signs.

    canonical request   method, path, query, signed headers and payload hash, each spelt in one way
    scope               date/region/s3/aws4_request
    string to sign      algorithm, timestamp, scope, hash of the canonical request
    signing key         the secret, narrowed by each part of the scope (derived once a day)
    signature           HMAC of the string to sign under the signing key

S3 encodes a path once and never normalises it: `//`, `.` and `..` are parts of keys. Text made of
bytes that are not UTF-8 carries them as surrogate escapes, the way HTTP servers hand them on.

Verifying is in `sigv4_verify.py`. Time comes in as an argument.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from octad.client.s3.http_dates import amz_date
from octad.sharding.limits import PRESIGN_EXPIRY_S_MAX

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICE: Final = "s3"
TERMINATOR: Final = "aws4_request"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()

_SIGNING_KEYS_MAX: Final = 1024  # Users at a time, times one or two days.
_SPACES: Final = re.compile("[ \t]+")


class PayloadMode(Enum):
    """What `x-amz-content-sha256` says of the body: how it is framed and what vouches for it."""

    SIGNED = "a SHA-256 in hex"
    UNSIGNED = "UNSIGNED-PAYLOAD"
    STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


class Credentials(NamedTuple):
    """A client's access key and its secret."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Credentials(access_key={self.access_key!r})"


class SignatureSeed(NamedTuple):
    """A request's signature and what it was made with: where the chain of its chunks begins."""

    signature: str
    signing_key: bytes
    scope: str
    timestamp: str

    def __repr__(self) -> str:
        return f"SignatureSeed(scope={self.scope!r}, timestamp={self.timestamp!r})"


def uri_encode(raw: bytes) -> str:
    """Percent-encoded but for letters, digits and `-._~`: a name or value of a query."""
    return quote(raw, safe="")


def uri_encode_path(raw: bytes) -> str:
    """`uri_encode` that keeps slashes: a path with a key in it."""
    return quote(raw, safe="/")


def wire_bytes(text: str) -> bytes:
    """The bytes that `text` had on the wire."""
    return text.encode("utf-8", "surrogateescape")


def canonical_path(raw_path: str) -> str:
    """`raw_path` decoded and then encoded once, so that every spelling of a path becomes one."""
    return uri_encode_path(unquote_to_bytes(wire_bytes(raw_path))) or "/"


def canonical_query(pairs: Sequence[tuple[str, str]]) -> str:
    """Encoded (name, value) pairs in canonical order; a name without a value keeps its `=`."""
    return "&".join([f"{name}={value}" for name, value in sorted(pairs)])


def canonical_request(
    method: str,
    path: str,
    query: str,
    names: Sequence[str],
    headers: Mapping[str, str],
    content_sha256: str,
) -> str:
    """`path` and `query` in canonical form; `names`: the signed headers, lower case and sorted."""
    lines = "".join([f"{name}:{headers.get(name, '')}\n" for name in names])
    # Tidy values are the rule: four searches of the text cost less than one look at each value.
    if "  " in lines or ": " in lines or " \n" in lines or "\t" in lines:
        lines = "".join(f"{name}:{_tidy(headers.get(name, ''))}\n" for name in names)
    return f"{method}\n{path}\n{query}\n{lines}\n{';'.join(names)}\n{content_sha256}"


def string_to_sign(timestamp: str, scope: str, request: str) -> str:
    """`request` is the canonical one."""
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(wire_bytes(request)).hexdigest()}"


def scope_of(date: str, region: str) -> str:
    """The scope of a signature: what its key is good for."""
    return f"{date}/{region}/{SERVICE}/{TERMINATOR}"


@lru_cache(_SIGNING_KEYS_MAX)
def signing_key(secret_key: str, date: str, region: str) -> bytes:
    """The key of one user, day and region. Ask only for secrets that exist: it is remembered."""
    key = hmac.digest(b"AWS4" + secret_key.encode(), date.encode(), "sha256")
    for part in (region, SERVICE, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature_of(key: bytes, text: str) -> str:
    """The signature of a string to sign, in hex."""
    mac = _begun(key).copy()
    mac.update(text.encode())
    return mac.hexdigest()


@lru_cache(_SIGNING_KEYS_MAX)
def _begun(key: bytes) -> hmac.HMAC:
    """To copy one costs less than to begin it."""
    return hmac.new(key, digestmod="sha256")


def sign_request(
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    credentials: Credentials,
    region: str,
    now: float,
    content_sha256: str = UNSIGNED_PAYLOAD,
) -> tuple[dict[str, str], SignatureSeed]:
    """The headers to add to a request, and the seed of its chunks' signatures.

    `path` and `query` are encoded, as they will be sent; `headers` (lower-case names) holds `host`
    and everything else that is to be signed.
    """
    timestamp = amz_date(int(now))
    scope = scope_of(timestamp[:8], region)
    added = {"x-amz-date": timestamp, "x-amz-content-sha256": content_sha256}
    signed = {**headers, **added}
    assert "host" in signed, "a signature that is good at any host is none"
    names = sorted(signed)
    request = canonical_request(
        method, path, canonical_query(split_query(query)), names, signed, content_sha256
    )
    key = signing_key(credentials.secret_key, timestamp[:8], region)
    signature = signature_of(key, string_to_sign(timestamp, scope, request))
    added["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return added, SignatureSeed(signature, key, scope, timestamp)


def presign_query(
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    credentials: Credentials,
    region: str,
    now: float,
    expires_s: int,
) -> str:
    """`query`, presigned. The request must carry exactly these `headers`."""
    assert 1 <= expires_s <= PRESIGN_EXPIRY_S_MAX
    assert "host" in headers, "a signature that is good at any host is none"
    timestamp = amz_date(int(now))
    scope = scope_of(timestamp[:8], region)
    names = sorted(headers)
    pairs = [
        *split_query(query),
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", uri_encode(f"{credentials.access_key}/{scope}".encode())),
        ("X-Amz-Date", timestamp),
        ("X-Amz-Expires", str(expires_s)),
        ("X-Amz-SignedHeaders", uri_encode(";".join(names).encode())),
    ]
    content_sha256 = headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
    canonical = canonical_query(pairs)
    request = canonical_request(method, path, canonical, names, headers, content_sha256)
    key = signing_key(credentials.secret_key, timestamp[:8], region)
    signature = signature_of(key, string_to_sign(timestamp, scope, request))
    return f"{canonical}&X-Amz-Signature={signature}"


def presign_url(
    url: str,
    *,
    method: str,
    credentials: Credentials,
    region: str,
    now: float,
    expires_s: int,
    headers: Mapping[str, str] | None = None,
) -> str:
    """`url` (encoded, with scheme and host) made valid for anyone until it expires."""
    scheme, _, rest = url.partition("://")
    before_query, _, query = rest.partition("?")
    host, slash, path = before_query.partition("/")
    presigned = presign_query(
        method=method,
        path=slash + path or "/",
        query=query,
        headers={**(headers or {}), "host": host},
        credentials=credentials,
        region=region,
        now=now,
        expires_s=expires_s,
    )
    return f"{scheme}://{host}{slash}{path}?{presigned}"


def split_query(raw_query: str) -> list[tuple[str, str]]:
    """The (name, value) pairs of a query as they are written, neither decoded nor sorted."""
    if not raw_query:
        return []
    pairs = [pair.partition("=") for pair in raw_query.split("&")]
    return [(name, value) for name, _, value in pairs]


def _tidy(value: str) -> str:
    return _SPACES.sub(" ", value).strip(" ")
