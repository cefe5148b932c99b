"""What the log's HTTP answers to whoever cannot have what he asks for: always one JSON document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec

from octad.client.log.log_documents import JSON_TYPE, RefusalDocument
from octad.client.s3.errors import S3Error
from octad.storage_node.log.partition_tail import Refusal
from octad.storage_node.log.record_batch import BadBatch, BatchTooLarge
from octad.storage_node.log.topic_log import AppendRefused, AppendUnknown
from octad.storage_node.log.topic_settings import BadSetting
from octad.storage_node.shards.object_store import (
    BucketAlreadyExists,
    Damaged,
    DiskFull,
    NoSuchBucket,
    NoSuchPool,
    NoSuchTopic,
    OffsetOutOfRange,
    OutcomeForgotten,
    PinExists,
    Pinned,
    StoreError,
    TooManyAtPartition,
    Unavailable,
)

_NOT_NOW: Final = HTTPStatus.SERVICE_UNAVAILABLE
_STATUSES: Final = {
    Refusal.OFFSET_TAKEN: HTTPStatus.PRECONDITION_FAILED,
    Refusal.OFFSET_AHEAD: HTTPStatus.CONFLICT,  # It may come true.
    Refusal.TOO_MANY_PRODUCERS: HTTPStatus.TOO_MANY_REQUESTS,
}
_STORE_ERRORS: Final[dict[type[StoreError], tuple[str, HTTPStatus]]] = {
    NoSuchTopic: ("no-such-topic", HTTPStatus.NOT_FOUND),
    NoSuchBucket: ("no-such-topic", HTTPStatus.NOT_FOUND),
    NoSuchPool: ("no-such-pool", HTTPStatus.BAD_REQUEST),
    OffsetOutOfRange: ("offset-out-of-range", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
    TooManyAtPartition: ("too-many-at-partition", HTTPStatus.TOO_MANY_REQUESTS),
    Pinned: ("pinned", HTTPStatus.CONFLICT),
    PinExists: ("pin-exists", HTTPStatus.CONFLICT),
    DiskFull: ("disk-full", HTTPStatus.INSUFFICIENT_STORAGE),
    AppendUnknown: ("outcome-unknown", _NOT_NOW),
    OutcomeForgotten: ("outcome-unknown", _NOT_NOW),
    Damaged: ("damaged", HTTPStatus.INTERNAL_SERVER_ERROR),
}


class Refused(Exception):
    """The answer to a request: a status and a document."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        reason: str,
        next_offset: int | None = None,
        token: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {reason}")
        self.status = status
        self.document = RefusalDocument(code, reason, next_offset, token)

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(self.document)

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Content-Type": JSON_TYPE}
        if self.status is _NOT_NOW and self.document.code == "unavailable":
            headers["Retry-After"] = "1"
        return headers


def refused(error: Exception) -> Refused:
    """The answer to a request that ended in `error`; raises it if it is a bug."""
    match error:
        case Refused():
            return error
        case BatchTooLarge():
            return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.code, str(error))
        case BadBatch():
            return Refused(HTTPStatus.BAD_REQUEST, error.code, str(error))
        case BadSetting():
            return Refused(HTTPStatus.BAD_REQUEST, "bad-setting", str(error))
        case AppendRefused(refusal=refusal):
            status = _STATUSES.get(refusal, HTTPStatus.CONFLICT)
            token = error.fence if refusal is Refusal.FENCED_JOB else None
            return Refused(status, refusal.value, str(error), error.next, token)
        case S3Error():
            return Refused(HTTPStatus(error.http_status), error.code, error.message)
        case BucketAlreadyExists(owner=owner):
            return Refused(HTTPStatus.CONFLICT, "topic-exists", f"{owner} has a topic of that name")
        case StoreError():
            found = _STORE_ERRORS.get(type(error))
            if found is not None:
                code, status = found
                return Refused(status, code, str(error))
            if isinstance(error, Unavailable):
                return Refused(_NOT_NOW, "unavailable", f"{error}; try again")
    raise error
