"""What a guard sees is what the index would show, had it applied everything that is ordered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.index.index_format import object_key, part_key, parts_prefix, upload_key
from octad.storage_node.index.rows import ExtentRef, ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.operations.index_changes import (
    AbortUpload,
    Barrier,
    CompleteUpload,
    CreateUpload,
    DeleteObject,
    IndexChanges,
    Operation,
    PutPart,
    Refused,
    complete_upload,
    create_upload,
    encode_operation,
    kind_of,
    parts_in_flight,
    put_object,
    touched,
)
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.shard_log import NO_REQUEST, Entry, ShardLog

SHARD, BUCKET = ShardId(0), BucketId(1)
KEYS, UPLOADS, NUMBERS = (b"a", b"b"), (b"1" * 16, b"2" * 16), (1, 2, 3)


class Index(dict[bytes, bytes]):
    """In byte order, as the real one."""

    def scan(self, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        return sorted(
            (key, value) for key, value in self.items() if start <= key and (not end or key < end)
        )

    def apply(self, entry: Entry) -> None:
        changes = IndexChanges(self.get)
        assert entry.location is not None
        changes.apply(entry.operation, entry.location, SHARD, entry.epoch, entry.seq)
        puts, deletes = changes.split()
        self.update(puts)
        for key in deletes:
            self.pop(key, None)


def operation_of(what: int, key: bytes, upload: bytes, number: int) -> Operation:
    extents = (ExtentRef(bytes([what + number]) * 16, 7),)
    operations: list[Operation] = [
        put_object(BUCKET, key, ObjectRow(what, "etag", 0, extents=extents)),
        DeleteObject(BUCKET, key),
        create_upload(BUCKET, key, upload, UploadRow(0, "owner")),
        PutPart(BUCKET, key, upload, number, PartRow(number, "etag", 0, extents=extents)),
        PutPart(BUCKET, key, upload, number, PartRow(number, "other", 0)),
        complete_upload(BUCKET, key, upload, ObjectRow(3, "whole", 0, extents=extents), NUMBERS),
        AbortUpload(BUCKET, key, upload, NUMBERS),
        Refused(BUCKET, key, 1),
        Barrier(),
    ]
    return operations[what]


def entry_of(seq: int, operation: Operation) -> Entry:
    return Entry(
        *(Epoch(1), Seq(seq), kind_of(operation), NO_REQUEST, encode_operation(operation), b""),
        *(operation, touched(operation), Location(SegmentId(1), 64 * seq, 64)),
    )


OPERATIONS = st.builds(
    operation_of,
    st.integers(0, 8),
    st.sampled_from(KEYS),
    st.sampled_from(UPLOADS),
    st.sampled_from(NUMBERS),
)


def possible(operations: list[Operation]) -> list[Operation]:
    """Those that guards let pass: no upload is opened twice, and parts are of an open one."""
    taken: list[Operation] = []
    opened: set[tuple[bytes, bytes]] = set()
    ended: set[tuple[bytes, bytes]] = set()
    for each in operations:
        if isinstance(each, CreateUpload | PutPart | CompleteUpload | AbortUpload):
            upload = each.key, each.upload
            if isinstance(each, CreateUpload) == (upload in opened) or upload in ended:
                continue
            opened.add(upload)
            if isinstance(each, CompleteUpload | AbortUpload):
                ended.add(upload)
        taken.append(each)
    return taken


@given(st.lists(OPERATIONS, max_size=40).map(possible), st.data())
def test_the_rows_as_prepared_are_those_of_an_index_that_has_applied_all(
    operations: list[Operation], data: st.DataObject
) -> None:
    applied = data.draw(st.integers(0, len(operations)))
    index, later, log = Index(), Index(), ShardLog(Seq(applied), Epoch(1))
    for seq, operation in enumerate(operations, 1):
        entry = entry_of(seq, operation)
        later.apply(entry)
        if seq <= applied:
            index.apply(entry)
        else:
            log.append(entry)
    rows = PreparedRows(SHARD, log, index)
    for key in KEYS:
        assert rows.get(object_key(BUCKET, key)) == later.get(object_key(BUCKET, key))
        for upload in UPLOADS:
            opened = upload_key(BUCKET, key, upload)
            assert rows.get(opened) == later.get(opened)
            if opened not in later:
                continue  # Its parts are no one's.
            prefix, mark = parts_prefix(BUCKET, key, upload), parts_in_flight(BUCKET, key, upload)
            found = rows.under(prefix, mark)
            for number in NUMBERS:
                part = part_key(BUCKET, key, upload, number)
                assert found.get(part) == later.get(part)
