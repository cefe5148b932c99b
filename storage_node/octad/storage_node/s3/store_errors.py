"""What the store's refusals are in S3's words.

A full disk is 507, which no common client retries by itself: room does not appear within seconds,
and each retry would send the whole body again. An unknown outcome is 503 with Retry-After, which
all of them retry.
"""

from __future__ import annotations

from octad.client.core.s3_errors import S3Error
from octad.storage_node.core.object_store import (
    BucketAlreadyExists,
    BucketNotEmpty,
    DiskFull,
    InvalidPart,
    NoSuchBucket,
    NoSuchUpload,
    PartTooSmall,
    StoreError,
    Unavailable,
)

_CODES: dict[type[StoreError], str] = {
    NoSuchBucket: "NoSuchBucket",
    BucketAlreadyExists: "BucketAlreadyExists",
    BucketNotEmpty: "BucketNotEmpty",
    NoSuchUpload: "NoSuchUpload",
    InvalidPart: "InvalidPart",
    PartTooSmall: "EntityTooSmall",
    Unavailable: "ServiceUnavailable",
    DiskFull: "InsufficientStorage",
}


def s3_error_of(error: StoreError) -> S3Error:
    """The refusal for `error`: InternalError for damaged bytes and whatever has no own code."""
    return S3Error(_CODES.get(type(error), "InternalError"))
