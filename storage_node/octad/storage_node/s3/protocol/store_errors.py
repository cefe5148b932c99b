"""What the store's refusals are in S3's words.

A full disk is 507, which no common client retries by itself: room does not appear within seconds,
and each retry would send the whole body again. An unknown outcome is 503 with Retry-After, which
all of them retry; by then the request has been retried here for as long as that makes sense.
"""

from __future__ import annotations

from octad.client.s3.errors import S3Error
from octad.storage_node.shards.object_store import (
    BucketAlreadyExists,
    BucketNotEmpty,
    DiskFull,
    InvalidPart,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NotServed,
    OutcomeForgotten,
    PartTooSmall,
    StoreError,
    Unavailable,
)

_CODES: dict[type[StoreError], str] = {
    NoSuchBucket: "NoSuchBucket",
    BucketAlreadyExists: "BucketAlreadyExists",
    BucketNotEmpty: "BucketNotEmpty",
    NoSuchKey: "NoSuchKey",
    NoSuchUpload: "NoSuchUpload",
    InvalidPart: "InvalidPart",
    PartTooSmall: "EntityTooSmall",
    Unavailable: "ServiceUnavailable",
    NotServed: "ServiceUnavailable",
    DiskFull: "InsufficientStorage",
}

_FORGOTTEN = (
    "Whether an earlier attempt of this request took effect is not known any more, so this one was "
    "not carried out. Read the object, then decide."
)


def s3_error_of(error: StoreError, upload_id: str = "") -> S3Error:
    """The refusal for `error`: InternalError for damaged bytes and whatever has no own code.

    `upload_id` is the one that the request names.
    """
    if isinstance(error, OutcomeForgotten):
        return S3Error("ServiceUnavailable", _FORGOTTEN)
    is_of_upload = upload_id and isinstance(error, NoSuchUpload | InvalidPart)
    fields = {"UploadId": upload_id} if is_of_upload else {}
    return S3Error(_CODES.get(type(error), "InternalError"), fields=fields)
