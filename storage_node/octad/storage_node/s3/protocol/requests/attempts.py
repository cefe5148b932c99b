"""An SDK's own retries: which requests are tries of one and the same operation.

The AWS SDKs send an id with every try of a call (`amz-sdk-invocation-id`) and count the tries
(`amz-sdk-request: attempt=2; max=5`, older ones `amz-sdk-retry: 1/0/495`), whichever node each
goes to. Tries of a write get one request id from it, so that the write takes effect once. Into the
id goes everything that says what is written, the bytes by their ETag and size: a try that would
write something else is another write.

The headers say how many tries there were, not when. The first of several is taken to have been made
`SDK_RETRY_AGE_S` ago: that is the longest for which it can have been on its way without the client
having waited for its answer all the while. A try that is not known to be the first is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from octad.sharding.limits import SDK_RETRY_AGE_S

INVOCATION = "amz-sdk-invocation-id"
REQUEST_ID_BYTES = 16
_ATTEMPT = "attempt="


def sdk_age_s(headers: Mapping[str, str]) -> float:
    """The possible age of this request's first attempt; 0: this is the first."""
    for part in headers.get("amz-sdk-request", "").split(";"):
        name_and_value = part.strip()
        if name_and_value.startswith(_ATTEMPT):
            return 0.0 if name_and_value == "attempt=1" else SDK_RETRY_AGE_S
    return 0.0 if headers.get("amz-sdk-retry", "").startswith("0/") else SDK_RETRY_AGE_S


def sdk_request_id(what: Iterable[str]) -> bytes:
    """The same for every try of the same write: `what` tells who writes what in which call."""
    digest = hashlib.blake2b(digest_size=REQUEST_ID_BYTES)
    for text in what:
        data = text.encode("utf-8", "surrogateescape")
        digest.update(len(data).to_bytes(4, "big") + data)  # So that no two lists read the same.
    return digest.digest()
