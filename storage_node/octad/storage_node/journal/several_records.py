"""An entry of several operations at once, each with a record of its own inside the entry's.

One write and one Prepare bring them, and all are committed or none. In the journal:

    entry's record:       header ‖ metadata ‖ record ‖ record ‖ …
    each of the records:  header ‖ metadata ‖ data

- The records inside are as `journal/record_format.py` draws them: with their own kind,
  request id, offset and checksum, and shard, epoch, seq, commit and `synced to` of the entry's.
  They lie one right behind the other and fill the entry's data; its checksum covers them again.
- Each is of one row, which names it by the record's own location or which it ends; none names the
  entry's. So a row can be read, copied to another node, repaired, or moved by compaction, and what
  ends one be kept, as if its record had always stood alone, and a split leaves each where its row
  is, in the half of its hash.
- The entry's metadata lists them (`SubRecord`), so that all can be decoded and applied without the
  data, which follows later or stays in the journal.
- On the way to other nodes the data is as long as in a journal, with any headers: each journal
  writes its own (`place`), whose checksums depend on where the record lies.
- The request ids are those of the records inside; the entry's own is empty. So a retry finds what
  of it was ordered, and what was not.

No record inside has others inside, and no two are of one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.journal.record_format import (
    RECORD_HEADER_BYTES,
    RECORD_KINDS,
    Location,
    Position,
    Record,
    RecordKind,
    encode_record_start,
)


class SubRecord(msgspec.Struct, frozen=True, array_like=True):
    """One of the records inside: all of it but its data."""

    kind: int
    request_id: bytes
    metadata: bytes
    data_bytes: int

    @property
    def length(self) -> int:
        """The length of the entire record with its header."""
        return RECORD_HEADER_BYTES + len(self.metadata) + self.data_bytes


class Several(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """The metadata of such an entry. Each kind is a subclass, declared like any kind.

    It remembers what its records say once they are decoded (`operations/registry.py`).
    """

    records: tuple[SubRecord, ...]

    def locations(self, location: Location) -> Iterator[Location]:
        """The locations of the records inside an entry at `location`."""
        lengths = [each.length for each in self.records]
        offset = location.offset + location.length - sum(lengths)
        for length in lengths:
            yield Location(location.segment, offset, length)
            offset += length

    def place(
        self,
        data: bytes | memoryview,
        seed: int,
        offset: int,
        shard: ShardId,
        epoch: Epoch,
        seq: Seq,
        commit: Seq,
        synced_to: Position,
    ) -> bytes:
        """The entry's data, for a journal in which it begins at `offset` of its segment."""
        view = memoryview(data)
        placed: list[bytes | memoryview] = []
        end = 0
        for each in self.records:
            begin, end = end, end + each.length
            bytes_ = view[end - each.data_bytes : end]
            start = encode_record_start(
                seed,
                synced_to,
                offset + begin,
                RECORD_KINDS[each.kind],
                shard,
                epoch,
                seq,
                commit,
                each.request_id,
                each.metadata,
                bytes_,
            )
            placed += [start, bytes_]
        assert end == len(data)
        return b"".join(placed)

    def inside(self, location: Location, record: Record) -> Iterator[tuple[Location, Record]]:
        """The records inside `record`, which is the entry's and lies at `location`."""
        end = 0
        for each, at in zip(self.records, self.locations(location), strict=True):
            end += each.length
            data = record.data[end - each.data_bytes : end]
            yield (
                at,
                msgspec.structs.replace(
                    record,
                    kind=RECORD_KINDS[each.kind],
                    request_id=each.request_id,
                    metadata=memoryview(each.metadata),
                    data=data,
                ),
            )


def lay_out(
    parts: Iterable[tuple[RecordKind, bytes, bytes, bytes | memoryview]],
) -> tuple[tuple[SubRecord, ...], bytes]:
    """The list and the data of an entry of records of (kind, request id, metadata, data) each."""
    records: list[SubRecord] = []
    laid_out: list[bytes | memoryview] = []
    for kind, request_id, metadata, data in parts:
        records.append(SubRecord(kind, request_id, metadata, len(data)))
        laid_out += [bytes(RECORD_HEADER_BYTES), metadata, data]
    return tuple(records), b"".join(laid_out)


def request_ids(operation: msgspec.Struct, request_id: bytes) -> tuple[bytes, ...]:
    """The hash of everything an entry does; `request_id` is the one in its header."""
    if isinstance(operation, Several):
        return tuple([each.request_id for each in operation.records])
    return (request_id,)
