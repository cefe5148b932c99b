"""Who sent this request? SigV4 as S3 verifies it, in headers and in presigned URLs; default deny.

A request that its signature does not prove raises a `SigV4Error`; there is no other way to an
`Authenticated`. Nothing here remembers a verified request: only the reading of an `Authorization`
header and the day's keys are cached, and both are functions of nothing else.

A client signs the path and query either in canonical form or, where that differs, as it sends them
(botocore and curl do). Both are tried. Either string decodes to the very path and parameters that
were sent, so neither lets a signature vouch for anything but what its maker wrote.

What the caller still owes: the body must match `payload_mode` and `content_sha256` before anything
is committed (`aws_chunked.py`), and the key must be decoded once from the same raw path.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from typing import Final, NoReturn
from urllib.parse import unquote_to_bytes

import msgspec

from octad.client.s3.http_dates import amz_date, iso_date, parse_amz_date, parse_http_date
from octad.client.s3.sigv4 import (
    ALGORITHM,
    EMPTY_SHA256,
    SERVICE,
    TERMINATOR,
    UNSIGNED_PAYLOAD,
    PayloadMode,
    SignatureSeed,
    canonical_path,
    canonical_query,
    canonical_request,
    signature_of,
    signing_key,
    split_query,
    string_to_sign,
    uri_encode,
    wire_bytes,
)
from octad.client.s3.sigv4_claim import (
    QUERY_MALFORMED,
    Claim,
    SigV4Error,
    malformed,
    parse_credential,
    read_authorization,
)
from octad.sharding.limits import PRESIGN_EXPIRY_S_MAX
from octad.sharding.map.pool_names import POOL_NAME_PREFIX

CLOCK_SKEW_S_MAX: Final = 15 * 60

SecretOf = Callable[[str], str | None]
"""The secret of an access key; None where there is none or it is disabled: one answer for both."""

_HEX_SHA256: Final = re.compile("[0-9a-fA-F]{64}")
_STREAMING_MODES: Final = {
    mode.value: mode for mode in PayloadMode if mode is not PayloadMode.SIGNED
}
_QUERY_AUTHENTICATION: Final = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)
_CONTENT_SHA256: Final = "x-amz-content-sha256"
_SIGV2_KEY: Final = "AWSAccessKeyId"


class Authenticated(msgspec.Struct, frozen=True):
    """A request whose signature holds. Its body is still to be verified."""

    access_key: str
    payload_mode: PayloadMode
    content_sha256: str  # As sent: the body's SHA-256 in hex where the mode is SIGNED.
    seed: SignatureSeed
    presigned: bool
    sigv2: bool = False  # A URL of the old version: see `sigv2_url.py`.


class _Request(msgspec.Struct, frozen=True):
    """The request exactly as received."""

    method: str
    raw_path: str
    pairs: list[tuple[str, str]]  # The query without X-Amz-Signature, not decoded.
    headers: Mapping[str, str]


def verify_request(
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    *,
    now: float,
    region: str,
    secret_of: SecretOf,
) -> Authenticated:
    """Who signed this request; raises SigV4Error.

    `raw_path` and `raw_query` are exactly as on the wire; `headers` has lower-case names and the
    values of repeated ones joined with ",".
    """
    pairs = split_query(raw_query)
    authorization = headers.get("authorization")
    presigned = bool(pairs) and _is_presigned(pairs)
    if authorization is None:
        if not presigned:
            _refuse_anonymous(pairs)
        return _verify_presigned(
            _Request(method, raw_path, pairs, headers), now=now, region=region, secret_of=secret_of
        )
    if presigned or (pairs and any(name == _SIGV2_KEY for name, _ in pairs)):
        refuse_two_mechanisms()
    return _verify_header(
        _Request(method, raw_path, pairs, headers),
        authorization,
        now=now,
        region=region,
        secret_of=secret_of,
    )


def refuse_two_mechanisms() -> NoReturn:
    """Refuse two authentication mechanisms in one request."""
    raise SigV4Error(
        "InvalidArgument",
        "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature "
        "query string parameter or the Authorization header should be specified",
        fields={"ArgumentName": "Authorization"},
    )


def payload_mode_of(content_sha256: str) -> PayloadMode:
    """Parses a value of `x-amz-content-sha256`; raises SigV4Error."""
    if len(content_sha256) == 64 and _HEX_SHA256.fullmatch(content_sha256):
        return PayloadMode.SIGNED
    if (mode := _STREAMING_MODES.get(content_sha256)) is not None:
        return mode
    if content_sha256.startswith("STREAMING-AWS4-ECDSA-"):
        raise SigV4Error("NotImplemented", f"{content_sha256} is not implemented.")
    raise SigV4Error(
        "InvalidArgument",
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, "
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-UNSIGNED-PAYLOAD-TRAILER or a valid "
        "sha256 value.",
        fields={"ArgumentName": _CONTENT_SHA256, "ArgumentValue": content_sha256},
    )


def _verify_header(
    request: _Request, authorization: str, *, now: float, region: str, secret_of: SecretOf
) -> Authenticated:
    claim, signature = read_authorization(authorization)
    headers = request.headers
    timestamp, second = _header_date(headers)
    _check_scope(claim, region, timestamp, presigned=False)
    if abs(now - second) > CLOCK_SKEW_S_MAX:
        raise SigV4Error(
            "RequestTimeTooSkewed",
            fields={
                "RequestTime": timestamp,
                "ServerTime": iso_date(int(now) * 1000),
                "MaxAllowedSkewMilliseconds": str(CLOCK_SKEW_S_MAX * 1000),
            },
        )
    content_sha256 = headers.get(_CONTENT_SHA256)
    if content_sha256 is None:
        _refuse_untold_body(request, claim, timestamp, signature, secret_of)
    return _check_signature(
        request, claim, timestamp, content_sha256, signature, secret_of, presigned=False
    )


def _refuse_untold_body(
    request: _Request, claim: Claim, timestamp: str, signature: str, secret_of: SecretOf
) -> NoReturn:
    """Refuse a header's signature of a body that no one described: S3 requires that.

    What such a signature is over, only its maker knows. One over an unsigned or an empty body is
    known to be right, and told what it lacks; any other counts as forged.
    """
    missing = f"Missing required header for this request: {_CONTENT_SHA256}"
    for content_sha256 in (UNSIGNED_PAYLOAD, EMPTY_SHA256):
        headers = dict(request.headers)
        if _CONTENT_SHA256 in claim.names_set:  # It got lost on the way.
            headers[_CONTENT_SHA256] = content_sha256
        told = _Request(request.method, request.raw_path, request.pairs, headers)
        try:
            _check_signature(
                told, claim, timestamp, content_sha256, signature, secret_of, presigned=False
            )
        except SigV4Error as error:
            if error.code != "SignatureDoesNotMatch":
                raise
        else:
            raise SigV4Error("InvalidRequest", missing)
    raise SigV4Error("SignatureDoesNotMatch", missing, fields={"AWSAccessKeyId": claim.access_key})


def _verify_presigned(
    request: _Request, *, now: float, region: str, secret_of: SecretOf
) -> Authenticated:
    given = _query_authentication(request.pairs)
    claim = parse_credential(given["X-Amz-Credential"], given["X-Amz-SignedHeaders"], True)
    timestamp = given["X-Amz-Date"]
    second = parse_amz_date(timestamp)
    if second is None:
        raise SigV4Error(
            QUERY_MALFORMED,
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
        )
    _check_scope(claim, region, timestamp, presigned=True)
    _check_expiry(second, _expiry_s(given["X-Amz-Expires"]), now)
    content_sha256 = request.headers.get(_CONTENT_SHA256)
    if content_sha256 is None:
        # Some signers put this header, too, into the query.
        content_sha256 = next(
            (query_text(value) for name, value in request.pairs if name == "X-Amz-Content-Sha256"),
            UNSIGNED_PAYLOAD,
        )
    signed = [(name, value) for name, value in request.pairs if name != "X-Amz-Signature"]
    return _check_signature(
        _Request(request.method, request.raw_path, signed, request.headers),
        claim,
        timestamp,
        content_sha256,
        given["X-Amz-Signature"],
        secret_of,
        presigned=True,
    )


def _check_signature(
    request: _Request,
    claim: Claim,
    timestamp: str,
    content_sha256: str,
    signature: str,
    secret_of: SecretOf,
    *,
    presigned: bool,
) -> Authenticated:
    _check_all_signed(request.headers, claim)
    secret = secret_of(claim.access_key)
    if secret is None:
        raise SigV4Error("InvalidAccessKeyId", fields={"AWSAccessKeyId": claim.access_key})
    key = signing_key(secret, claim.date, claim.region)
    as_sent = _canonical(
        request, claim, request.raw_path, canonical_query(request.pairs), content_sha256
    )
    if not _matches(key, timestamp, claim, as_sent, signature):
        encoded_once = _canonical(
            request,
            claim,
            canonical_path(request.raw_path),
            canonical_query(_encoded_once(request.pairs)),
            content_sha256,
        )
        if not _matches(key, timestamp, claim, encoded_once, signature):
            _refuse_signature(claim, timestamp, encoded_once, signature)
    # Only now: what is forged is told nothing else.
    mode = payload_mode_of(content_sha256)
    seed = SignatureSeed(signature, key, claim.scope, timestamp)
    return Authenticated(claim.access_key, mode, content_sha256, seed, presigned)


def _canonical(request: _Request, claim: Claim, path: str, query: str, content_sha256: str) -> str:
    text = canonical_request(
        request.method, path, query, claim.names, request.headers, content_sha256
    )
    # A line break inside a value would let one signature be read as another request's.
    if text.count("\n") != len(claim.names) + 5:
        raise SigV4Error("AccessDenied", "A signed part of the request contains a line break")
    return text


def _matches(key: bytes, timestamp: str, claim: Claim, canonical: str, signature: str) -> bool:
    expected = signature_of(key, string_to_sign(timestamp, claim.scope, canonical))
    return signature.isascii() and hmac.compare_digest(expected, signature)


def _encoded_once(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (uri_encode(_decoded_bytes(name)), uri_encode(_decoded_bytes(value)))
        for name, value in pairs
        if name or value
    ]


def _decoded_bytes(text: str) -> bytes:
    return unquote_to_bytes(wire_bytes(text.replace("+", " ")))


def query_text(text: str) -> str:
    """A name or value of a query, as it was before it was encoded."""
    return _decoded_bytes(text).decode("utf-8", "replace")


def _check_all_signed(headers: Mapping[str, str], claim: Claim) -> None:
    """An `x-amz-*` header that no one signed could have been added on the way."""
    signed = claim.names_set
    missing = [name for name in headers.keys() - signed if name.startswith("x-amz-")]
    if "host" not in signed:
        missing.append("host")
    if missing:
        raise SigV4Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            fields={"HeadersNotSigned": ", ".join(sorted(missing))},
        )


def _check_scope(claim: Claim, region: str, timestamp: str, *, presigned: bool) -> None:
    if claim.terminator != TERMINATOR:
        what = f'incorrect terminal "{claim.terminator}". This endpoint uses "{TERMINATOR}".'
    elif claim.service != SERVICE:
        what = f'incorrect service "{claim.service}". This endpoint belongs to "{SERVICE}".'
    elif claim.region != region and not claim.region.startswith(POOL_NAME_PREFIX):
        raise malformed(
            f"the region '{claim.region}' is wrong; expecting '{region}'", presigned, region
        )
    elif claim.date != timestamp[:8]:
        what = (
            f'Invalid credential date "{claim.date}". This date is not the same as X-Amz-Date: '
            f'"{timestamp[:8]}".'
        )
    else:
        return
    raise malformed(what, presigned)


def _header_date(headers: Mapping[str, str]) -> tuple[str, int]:
    """The timestamp that was signed: `x-amz-date`, or `Date` where that is missing."""
    timestamp = headers.get("x-amz-date")
    if timestamp is not None:
        second = parse_amz_date(timestamp)
    else:
        date = headers.get("date", "")
        second = parse_amz_date(date)
        if second is None:
            second = parse_http_date(date)
        timestamp = "" if second is None else amz_date(second)
    if second is None:
        raise SigV4Error(
            "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        )
    return timestamp, second


def _is_presigned(pairs: list[tuple[str, str]]) -> bool:
    return any(name in _QUERY_AUTHENTICATION for name, _ in pairs)


def _refuse_anonymous(pairs: list[tuple[str, str]]) -> NoReturn:
    if any(name == _SIGV2_KEY for name, _ in pairs):
        raise SigV4Error(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use "
            f"{ALGORITHM}.",
        )
    raise SigV4Error("AccessDenied")


def _query_authentication(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The six parameters of a presigned URL, decoded; each exactly once."""
    given = [(name, query_text(value)) for name, value in pairs if name in _QUERY_AUTHENTICATION]
    values = dict(given)
    if len(given) != len(_QUERY_AUTHENTICATION) or not all(
        values.get(name) for name in _QUERY_AUTHENTICATION
    ):
        raise SigV4Error(
            QUERY_MALFORMED,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
            "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        )
    if values["X-Amz-Algorithm"] != ALGORITHM:
        raise SigV4Error(QUERY_MALFORMED, f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    return values


def _expiry_s(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        raise SigV4Error(QUERY_MALFORMED, "X-Amz-Expires should be a number")
    if text != digits:
        raise SigV4Error(QUERY_MALFORMED, "X-Amz-Expires must be non-negative")
    # The length first: converting a very long number takes very long.
    if len(digits) > len(str(PRESIGN_EXPIRY_S_MAX)) or int(digits) > PRESIGN_EXPIRY_S_MAX:
        raise SigV4Error(
            QUERY_MALFORMED,
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires "
            f"must be less than {PRESIGN_EXPIRY_S_MAX} seconds",
        )
    return int(digits)


def _check_expiry(second: int, expires_s: int, now: float) -> None:
    if now < second - CLOCK_SKEW_S_MAX:
        raise SigV4Error("AccessDenied", "Request is not yet valid")
    if now > second + expires_s:
        raise SigV4Error(
            "AccessDenied",
            "Request has expired",
            fields={
                "X-Amz-Expires": str(expires_s),
                "Expires": iso_date((second + expires_s) * 1000),
                "ServerTime": iso_date(int(now) * 1000),
            },
        )


def _refuse_signature(claim: Claim, timestamp: str, canonical: str, signature: str) -> NoReturn:
    raise SigV4Error(
        "SignatureDoesNotMatch",
        fields={
            "AWSAccessKeyId": claim.access_key,
            "StringToSign": string_to_sign(timestamp, claim.scope, canonical),
            "SignatureProvided": signature,
            "CanonicalRequest": canonical,
        },
    )
