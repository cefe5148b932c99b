"""The bytes of an entry of several records, and what a reader makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.unit.journal.journal_site import SHARD, running_journal
from tests.unit.operations.toy_kinds import PUT_NOTE, PUT_NOTES, PutNote, PutNotes, put_notes

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.journal.record_format import (
    RECORD_HEADER_BYTES,
    RECORDS_OFFSET,
    BadRecord,
    Location,
    NewerRecord,
    Position,
    RecordKind,
    SegmentId,
    checksum_seed,
    decode_record,
    encode_record_start,
)
from octad.storage_node.journal.several_records import Several, SubRecord, lay_out
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    IndexChanges,
    decode_operation,
    delete_objects,
    encode_operation,
    hashes_of,
    kind_of,
    touched,
)
from octad.storage_node.operations.registry import DECODERS, operations_in, records_in
from octad.storage_node.replication.shard_log import Entry, ShardLog

GOLDEN = Path(__file__).parents[2] / "golden" / "journal" / "several-records-v1.bin"
SEED = checksum_seed(SegmentId(3), 2)
OFFSET = RECORDS_OFFSET
NOBODY = bytes(16)
BUCKET = BucketId(5)
TWO = [
    (PutNote(BUCKET, b"first", 1), b"a request's id..", b"text of the first"),
    (PutNote(BUCKET, b"second", 2), NOBODY, b""),
]

pytestmark = pytest.mark.usefixtures("toys")


def record_of(several: Several, data: bytes) -> bytes:
    """As a journal writes it at OFFSET of segment 3."""
    metadata = encode_operation(several)
    place = ShardId(1 << 32 | 17), Epoch(5), Seq(1234), Seq(1230)
    inside = OFFSET + RECORD_HEADER_BYTES + len(metadata)
    placed = several.place(data, SEED, inside, *place, Position(3 << 32 | 4096))
    start = encode_record_start(
        *(SEED, Position(3 << 32 | 4096), OFFSET, kind_of(several), *place),
        *(NOBODY, metadata, placed),
    )
    return start + placed


def test_an_entry_of_several_records_keeps_its_bytes() -> None:
    assert record_of(*put_notes(TWO)) == GOLDEN.read_bytes()


def test_an_entry_that_deletes_several_objects_keeps_its_bytes() -> None:
    keys = [(b"first", b"a request's id.."), (b"second", NOBODY)]
    several, data = delete_objects(BUCKET, keys)
    assert record_of(several, data) == (GOLDEN.parent / "delete-objects-v1.bin").read_bytes()
    assert decode_operation(RecordKind.DELETE_OBJECTS, encode_operation(several)) == several
    assert operations_in(several) == [DeleteObject(BUCKET, key) for key, _ in keys]
    assert touched(several) == (b"n\x00\x00\x00\x05first", b"n\x00\x00\x00\x05second")


def test_what_the_records_inside_say_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [(b"first", NOBODY), (b"second", NOBODY)]
    metadata = encode_operation(delete_objects(BUCKET, keys)[0])
    decode, decoded = DECODERS[RecordKind.DELETE_OBJECT], list[object]()

    def noted(metadata: bytes | memoryview) -> object:
        decoded.append(metadata)
        return decode(metadata)

    monkeypatch.setitem(DECODERS, RecordKind.DELETE_OBJECT, noted)
    decode_operation(RecordKind.DELETE_OBJECTS, metadata)  # As who takes it looks whether to.
    several = decode_operation(RecordKind.DELETE_OBJECTS, metadata)
    assert len(touched(several)) == len(hashes_of(several)) == len(keys)
    changes = IndexChanges(lambda _key: None)
    changes.apply(several, Location(SegmentId(1), OFFSET, 400), ShardId(0), Epoch(1), Seq(1))
    assert len(decoded) == len(keys)


def test_each_record_inside_is_read_at_its_own_place_without_the_others() -> None:
    whole = GOLDEN.read_bytes()
    location = Location(SegmentId(3), OFFSET, len(whole))
    entry = decode_record(memoryview(whole), SEED, OFFSET)
    found = list(records_in(location, entry))
    assert len(found) == len(TWO)
    for (at, inside), (put, request_id, text) in zip(found, TWO, strict=True):
        start = at.offset - OFFSET
        alone = decode_record(memoryview(whole)[start : start + at.length], SEED, at.offset)
        assert decode_operation(alone.kind, alone.metadata) == put
        assert (alone.request_id, bytes(alone.data)) == (request_id, text)
        assert (alone.shard, alone.epoch, alone.seq) == (entry.shard, entry.epoch, entry.seq)
        assert alone == inside, "and so it is handed to whoever reads the journal in order"
    assert found[-1][0].offset + found[-1][0].length == OFFSET + len(whole), "nothing is between"


@pytest.mark.parametrize("place", [(SEED + 1, 0), (SEED, 8)])
def test_a_record_inside_is_no_record_anywhere_else(place: tuple[int, int]) -> None:
    whole = GOLDEN.read_bytes()
    entry = decode_record(memoryview(whole), SEED, OFFSET)
    (at, _), _ = records_in(Location(SegmentId(3), OFFSET, len(whole)), entry)
    seed, further = place
    with pytest.raises(BadRecord):
        decode_record(memoryview(whole)[at.offset - OFFSET :], seed, at.offset + further)


def test_an_entry_of_several_with_any_one_bit_flipped_is_refused() -> None:
    damaged = bytearray(GOLDEN.read_bytes())
    for bit in range(8 * len(damaged)):
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadRecord):
            decode_record(memoryview(damaged), SEED, OFFSET)
        damaged[bit // 8] ^= 1 << bit % 8


def test_an_entry_touches_the_row_of_each_record_inside() -> None:
    several, _ = put_notes(TWO)
    assert touched(several) == (b"y\x00\x00\x00\x05first", b"y\x00\x00\x00\x05second")


Spoilt = Callable[[SubRecord], SubRecord]


def of_another_kind(kind: int, metadata: bytes) -> Spoilt:
    return lambda each: msgspec.structs.replace(each, kind=kind, metadata=metadata)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (of_another_kind(1, b"\x90"), "a BARRIER is not of one row"),
        (
            of_another_kind(122, encode_operation(put_notes(TWO)[0])),
            "a PUT_NOTES is not of one row",
        ),
        (lambda _: put_notes(TWO[1:])[0].records[0], "one for each of some rows"),
    ],
    ids=["one without a row", "several inside one of several", "two of one row"],
)
def test_what_no_entry_of_several_may_be_is_refused(spoilt: Spoilt, said: str) -> None:
    several, _ = put_notes(TWO)
    first, second = several.records
    bad = PutNotes((spoilt(first), second))
    with pytest.raises(ValueError, match=said):
        decode_operation(PUT_NOTES.record, encode_operation(bad))


def test_a_kind_inside_that_is_not_known_is_named_as_a_newer_octads() -> None:
    records, _ = lay_out([(PUT_NOTE.record, NOBODY, b"\x90", b"")])
    newer = PutNotes((msgspec.structs.replace(records[0], kind=99),))
    with pytest.raises(NewerRecord, match="its kind 99 was written by a newer octad: upgrade"):
        decode_operation(PUT_NOTES.record, encode_operation(newer))


async def test_damage_inside_an_entry_of_several_leaves_the_other_records_readable(
    tmp_path: Path,
) -> None:
    several, data = put_notes(TWO)
    directory = tmp_path / "journal"
    async with running_journal(directory) as site:
        appended = site.journal.append(
            *(PUT_NOTES.record, SHARD, Epoch(1), Seq(1), Seq(0)),
            *(NOBODY, encode_operation(several), data, several),
        )
        await site.until_durable(appended.lsn)
        first, second = several.locations(appended.location)
        assert bytes(site.journal.read(first).data) == TWO[0][2]
        path = directory / "0000000001.segment"
        with path.open("r+b") as file:
            file.seek(first.offset + first.length - 1)
            file.write(b"X")
        assert site.journal.read(second).seq == 1
        for damaged in (first, appended.location):
            with pytest.raises(CorruptRecord):
                site.journal.read(damaged)


@pytest.mark.parametrize("ends", ["truncated", "begun anew", "applied"])
def test_a_log_knows_the_requests_of_an_entry_of_several_until_it_is_cut_off(ends: str) -> None:
    several, data = put_notes(TWO)
    log = ShardLog(Seq(0), Epoch(0))
    log.append(
        Entry(
            *(Epoch(1), Seq(1), PUT_NOTES.record, NOBODY, encode_operation(several), data),
            *(several, touched(several)),
        )
    )
    assert log.requests.find(TWO[0][1]) == 1
    assert log.requests.find(NOBODY) is None, "the second has no id"
    assert log.has_requests_above(Seq(0))
    if ends == "truncated":
        log.truncate(Seq(1))
    elif ends == "begun anew":
        log.restart_at(Seq(5), Epoch(2))
    else:
        log.commit_to(Seq(1))
        log.requests.applied(log.applied_to(Seq(1)), 0.0)
        assert log.requests.pairs() == [(TWO[0][1], 1)]
        return
    assert log.requests.find(TWO[0][1]) is None
    assert log.dirty == {}
