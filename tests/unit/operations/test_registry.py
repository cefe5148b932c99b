"""Every kind of record is declared, once, and what depended on lists of them is as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.operations.toy_kinds import PUT_NOTES, PutNote, put_notes

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.index.index import Index
from octad.storage_node.journal import disk_reserve
from octad.storage_node.journal.record_format import (
    NewerRecord,
    Position,
    Record,
    RecordKind,
)
from octad.storage_node.operations import registry
from octad.storage_node.operations.index_changes import decode_operation, encode_operation
from octad.storage_node.operations.kind import Kind, Scope
from octad.storage_node.replication.host.request_ids import RequestIds

OF_THE_JOURNAL = {RecordKind.SYNCED_MARK, RecordKind.COPY}
FREEING = {
    *("DELETE_OBJECT", "ABORT_UPLOAD", "QUEUE_EXTENTS", "DROP_EXTENT", "FORGET_EXTENTS"),
    *("REFUSED", "DELETE_OBJECTS", "LOG_TRIM", "LOG_DROP"),
}
VITAL = {"BARRIER", "LOG_START", "LOG_SPLIT", "COPY"}
KEPT = {
    *("BARRIER", "LOG_START", "LOG_SPLIT", "HISTORY_DELETED", "HISTORY_COPIED"),
    *("DELETE_OBJECT", "COMPLETE_UPLOAD", "ABORT_UPLOAD", "DROP_EXTENT", "LOG_DROP"),
}


def test_every_kind_but_the_journals_own_is_declared() -> None:
    assert registry.KINDS.keys() == set(RecordKind) - OF_THE_JOURNAL


def test_what_is_kept_and_what_may_use_the_reserve_is_as_it_always_was() -> None:
    assert {kind.record.name for kind in registry.KINDS.values() if kind.kept} == KEPT
    assert {RecordKind(kind).name for kind in disk_reserve.FREEING_KINDS} == FREEING
    assert {RecordKind(kind).name for kind in disk_reserve.VITAL_KINDS} == VITAL


@pytest.mark.parametrize("kind", registry.KINDS.values(), ids=lambda kind: kind.record.name)
def test_a_kind_whose_record_a_row_names_says_where_and_touches_that_row(kind: Kind) -> None:
    if kind.row_key is not None:
        assert kind.scope is Scope.ENTRY
        assert None not in (kind.hash_of, kind.bucket_of)
    if kind.kept_as is not None:
        assert kind.kept
        assert kind.row_key is not None


def test_a_kind_is_declared_once() -> None:
    with pytest.raises(AssertionError):
        registry.declare(registry.KINDS[RecordKind.BARRIER])


@pytest.mark.parametrize("number", [49, 99, 140])
def test_a_kind_that_nobody_declared_is_named_as_a_newer_octads(number: int) -> None:
    said = f"its kind {number} was written by a newer octad: upgrade this node, nothing is lost"
    with pytest.raises(NewerRecord, match=said):
        decode_operation(number, b"\x90")
    with pytest.raises(NewerRecord, match=said):
        registry.kind_numbered(number)


def test_what_is_no_entry_of_a_log_cannot_be_decoded_as_one() -> None:
    for kind in (RecordKind.LOG_START, RecordKind.HISTORY_DELETED, RecordKind.COPY):
        with pytest.raises(ValueError, match=f"{kind.name} is no entry"):
            decode_operation(kind, b"\x90")


@pytest.mark.usefixtures("toys")
def test_a_replay_finds_the_ids_of_all_requests_in_an_entry_of_several(tmp_path: Path) -> None:
    ids = (b"request number 1", b"request number 2")
    several, data = put_notes([(PutNote(BucketId(1), each, 1), each, b"") for each in ids])
    record = Record(
        *(PUT_NOTES.record, ShardId(3), Epoch(1), Seq(7), Seq(7), bytes(16), Position(0)),
        *(memoryview(encode_operation(several)), memoryview(data)),
    )
    index = Index(tmp_path / "index")
    remembered = RequestIds(index)
    remembered.replayed(record, Seq(7))
    assert remembered.take_found() == {3: [(each, 7) for each in ids]}
    index.close()
