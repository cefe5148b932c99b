"""Turns the refusals of guards and of replicas into the store's errors."""

from __future__ import annotations

from octad.storage_node.journal.journal_errors import JournalFull, SegmentNotReady
from octad.storage_node.replication.guards import RefusalCode
from octad.storage_node.replication.replica_actions import AlreadyRefused
from octad.storage_node.shards.object_store import (
    DiskFull,
    InvalidPart,
    InvalidWriteOffset,
    NoSuchKey,
    NoSuchUpload,
    NotServed,
    OffsetOutOfRange,
    OutcomeForgotten,
    PinExists,
    Pinned,
    PreconditionFailed,
    StoreError,
    TooManyAppends,
    TooManyAtPartition,
    UploadOvertaken,
)

_KINDS: dict[int, type[StoreError]] = {
    RefusalCode.NO_SUCH_UPLOAD: NoSuchUpload,
    RefusalCode.INVALID_PART: InvalidPart,
    RefusalCode.NO_SUCH_KEY: NoSuchKey,
    RefusalCode.OVERTAKEN: UploadOvertaken,
    RefusalCode.WRITE_OFFSET: InvalidWriteOffset,
    RefusalCode.TOO_MANY_APPENDS: TooManyAppends,
    RefusalCode.LOG_OFFSET: OffsetOutOfRange,
    RefusalCode.TOO_MANY_AT_PARTITION: TooManyAtPartition,
    RefusalCode.PINNED: Pinned,
    RefusalCode.PIN_EXISTS: PinExists,
}
_CONDITIONS: dict[int, str] = {
    RefusalCode.IF_MATCH: "If-Match",
    RefusalCode.IF_NONE_MATCH: "If-None-Match",
    RefusalCode.IF_VERSION: "x-octad-if-version",
    RefusalCode.IF_SIZE: "x-amz-if-match-size",
    RefusalCode.IF_MODIFIED: "x-amz-if-match-last-modified-time",
}


def store_error(code: int, text: str = "it was refused before") -> StoreError:
    """For a `RefusalCode`, or for one that a newer octad knows."""
    condition = _CONDITIONS.get(code)
    if condition is not None:
        return PreconditionFailed(condition)
    kind = _KINDS.get(code)
    return OutcomeForgotten(f"it was refused before, code {code}") if kind is None else kind(text)


def error_of_order(error: Exception) -> StoreError:
    """For what a replica, or the journal, has refused at once: nothing has happened."""
    if isinstance(error, AlreadyRefused):
        return store_error(error.code)
    if isinstance(error, JournalFull) and not isinstance(error, SegmentNotReady):
        return DiskFull(str(error))
    return NotServed(str(error))
