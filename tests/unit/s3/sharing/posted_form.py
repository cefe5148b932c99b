"""Forms as browsers send them, with policies that boto3 signs."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from octad.client.s3.http_dates import amz_date
from octad.client.s3.sigv4 import (
    ALGORITHM,
    Credentials,
    scope_of,
    signature_of,
    signing_key,
)

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def multipart(
    fields: Mapping[str, str], file: bytes | None, filename: str = "photo.jpg", after: bytes = b""
) -> bytes:
    """The body of a form; `after` comes between the file's boundary and the last."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if file is not None:
        parts.append(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{filename}"\r\nContent-Type: image/jpeg\r\n\r\n'.encode()
        )
        parts.append(file + b"\r\n")
    return b"".join([*parts, after, f"--{BOUNDARY}--\r\n".encode()])


def signed_fields(
    bucket: str,
    fields: Mapping[str, str],
    credentials: Credentials,
    region: str,
    *,
    conditions: Sequence[Any] | None = None,
    more: Sequence[Any] = (),
    expires_s: float = 60,
    now: datetime | None = None,
) -> dict[str, str]:
    """`fields` with a policy that allows exactly them, and `more`; or with `conditions` alone."""
    now = now or datetime.now(UTC)
    timestamp = amz_date(int(now.timestamp()))
    scope = scope_of(timestamp[:8], region)
    added = {
        "x-amz-algorithm": ALGORITHM,
        "x-amz-credential": f"{credentials.access_key}/{scope}",
        "x-amz-date": timestamp,
    }
    everything = {**fields, **added}
    if conditions is None:
        conditions = [{name: value} for name, value in fields.items()]
    policy = {
        "expiration": (now + timedelta(seconds=expires_s)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "conditions": [{"bucket": bucket}, *({n: v} for n, v in added.items()), *conditions, *more],
    }
    encoded = b64encode(json.dumps(policy).encode()).decode()
    key = signing_key(credentials.secret_key, timestamp[:8], region)
    return {**everything, "policy": encoded, "x-amz-signature": signature_of(key, encoded)}
