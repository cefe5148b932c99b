"""What compaction and rebuilding keep on disk: bytes that never change, read back as written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.index.index_format import (
    IndexedObject,
    ScrubState,
    SegmentUse,
    decode_object,
    decode_scrub_state,
    decode_segment_use,
    decode_segment_use_key,
    encode_value,
    object_key,
    segment_use_key,
)
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.journal_errors import DamagedNote
from octad.storage_node.journal.record_format import (
    Location,
    Position,
    Record,
    RecordKind,
    SegmentId,
    checksum_seed,
    decode_record,
    encode_record_start,
)
from octad.storage_node.journal.retired_segments import RetiredSegments, decode_retired
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.operations.copy_format import (
    Copied,
    Original,
    decode_copied,
    encode_copied,
    moved,
    original_of,
    row_key_of,
)
from octad.storage_node.operations.index_changes import Refused, encode_operation, put_object
from octad.storage_node.operations.registry import KINDS

GOLDEN = Path(__file__).parents[2] / "golden"
HERE, THERE = Location(SegmentId(3), 4096, 400), Location(SegmentId(9), 8192, 450)
PUT = put_object(BucketId(5), b"key", ObjectRow(5, "0" * 32, 1_700_000_000_000))
COPIED = Copied(HERE, SegmentId(2), RecordKind.PUT_OBJECT, encode_operation(PUT))
NOTE_PATH = Path("retired.json")
REACHES = Position(7 << 32 | 4500)


def copy_record() -> bytes:
    metadata = encode_copied(COPIED)
    start = encode_record_start(
        checksum_seed(SegmentId(9), 2),
        Position(9 << 32 | 4096),
        8192,
        RecordKind.COPY,
        ShardId(1 << 32 | 17),
        Epoch(5),
        Seq(1234),
        Seq(1230),
        bytes(range(16)),
        metadata,
        b"bytes",
    )
    return start + b"bytes"


def note() -> RetiredSegments:
    retired = RetiredSegments()
    states = {ShardId(1 << 32 | 17): ShardState(Seq(1234), Epoch(5), Epoch(5))}
    retired.retire(SegmentId(4), [(SegmentId(3), 9000), (SegmentId(6), 9500)], states, REACHES)
    retired.retire(SegmentId(5), [(SegmentId(3), 9000), (SegmentId(6), 9500)], states, REACHES)
    return retired


def decoded_copy(data: bytes) -> Record:
    return decode_record(memoryview(data), checksum_seed(SegmentId(9), 2), 8192)


def test_a_copy_keeps_its_bytes() -> None:
    golden = (GOLDEN / "journal" / "copy-v1.bin").read_bytes()
    assert copy_record() == golden
    record = decoded_copy(golden)
    assert decode_copied(record.metadata) == COPIED
    assert bytes(record.data) == b"bytes"


def test_the_note_of_retired_segments_keeps_its_bytes() -> None:
    golden = (GOLDEN / "journal" / "retired-v1.json").read_bytes()
    assert note().encode() == golden
    read = decode_retired(NOTE_PATH, golden)
    assert [read.has(SegmentId(each)) for each in (3, 4, 5, 6)] == [False, True, True, False]
    assert read.ends == {3: 9000}
    assert read.states == {1 << 32 | 17: ShardState(Seq(1234), Epoch(5), Epoch(5))}
    assert (read.last(), read.reaches) == (5, REACHES)


def test_the_counts_of_a_segment_keep_their_bytes() -> None:
    lines = (GOLDEN / "index" / "space-v1.hex").read_text().splitlines()
    use = SegmentUse(123456, 67108000, 789, 2)
    scrub = ScrubState(Position(3 << 32 | 4096), 1_700_000_000, 4)
    expected = [segment_use_key(SegmentId(3)), encode_value(use), encode_value(scrub)]
    assert [line.hex() for line in expected] == lines
    assert decode_segment_use_key(bytes.fromhex(lines[0])) == 3
    assert decode_segment_use(bytes.fromhex(lines[1])) == use
    assert decode_scrub_state(bytes.fromhex(lines[2])) == scrub


def test_a_copy_of_a_copy_is_a_copy_of_the_original() -> None:
    original = original_of(THERE, decoded_copy(copy_record()))
    assert (original.kind, original.origin) == (RecordKind.PUT_OBJECT, 2)
    assert row_key_of(original) == object_key(BucketId(5), b"key")


def test_a_refusal_is_of_no_row_and_is_not_kept() -> None:
    metadata = encode_operation(Refused(BucketId(5), b"key", 1))
    assert row_key_of(Original(RecordKind.REFUSED, metadata, SegmentId(2))) is None
    assert not KINDS[RecordKind.REFUSED].kept


def test_a_row_moves_only_from_where_the_record_was_copied() -> None:
    value = encode_value(IndexedObject(HERE, Epoch(5), Seq(9), PUT.row))
    now = moved(value, HERE, THERE)
    assert now is not None
    assert decode_object(now) == IndexedObject(THERE, Epoch(5), Seq(9), PUT.row)
    assert moved(now, HERE, THERE) is None


@pytest.mark.parametrize("at", range(0, 200, 9))
def test_a_flipped_bit_in_the_note_is_found(at: int) -> None:
    data = bytearray(note().encode())
    data[at % len(data)] ^= 4
    with pytest.raises(DamagedNote, match=r"retired\.json is damaged"):
        decode_retired(NOTE_PATH, bytes(data))


@given(st.lists(st.integers(1, 60), unique=True, max_size=50), st.integers())
def test_what_is_retired_in_any_order_is_retired_and_nothing_else(
    segments: list[int], seed: int
) -> None:
    random.Random(seed).shuffle(segments)
    retired = RetiredSegments()
    left = {SegmentId(each): each * 10 for each in range(1, 61)}
    for segment in segments:
        del left[SegmentId(segment)]
        retired.retire(SegmentId(segment), left.items(), {}, REACHES)
    read = decode_retired(NOTE_PATH, retired.encode())
    for each in range(1, 61):
        assert read.has(SegmentId(each)) == (each in segments)
        if each not in segments and each + 1 in segments:
            assert read.ends[SegmentId(each)] == each * 10


def test_what_the_note_has_already_is_no_survivor() -> None:
    """As after an error behind the rename: the note was replaced, the segment was not dropped."""
    retired = RetiredSegments()
    retired.retire(SegmentId(3), [(SegmentId(1), 9000), (SegmentId(4), 9500)], {}, REACHES)
    retired.retire(SegmentId(4), [(SegmentId(1), 9000), (SegmentId(3), 9100)], {}, REACHES)
    assert retired.ends == {1: 9000}
