"""Messages of the history copy, and the notes it leaves, are read as they were written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.history.history_messages import (
    HistoryRead,
    HistoryRecord,
    HistoryRow,
    ReadHistory,
    ReadRecords,
    RecordsRead,
)
from octad.storage_node.index.history_format import (
    DeletionMark,
    HistoryDeleted,
    InstalledCopy,
    decode_history_deleted,
    decode_installed_copy,
    decode_mark,
    encode,
    mark_key,
    marks_range,
)
from octad.storage_node.index.index_format import object_key
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.journal.shard_state import ShardDigest
from octad.storage_node.replication.digest_messages import DigestRead, DigestsRead, ReadDigests
from octad.storage_node.rpc.messages import Message, decode_message, encode_message

SHARD = ShardId(1 << 32 | 17)
seqs = st.integers(0, 2**63).map(Seq)
epochs = st.integers(0, 2**63).map(Epoch)
ids = st.lists(st.tuples(st.binary(min_size=16, max_size=16), seqs), max_size=3)
rows = st.builds(HistoryRow, st.binary(max_size=40), epochs, seqs, st.integers(0, 2**24))
records = st.builds(
    HistoryRecord,
    st.integers(0, 255),
    st.sampled_from(list(RecordKind)),
    st.binary(min_size=16, max_size=16),
    st.binary(max_size=40),
    st.integers(0, 2**20),
)
digests = st.builds(
    DigestRead,
    st.just(SHARD),
    seqs,
    st.none()
    | st.builds(ShardDigest, st.integers(1, 9), st.integers(0, 2**40), st.integers(0, 2**64 - 1)),
    st.integers(0, 9),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(ReadHistory, st.just(SHARD), seqs, st.binary(), st.binary(), st.integers(0, 2000)),
    st.builds(HistoryRead, seqs, seqs, st.binary(), st.lists(rows, max_size=3), ids),
    st.builds(
        ReadRecords,
        st.just(SHARD),
        seqs,
        st.lists(st.tuples(st.binary(), epochs, seqs), max_size=3),
    ),
    st.builds(RecordsRead, st.integers(0, 255), seqs, st.lists(records, max_size=3)),
    st.builds(ReadDigests, st.lists(st.tuples(st.just(SHARD), seqs), max_size=3), st.booleans()),
    st.builds(DigestsRead, st.lists(digests, max_size=3)),
)


@given(messages)
def test_what_is_asked_and_answered_is_read_as_it_was_sent(sent: Message) -> None:
    assert decode_message(encode_message(sent)) == sent


@given(epochs, seqs, ids)
def test_what_a_copy_leaves_is_read_as_it_was_written(
    epoch: Epoch, seq: Seq, pairs: list[tuple[bytes, Seq]]
) -> None:
    mark, copy = DeletionMark(epoch, seq), InstalledCopy(seq, seq, tuple(pairs))
    deleted = HistoryDeleted((b"h1", b"h2"))
    assert decode_mark(encode(mark)) == mark
    assert decode_installed_copy(encode(copy)) == copy
    assert decode_history_deleted(encode(deleted)) == deleted


@given(st.integers(0, 2**40), st.binary(max_size=20))
def test_the_marks_of_a_shard_are_one_range(shard: int, key: bytes) -> None:
    start, end = marks_range(ShardId(shard))
    assert start <= mark_key(ShardId(shard), key) < end
    assert not start <= mark_key(ShardId(shard + 1), key) < end


def test_the_bytes_of_a_mark_are_these() -> None:
    key = mark_key(SHARD, object_key(BucketId(5), b"k"))
    assert key == bytes.fromhex("74 0000000100000011 6e00000005 6b")
    assert encode(DeletionMark(Epoch(2), Seq(3))) == bytes.fromhex("92 02 03")
