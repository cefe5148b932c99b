"""Record batches: the bytes of Kafka's format, and everything that is no batch is told apart."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass

import pytest
from awscrt.checksums import crc32c
from hypothesis import given
from hypothesis import strategies as st

from octad.storage_node.log import record_batch
from octad.storage_node.log.record_batch import (
    BadBatch,
    BatchHeader,
    batch_of,
    check_batch,
    patched,
    read_header,
    split_batches,
    timed,
)
from octad.storage_node.log.records import Record, decode_records, encode_records

MAX = record_batch.BATCH_BYTES_MAX
# As in Kafka's description of the format, byte by byte: two records, one with a header.
GOLDEN = bytes.fromhex(
    "0000000000000000"  # base offset
    "00000048"  # length of what follows
    "ffffffff"  # partition leader epoch
    "02"  # magic
    "83e4159a"  # CRC32C
    "0000"  # attributes
    "00000001"  # last offset delta
    "00000000000003e8"  # base timestamp
    "00000000000003ed"  # max timestamp
    "0000000000000007"  # producer id
    "0001"  # producer epoch
    "00000009"  # base sequence
    "00000002"  # number of records
    "18000000026b02760202680278"  # its length, then a record: key, value, one header
    "12000a02010677777700"  # no key, no header
)
RECORDS = [
    Record(b"k", b"v", 1000, (("h", b"x"),)),
    Record(None, b"www", 1005),
]


def of(records: list[Record], producer: tuple[int, int, int] = (-1, -1, -1)) -> bytes:
    times = [record.timestamp for record in records]
    encoded = encode_records(records, times[0])
    return batch_of(encoded, len(records), times[0], max(times), producer)


def checked(batch: bytes) -> BatchHeader:
    ((header, view),) = split_batches(memoryview(batch))
    check_batch(header, view, MAX)
    return header


def summed(batch: bytes) -> bytes:
    """With the checksum that its bytes have."""
    crc: int = crc32c(batch[21:])
    return batch[:17] + crc.to_bytes(4, "big") + batch[21:]


@dataclass(frozen=True)
class Wrong:
    """A change that makes a batch one that is not taken, and the code that says so."""

    offset: int
    form: str
    value: int
    code: str
    sums_right: bool = True


WRONG = {
    "of another version": Wrong(16, ">b", 1, "wrong-magic"),
    "cut short": Wrong(8, ">i", 10_000, "batch-cut-short"),
    "shorter than a header": Wrong(8, ">i", 48, "batch-cut-short"),
    "with a negative length": Wrong(8, ">i", -1, "batch-cut-short"),
    "changed on its way": Wrong(70, ">b", 3, "wrong-checksum", sums_right=False),
    "with no records": Wrong(57, ">i", 0, "wrong-count"),
    "with fewer records than it has": Wrong(57, ">i", 1, "wrong-count"),
    "with another last delta": Wrong(23, ">i", 5, "wrong-count"),
    "with an unknown codec": Wrong(21, ">h", 5, "unknown-codec"),
    "of a transaction": Wrong(21, ">h", 1 << 4, "not-for-clients"),
    "a marker": Wrong(21, ">h", 1 << 5, "not-for-clients"),
    "with a delete horizon": Wrong(21, ">h", 1 << 6, "not-for-clients"),
    "with attributes of a later version": Wrong(21, ">h", 1 << 9, "not-for-clients"),
    "timed by its append": Wrong(21, ">h", 1 << 3, "not-for-clients"),
    "with a record later than it says": Wrong(35, ">q", 1004, "wrong-time"),
    "with no record as late as it says": Wrong(35, ">q", 1006, "wrong-time"),
    "of a producer without a sequence": Wrong(53, ">i", -1, "wrong-producer"),
    "of a producer without an epoch": Wrong(51, ">h", -1, "wrong-producer"),
    "with a record longer than the batch": Wrong(61, ">B", 0x7E, "wrong-count"),
    "with a record of no length": Wrong(61, ">B", 0, "wrong-count"),
}


def test_the_bytes_are_those_of_kafkas_format() -> None:
    assert of(RECORDS, (7, 1, 9)) == GOLDEN
    header = checked(GOLDEN)
    assert [record for _, record in decode_records(header, memoryview(GOLDEN))] == RECORDS


@pytest.mark.parametrize("what", WRONG)
def test_a_batch_that_is_not_right_is_refused_and_told_apart(what: str) -> None:
    wrong = WRONG[what]
    bad = bytearray(GOLDEN)
    struct.pack_into(wrong.form, bad, wrong.offset, wrong.value)
    if what == "with fewer records than it has":
        struct.pack_into(">i", bad, 23, 0)
    with pytest.raises(BadBatch) as refusal:
        checked(summed(bytes(bad)) if wrong.sums_right else bytes(bad))
    assert refusal.value.code == wrong.code


def test_a_batch_that_is_too_large_is_refused() -> None:
    header = checked(GOLDEN)
    with pytest.raises(BadBatch) as refusal:
        check_batch(header, memoryview(GOLDEN), header.size - 1)
    assert refusal.value.code == "batch-too-large"


def test_an_offset_and_a_leader_epoch_are_written_outside_the_checksum() -> None:
    header = checked(GOLDEN)
    there = patched(header, memoryview(GOLDEN), 1 << 40, 3)
    found = checked(there)
    assert (found.base, found.leader_epoch, found.crc) == (1 << 40, 3, header.crc)
    assert there[16:] == GOLDEN[16:]
    offsets = [offset for offset, _ in decode_records(found, memoryview(there))]
    assert offsets == [1 << 40, (1 << 40) + 1]


def test_the_time_of_an_append_stands_for_those_of_all_records() -> None:
    header, batch = timed(checked(GOLDEN), memoryview(GOLDEN), 2000)
    found = read_header(batch)
    assert found == header
    assert (found.attributes, found.max_timestamp, found.crc) == (8, 2000, crc32c(batch[21:]))
    assert [record.timestamp for _, record in decode_records(found, batch)] == [2000, 2000]
    assert batch[61:] == GOLDEN[61:]


def test_compressed_records_pass_through_and_gzip_can_be_read() -> None:
    body = gzip.compress(GOLDEN[61:])
    packed = bytearray(GOLDEN[:61] + body)
    struct.pack_into(">i", packed, 8, len(packed) - 12)
    struct.pack_into(">h", packed, 21, 1)
    batch = summed(bytes(packed))
    header = checked(batch)
    assert [record for _, record in decode_records(header, memoryview(batch))] == RECORDS
    struct.pack_into(">h", packed, 21, 4)
    zstd = summed(bytes(packed))
    with pytest.raises(BadBatch, match="zstd"):
        list(decode_records(checked(zstd), memoryview(zstd)))


some_bytes = st.none() | st.binary(max_size=300)
record = st.builds(
    Record,
    some_bytes,
    some_bytes,
    st.integers(0, 1 << 45),
    st.lists(st.tuples(st.text(max_size=5), some_bytes), max_size=3).map(tuple),
)


@given(st.lists(record, min_size=1, max_size=20))
def test_records_come_back_as_they_went_in(records: list[Record]) -> None:
    batch = of(records)
    header = checked(batch)
    assert list(decode_records(header, memoryview(batch))) == list(enumerate(records))


@given(st.binary(max_size=200), st.integers(0, 60), st.booleans())
def test_any_bytes_are_a_batch_or_refused(data: bytes, keep: int, sums: bool) -> None:
    """None takes the node down, whatever a stranger makes of a batch."""
    bad = GOLDEN[:keep] + data
    if sums and len(bad) > 61:
        bad = summed(bad)
    try:
        for header, batch in split_batches(memoryview(bad)):
            check_batch(header, batch, MAX)
            list(decode_records(header, batch))
    except BadBatch:
        pass


def test_a_header_is_read_without_the_rest() -> None:
    header = read_header(GOLDEN[:61])
    assert (header.size, header.records, header.sequence) == (len(GOLDEN), 2, 9)
