"""Ids of requests survive a restart: those saved with a flush, and those that a replay reads."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from octad.sharding import limits
from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.index.index import Index
from octad.storage_node.journal.record_format import Position, Record, RecordKind
from octad.storage_node.operations.index_changes import (
    Barrier,
    LogSplit,
    LogStart,
    Refused,
    encode_operation,
)
from octad.storage_node.replication.host.request_ids import RequestIds
from octad.storage_node.replication.request_window import refused_at
from octad.storage_node.replication.shard_log import Entry

SHARD, OTHER = ShardId(3), ShardId(4)


def entry(seq: int, request: bytes) -> Entry:
    kind = RecordKind.DELETE_OBJECT
    return Entry(Epoch(1), Seq(seq), kind, request * 16, b"", b"", Barrier(), ())


def record(seq: int, request: bytes, kind: RecordKind = RecordKind.DELETE_OBJECT) -> Record:
    commit, none = Seq(5), Position(0)
    metadata, data = memoryview(encode_operation(LogStart(Seq(0)))), memoryview(b"")
    request_id = (request * 16)[:16]
    return Record(kind, SHARD, Epoch(1), Seq(seq), commit, request_id, none, metadata, data)


def test_what_was_saved_and_what_was_applied_since_is_known_again(tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    ids = RequestIds(index)
    ids.note(SHARD, [entry(1, b"a"), entry(2, bytes(1))])  # A barrier has no id.
    ids.note_copied(OTHER, [(b"x" * 16, Seq(7))])
    ids.save(Position(4096))
    ids.note(SHARD, [entry(3, b"b")])
    index.close()
    index = Index(tmp_path / "index")
    again = RequestIds(index)
    assert again.load() == Position(4096)
    again.replayed(record(3, b"c"), Seq(3))  # Truncated by what follows.
    again.replayed(record(3, b"b"), Seq(3))
    again.replayed(record(4, b"d"), Seq(3))  # Not applied: the log has it.
    found = again.take_found()
    assert found[SHARD] == [(b"a" * 16, Seq(1)), (b"b" * 16, Seq(3))]
    assert found[OTHER] == [(b"x" * 16, Seq(7))]
    index.close()


def test_which_requests_were_refused_is_known_again(tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    ids = RequestIds(index)
    refused = Refused(BucketId(1), b"key", 2)
    noted = Entry(Epoch(1), Seq(1), RecordKind.REFUSED, b"a" * 16, b"", b"", refused, ())
    ids.note(SHARD, [noted])
    ids.save(Position(4096))
    index.close()
    index = Index(tmp_path / "index")
    again = RequestIds(index)
    again.load()
    of_kind = record(2, b"b", RecordKind.REFUSED)
    metadata = memoryview(encode_operation(refused))
    again.replayed(msgspec.structs.replace(of_kind, metadata=metadata), Seq(2))
    found = again.take_found()[SHARD]
    assert found == [(b"a" * 16, refused_at(Seq(1), 2)), (b"b" * 16, refused_at(Seq(2), 2))]
    index.close()


def test_a_half_has_the_ids_of_what_was_ordered_before_the_split_also_after_a_restart(
    tmp_path: Path,
) -> None:
    index = Index(tmp_path / "index")
    ids = RequestIds(index)
    ids.note(SHARD, [entry(1, b"a")])
    ids.save(Position(4096))
    index.close()
    index = Index(tmp_path / "index")
    again = RequestIds(index)
    again.load()
    again.replayed(record(2, b"b"), Seq(9))
    split = record(2, bytes(1), RecordKind.LOG_SPLIT)
    metadata = memoryview(encode_operation(LogSplit(3)))
    again.replayed(msgspec.structs.replace(split, metadata=metadata), Seq(9))
    again.replayed(record(3, b"c"), Seq(9))
    found = again.take_found()
    before = [(b"a" * 16, Seq(1)), (b"b" * 16, Seq(2))]
    assert found == {SHARD: [*before, (b"c" * 16, Seq(3))], ShardId(SHARD + 4): before}
    index.close()


def test_what_a_log_start_has_cut_off_is_not_known(tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    ids = RequestIds(index)
    ids.replayed(record(5, b"a"), Seq(20))
    ids.replayed(record(6, b"b"), Seq(20))  # Above the commit point when the log began anew.
    ids.replayed(record(18, bytes(1), RecordKind.LOG_START), Seq(20))
    ids.replayed(record(19, b"c"), Seq(20))
    assert ids.take_found()[SHARD] == [(b"a" * 16, Seq(5)), (b"c" * 16, Seq(19))]
    index.close()


def test_pieces_are_dropped_once_no_retry_can_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_s = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: time_s)
    index = Index(tmp_path / "index")
    ids = RequestIds(index)
    for request in (b"a", b"b", b"c"):
        ids.note(SHARD, [entry(1, request)])
        ids.save(Position(4096))
        time_s += 0.6 * limits.REQUEST_IDS_S
    assert len(list(index.scan(b"r", b"s"))) == 2
    index.close()
