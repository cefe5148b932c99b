"""A record that was moved: what compaction writes, and by which rule it stands for the old one.

A COPY has the shard, epoch, seq, commit and request id of the record that it copies, and its data;
its metadata is the msgpack array below. It is the node's own: the shard's log neither sees it nor
misses the record that is gone, because only records that every replay begins behind are copied.

- Copied are records that a row of the index points at, and *kept* ones, which no row shows but
  which say that older records are void: deletes, ends of uploads, dropped extents, barriers. Each
  kind says of itself whether it is kept (`operations/kind.py`).
- An entry of several records is copied record by record (`journal/several_records.py`).
- A row moves to the copy only if it still points at the record that was copied.
- A record is never copied while an entry for its row is prepared. So copies of a row lie in the
  journal in the order of its versions, before the record that ends the version.
- A kept record is dropped once no segment is left that is older than the one it was first written
  to: nothing that it makes void can be anywhere. Of a shard whose history was copied here, once
  none is left that is older than the end of the copy. A COMPLETE_UPLOAD that no row shows is kept
  as the ABORT_UPLOAD that it has become.
- The old segment goes only after the copies are synced and the index with the moves is flushed.
"""

from __future__ import annotations

import msgspec

from octad.storage_node.index.index_format import decode_located, relocated
from octad.storage_node.journal.record_format import (
    RECORD_KINDS,
    Location,
    Record,
    RecordKind,
    SegmentId,
)
from octad.storage_node.operations.index_changes import decode_operation, encode_operation, kind_of
from octad.storage_node.operations.registry import kind_numbered

# The source of a record that came from another node, and of every copy of it. It is committed for
# certain, and tells nothing of how far this node's own log of the shard goes.
FROM_ANOTHER_NODE = Location(SegmentId(0), 0, 0)


class Copied(msgspec.Struct, frozen=True, array_like=True):
    """The metadata of a COPY."""

    source: Location  # Where the copied record lay, which may be a copy itself.
    origin: SegmentId  # Where the record was first written.
    kind: int
    metadata: bytes  # The record's own.


class Original(msgspec.Struct, frozen=True, gc=False):
    """A record as it was first written, wherever it lies now."""

    kind: RecordKind
    metadata: bytes
    origin: SegmentId
    from_another_node: bool = False


encode_copied = msgspec.msgpack.Encoder().encode
decode_copied = msgspec.msgpack.Decoder(Copied).decode


def original_of(location: Location, record: Record) -> Original:
    """What `record`, which lies at `location`, said when it was first written."""
    if record.kind is RecordKind.COPY:
        copied = decode_copied(record.metadata)
        foreign = copied.source == FROM_ANOTHER_NODE
        return Original(RECORD_KINDS[copied.kind], copied.metadata, copied.origin, foreign)
    return Original(record.kind, bytes(record.metadata), location.segment)


def kept_form(original: Original) -> Original:
    """What a kept record that no row shows still says: it ends others, and makes no row."""
    kept_as = kind_numbered(original.kind).kept_as
    if kept_as is None:
        return original
    ends = kept_as(decode_operation(original.kind, original.metadata))
    return msgspec.structs.replace(original, kind=kind_of(ends), metadata=encode_operation(ends))


def row_key_of(original: Original) -> bytes | None:
    """The index key whose row would point at the record; None when it makes no row."""
    row_key = kind_numbered(original.kind).row_key
    if row_key is None:
        return None
    return row_key(decode_operation(original.kind, original.metadata))


def moved(value: bytes, source: Location, target: Location) -> bytes | None:
    """The row with its record at `target`; None when it does not point at `source` any more."""
    return relocated(value, target) if decode_located(value).location == source else None
