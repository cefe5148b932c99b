"""What others may do with an object for a while: URLs and forms with a signature in them."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from datetime import UTC, datetime
from typing import NamedTuple

from octad.client.calls.requests import SESSION_TOKEN_HEADER, path_of
from octad.client.calls.settings import Settings
from octad.client.errors import ConfigurationError
from octad.client.http.transport import Address
from octad.client.s3.http_dates import amz_date
from octad.client.s3.sigv4 import (
    ALGORITHM,
    presign_url,
    scope_of,
    signature_of,
    signing_key,
    uri_encode,
)
from octad.sharding.limits import PRESIGN_EXPIRY_S_MAX

_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class PresignedPost(NamedTuple):
    """A form: POST `fields` and then the `file` to `url`, as multipart/form-data."""

    url: str
    fields: dict[str, str]


def presigned_url(
    address: Address, settings: Settings, bucket: str, key: str, method: str, expires_s: int
) -> str:
    """Raises ConfigurationError."""
    _check_expiry(expires_s)
    if method not in _METHODS:
        raise ConfigurationError(
            f"{method!r} is not to be presigned", "name GET, HEAD, PUT, DELETE"
        )
    token = settings.session_token
    query = f"?X-Amz-Security-Token={uri_encode(token.encode())}" if token else ""
    return presign_url(
        address.url + path_of(bucket, key) + query,
        method=method,
        credentials=settings.credentials,
        region=settings.region,
        now=time.time(),
        expires_s=expires_s,
    )


def presigned_post(
    address: Address, settings: Settings, bucket: str, key: str, bytes_max: int, expires_s: int
) -> PresignedPost:
    """Raises ConfigurationError."""
    _check_expiry(expires_s)
    now = int(time.time())
    timestamp = amz_date(now)
    scope = scope_of(timestamp[:8], settings.region)
    fields = {
        "key": key,
        "x-amz-algorithm": ALGORITHM,
        "x-amz-credential": f"{settings.credentials.access_key}/{scope}",
        "x-amz-date": timestamp,
    }
    if settings.session_token:
        fields[SESSION_TOKEN_HEADER] = settings.session_token
    stem, named_by_file, rest = key.partition("${filename}")
    if rest:
        raise ConfigurationError(f"{key!r} goes on behind ${{filename}}", "end with it")
    conditions: list[object] = [
        {"bucket": bucket},
        ["starts-with", "$key", stem] if named_by_file else {"key": key},
        ["content-length-range", 0, bytes_max],
        *({name: value} for name, value in fields.items() if name != "key"),
    ]
    expires = datetime.fromtimestamp(now + expires_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    policy = json.dumps({"expiration": expires, "conditions": conditions})
    fields["policy"] = b64encode(policy.encode()).decode()
    key_of_day = signing_key(settings.credentials.secret_key, timestamp[:8], settings.region)
    fields["x-amz-signature"] = signature_of(key_of_day, fields["policy"])
    return PresignedPost(address.url + path_of(bucket, ""), fields)


def _check_expiry(expires_s: int) -> None:
    if not 1 <= expires_s <= PRESIGN_EXPIRY_S_MAX:
        raise ConfigurationError(
            f"{expires_s} s is not a time that a signature may be good for",
            f"name 1 to {PRESIGN_EXPIRY_S_MAX} s (a week)",
        )
