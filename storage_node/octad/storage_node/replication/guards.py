"""Guards: what a write asks of the rows it concerns, decided where the write is ordered.

A guard is a pure function of the rows as they are prepared. It returns the operation as it is to be
ordered, effects and no condition, or a refusal (rule R21).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TypeAlias

import msgspec

from octad.sharding.ids import BucketId
from octad.storage_node.index.index_format import (
    IndexedObject,
    decode_object,
    decode_ordered,
    decode_part,
    decode_part_key,
    object_key,
    parts_prefix,
    upload_key,
)
from octad.storage_node.index.rows import ExtrasChange, ObjectRow, PartRow
from octad.storage_node.operations.appends import APPENDS_MAX, AppendedPiece
from octad.storage_node.operations.conditions import ANY_ETAG, Condition, Version
from octad.storage_node.operations.index_changes import (
    AbortUpload,
    DeleteObject,
    Operation,
    PutObject,
    PutPart,
    complete_upload,
    parts_in_flight,
    put_object,
)
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.replica_state import ReadTicket


class RefusalCode(IntEnum):
    """Why a write was refused. A number is never used again for something else; up to 255."""

    NO_SUCH_UPLOAD = 1
    INVALID_PART = 2
    NO_SUCH_KEY = 3
    IF_MATCH = 4
    IF_NONE_MATCH = 5
    IF_VERSION = 6
    IF_SIZE = 7
    IF_MODIFIED = 8
    OVERTAKEN = 9
    WRITE_OFFSET = 10
    TOO_MANY_APPENDS = 11
    LOG_OFFSET = 12
    TOO_MANY_AT_PARTITION = 13
    PINNED = 14
    PIN_EXISTS = 15


class Refusal(msgspec.Struct, frozen=True):
    """What a guard answers to refuse a write."""

    code: int  # A `RefusalCode`, or one that a newer octad knows.
    text: str


class GuardRefuses(Exception):
    """What is prepared does not allow the write: the answer waits for that (rule R21)."""

    def __init__(self, refusal: Refusal, ticket: ReadTicket) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal
        self.ticket = ticket


Guard: TypeAlias = Callable[[PreparedRows], Operation | Refusal]


def part_of_open_upload(part: PutPart) -> Guard:
    """Takes the part only while its upload is open."""

    def decide(rows: PreparedRows) -> Operation | Refusal:
        return _is_closed(rows, part.bucket, part.key, part.upload) or part

    return decide


def unmet(condition: Condition, standing: IndexedObject | None) -> RefusalCode | None:
    """Which part of `condition` the object does not meet; None: it meets all of it."""
    if standing is None:
        if condition.or_absent or condition == Condition(none_match=condition.none_match):
            return None
        return RefusalCode.NO_SUCH_KEY
    row = standing.row
    if condition.match and not _names(condition.match, row.etag):
        return RefusalCode.IF_MATCH
    if _names(condition.none_match, row.etag):
        return RefusalCode.IF_NONE_MATCH
    if condition.version not in (None, (standing.epoch, standing.seq)):
        return RefusalCode.IF_VERSION
    if condition.size not in (None, row.size):
        return RefusalCode.IF_SIZE
    if condition.modified_s not in (None, row.modified_ms // 1000):
        return RefusalCode.IF_MODIFIED
    return None


def conditional(condition: Condition, operation: PutObject | DeleteObject) -> Guard:
    """Requires that the present object meets the condition."""

    def decide(rows: PreparedRows) -> Operation | Refusal:
        return _unmet(rows, operation.bucket, operation.key, condition) or operation

    return decide


def completion(
    bucket: BucketId,
    key: bytes,
    upload: bytes,
    row: ObjectRow,
    parts: Sequence[tuple[int, str]],
    condition: Condition | None = None,
) -> Guard:
    """Requires exactly these parts, by number and ETag; their bytes become the object.

    An empty list of parts is always refused, so a completion known to be wrong is refused for good.
    A conditional completion may not replace an object that is younger than the upload, because the
    client had not seen it, unless the condition names the object's version.
    """

    def decide(rows: PreparedRows) -> Operation | Refusal:
        closed = _is_closed(rows, bucket, key, upload)
        if closed is not None:
            return closed
        if not parts:
            return Refusal(RefusalCode.INVALID_PART, "no part")
        standing = _parts(rows, bucket, key, upload)
        chosen: list[PartRow] = []
        for number, etag in parts:
            part = standing.get(number)
            if part is None or part.etag != etag:
                return Refusal(RefusalCode.INVALID_PART, f"part {number}")
            chosen.append(part)
        if condition is not None:
            refusal = _unmet(rows, bucket, key, condition, upload)
            if refusal is not None:
                return refusal
        completed = msgspec.structs.replace(
            row,
            size=sum(part.size for part in chosen),
            extents=tuple(extent for part in chosen for extent in part.extents),
            part_sizes=tuple(part.size for part in chosen),
        )
        return complete_upload(bucket, key, upload, completed, tuple(standing))

    return decide


def abortion(bucket: BucketId, key: bytes, upload: bytes) -> Guard:
    """Requires that the upload is open; ends it with all of its parts."""

    def decide(rows: PreparedRows) -> Operation | Refusal:
        closed = _is_closed(rows, bucket, key, upload)
        if closed is not None:
            return closed
        return AbortUpload(bucket, key, upload, tuple(_parts(rows, bucket, key, upload)))

    return decide


def change_of_extras(bucket: BucketId, key: bytes, change: ExtrasChange) -> Guard:
    """Requires that the object exists and is one that is meant; puts it again with the same bytes
    and other extras."""

    def decide(rows: PreparedRows) -> Operation | Refusal:
        value = rows.get(object_key(bucket, key))
        if value is None:
            return Refusal(RefusalCode.NO_SUCH_KEY, "no object")
        row = decode_object(value).row
        if not change.is_for(row.extras):
            return Refusal(RefusalCode.IF_VERSION, "another access list")
        changed = msgspec.structs.replace(row, extras=change.of(row.extras))
        return put_object(bucket, key, changed)

    return decide


def no_append(
    piece: AppendedPiece, condition: Condition | None, standing: IndexedObject | None
) -> RefusalCode | None:
    """Why `piece` cannot be appended to the object; None: it can."""
    code = None if condition is None else unmet(condition, standing)
    if code is not None:
        return code
    if piece.offset != (0 if standing is None else standing.row.size):
        return RefusalCode.WRITE_OFFSET
    extras = None if standing is None else standing.row.extras
    if extras is not None and extras.appends >= APPENDS_MAX:
        return RefusalCode.TOO_MANY_APPENDS
    return None


def appending(
    bucket: BucketId, key: bytes, piece: AppendedPiece, condition: Condition | None = None
) -> Guard:
    """Requires that the object, if any, ends where the piece begins; puts it with the piece.

    Raises FormsDiffer if the piece must be sent in another form, which is no refusal.
    """

    def decide(rows: PreparedRows) -> Operation | Refusal:
        stored = rows.get(object_key(bucket, key))
        standing = None if stored is None else decode_object(stored)
        code = no_append(piece, condition, standing)
        if code is not None:
            return Refusal(code, code.name)
        row = piece.row if standing is None else piece.behind(standing)
        return put_object(bucket, key, row)

    return decide


def _unmet(
    rows: PreparedRows, bucket: BucketId, key: bytes, condition: Condition, upload: bytes = b""
) -> Refusal | None:
    stored = rows.get(object_key(bucket, key))
    code = unmet(condition, None if stored is None else decode_object(stored))
    if code is None and upload and stored is not None and condition.version is None:
        begun = rows.get(upload_key(bucket, key, upload))
        assert begun is not None, "an upload that is closed is refused before"
        if _version(stored) > _version(begun):
            code = RefusalCode.OVERTAKEN
    return None if code is None else Refusal(code, code.name)


def _version(row: bytes) -> Version:
    ordered = decode_ordered(row)
    return ordered.epoch, ordered.seq


def _names(etags: Sequence[str], etag: str) -> bool:
    return etag in etags or ANY_ETAG in etags


def _is_closed(rows: PreparedRows, bucket: BucketId, key: bytes, upload: bytes) -> Refusal | None:
    if rows.get(upload_key(bucket, key, upload)) is None:
        return Refusal(RefusalCode.NO_SUCH_UPLOAD, upload.hex())
    return None


def _parts(rows: PreparedRows, bucket: BucketId, key: bytes, upload: bytes) -> dict[int, PartRow]:
    """The upload's parts in the order of their numbers."""
    found = rows.under(parts_prefix(bucket, key, upload), parts_in_flight(bucket, key, upload))
    return {decode_part_key(each).number: decode_part(found[each]).row for each in sorted(found)}
