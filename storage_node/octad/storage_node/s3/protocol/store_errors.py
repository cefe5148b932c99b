"""Translates the store's errors to S3's.

A full disk is 507, which no common client retries by itself: room does not appear within seconds,
and each retry would send the whole body again. An unknown outcome is 503 with Retry-After, which
all of them retry; by then the request has been retried here for as long as that makes sense.
"""

from __future__ import annotations

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.conditions import precondition_failed
from octad.storage_node.shards.object_store import (
    BucketAlreadyExists,
    BucketNotEmpty,
    ConditionsNotKnown,
    DiskFull,
    InvalidPart,
    InvalidWriteOffset,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NotServed,
    OtherForm,
    OutcomeForgotten,
    PartTooSmall,
    PreconditionFailed,
    StoreError,
    TooManyAppends,
    Unavailable,
    UploadOvertaken,
)

_CODES: dict[type[StoreError], str] = {
    NoSuchBucket: "NoSuchBucket",
    BucketAlreadyExists: "BucketAlreadyExists",
    BucketNotEmpty: "BucketNotEmpty",
    NoSuchUpload: "NoSuchUpload",
    InvalidPart: "InvalidPart",
    NoSuchKey: "NoSuchKey",
    UploadOvertaken: "ConditionalRequestConflict",
    InvalidWriteOffset: "InvalidWriteOffset",
    TooManyAppends: "TooManyParts",
    OtherForm: "ServiceUnavailable",
    PartTooSmall: "EntityTooSmall",
    Unavailable: "ServiceUnavailable",
    NotServed: "ServiceUnavailable",
    DiskFull: "InsufficientStorage",
}

_FORGOTTEN = (
    "Whether an earlier attempt of this request took effect is not known any more, so this one was "
    "not carried out. Read the object, then decide."
)


_NOT_KNOWN = (
    "A header you provided implies functionality that is not implemented: conditions on writes, "
    "before every node of the cluster is upgraded"
)


def s3_error_of(error: StoreError, upload_id: str = "", key: str = "") -> S3Error:
    """The refusal for `error`: InternalError for damaged bytes and errors without an own code.

    `upload_id` and `key` are those that the request names.
    """
    if isinstance(error, OutcomeForgotten):
        return S3Error("ServiceUnavailable", _FORGOTTEN)
    if isinstance(error, PreconditionFailed):
        return precondition_failed(str(error))
    if isinstance(error, ConditionsNotKnown):
        return S3Error("NotImplemented", _NOT_KNOWN)
    is_of_upload = upload_id and isinstance(error, NoSuchUpload | InvalidPart)
    fields = {"UploadId": upload_id} if is_of_upload else {}
    if key and isinstance(error, NoSuchKey):
        fields = {"Key": key}
    return S3Error(_CODES.get(type(error), "InternalError"), fields=fields)
