"""Records and segment headers keep every field, and nothing but themselves passes for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.storage_node.journal.record_format import (
    RECORDS_OFFSET,
    SEGMENT_HEADER_COPY_OFFSET,
    BadRecord,
    Identity,
    Location,
    Position,
    Record,
    RecordKind,
    SegmentHeader,
    SegmentId,
    checksum_seed,
    decode_record,
    decode_segment_header,
    encode_record_start,
    encode_segment_header,
    end_of,
    offset_of,
    position,
    segment_of,
    start_of,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "journal"
SEED = checksum_seed(SegmentId(3), 2)
U64 = st.integers(0, 2**64 - 1)
HEADER = SegmentHeader(
    SegmentId(3), 2, Identity("0123abcd", NodeId(7), "00112233445566778899aabbccddeeff")
)


def encoded(
    kind: RecordKind = RecordKind.PUT_OBJECT,
    numbers: tuple[int, int, int, int] = (1 << 32 | 17, 5, 1234, 1230),
    request_id: bytes = bytes(range(16)),
    synced_to: int = 3 << 32 | 8192,
    metadata: bytes = b"the row",
    data: bytes = b"the bytes",
    seed: int = SEED,
    offset: int = 12288,
) -> bytes:
    shard, epoch, seq, commit = numbers
    start = encode_record_start(
        seed,
        Position(synced_to),
        offset,
        kind,
        ShardId(shard),
        Epoch(epoch),
        Seq(seq),
        Seq(commit),
        request_id,
        metadata,
        data,
    )
    return start + data


def decoded(content: bytes, seed: int = SEED, offset: int = 12288) -> Record:
    return decode_record(memoryview(content), seed, offset)


@given(
    kind=st.sampled_from(RecordKind),
    numbers=st.tuples(U64, U64, U64, U64),
    request_id=st.binary(min_size=16, max_size=16),
    synced_to=U64,
    metadata=st.binary(max_size=300),
    data=st.binary(max_size=300),
    behind=st.binary(max_size=50),
    offset=st.integers(0, 2**32 - 1),
)
def test_a_record_keeps_every_field_whatever_follows_it(
    kind: RecordKind,
    numbers: tuple[int, int, int, int],
    request_id: bytes,
    synced_to: int,
    metadata: bytes,
    data: bytes,
    behind: bytes,
    offset: int,
) -> None:
    content = encoded(kind, numbers, request_id, synced_to, metadata, data, offset=offset)
    record = decoded(content + behind, offset=offset)
    assert record.kind is kind
    assert (record.shard, record.epoch, record.seq, record.commit) == numbers
    assert (record.request_id, record.synced_to) == (request_id, synced_to)
    assert (bytes(record.metadata), bytes(record.data)) == (metadata, data)


@pytest.mark.parametrize("kind", list(RecordKind), ids=lambda kind: kind.name)
def test_a_record_with_any_one_bit_flipped_is_refused(kind: RecordKind) -> None:
    content = encoded(kind)
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadRecord):
            decoded(bytes(damaged))


def test_a_record_cut_anywhere_is_refused() -> None:
    content = encoded()
    for length in range(len(content)):
        with pytest.raises(BadRecord):
            decoded(content[:length])


def test_a_record_of_another_use_of_the_segment_is_refused() -> None:
    for segment, generation in ((3, 1), (2, 2), (2, 3)):
        stale = encoded(seed=checksum_seed(SegmentId(segment), generation))
        with pytest.raises(BadRecord, match="checksum"):
            decoded(stale)


def test_a_whole_record_at_another_offset_is_refused() -> None:
    with pytest.raises(BadRecord, match="belongs at offset 12288"):
        decoded(encoded(), offset=12289)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_and_break_nothing(content: bytes) -> None:
    with pytest.raises(BadRecord):
        decoded(content)


@given(
    segment=st.integers(1, 2**32 - 1),
    generation=st.integers(1, 2**32 - 1),
    node=st.integers(0, 2**32 - 1),
    cluster=st.text("0123456789abcdef", min_size=8, max_size=8),
    incarnation=st.binary(min_size=16, max_size=16),
)
def test_a_segment_header_keeps_every_field(
    segment: int, generation: int, node: int, cluster: str, incarnation: bytes
) -> None:
    identity = Identity(cluster, NodeId(node), incarnation.hex())
    header = SegmentHeader(SegmentId(segment), generation, identity)
    assert decode_segment_header(encode_segment_header(header)) == header


def first_page() -> bytearray:
    page = bytearray(RECORDS_OFFSET)
    for start in (0, SEGMENT_HEADER_COPY_OFFSET):
        copy = encode_segment_header(HEADER)
        page[start : start + len(copy)] = copy
    return page


@settings(max_examples=50)
@given(start=st.sampled_from([0, SEGMENT_HEADER_COPY_OFFSET]), bit=st.integers(0, 64 * 8 - 1))
def test_either_copy_of_the_segment_header_is_enough(start: int, bit: int) -> None:
    page = first_page()
    page[start + bit // 8] ^= 1 << bit % 8
    assert decode_segment_header(bytes(page)) == HEADER
    page[SEGMENT_HEADER_COPY_OFFSET - start + bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadRecord):
        decode_segment_header(bytes(page))


@given(segment=st.integers(1, 2**32 - 1), offset=st.integers(0, 2**26), length=st.integers(88, 999))
def test_positions_order_places_as_the_journal_does(segment: int, offset: int, length: int) -> None:
    location = Location(SegmentId(segment), offset, length)
    assert (segment_of(start_of(location)), offset_of(start_of(location))) == (segment, offset)
    assert start_of(location) < end_of(location) < position(SegmentId(segment + 1), 0)


def test_the_bytes_of_format_1_are_those_on_record() -> None:
    assert encoded() == (GOLDEN / "record-v1.bin").read_bytes()
    assert encode_segment_header(HEADER) == (GOLDEN / "segment-header-v1.bin").read_bytes()
