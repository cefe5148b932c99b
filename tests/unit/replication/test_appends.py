"""Appends against a model of them: a row for each piece, wherever its bytes are."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.replication.test_conditions import BUCKET, KEY, NOWHERE, OBJECT, Shard

from octad.client.s3.checksums import checksum_of
from octad.sharding.ids import Epoch, Seq
from octad.storage_node.index.index_format import IndexedObject, encode_value
from octad.storage_node.index.rows import ExtentRef, ObjectExtras, ObjectRow
from octad.storage_node.operations.appends import APPENDS_MAX, AppendedPiece, FormsDiffer
from octad.storage_node.operations.conditions import Condition
from octad.storage_node.operations.index_changes import DeleteObject, PutObject
from octad.storage_node.replication.guards import Refusal, RefusalCode, appending

VERSION = Epoch(5), Seq(9)
CRC, CRC64, SHA = "CRC32", "CRC64NVME", "SHA256"
TAGGED = ObjectExtras({"a": "1"}, "public-read", ("of a part",))
MOVED = (ExtentRef(b"m" * 16, 3),)


def row_of(data: bytes, *, in_extents: bool = False) -> ObjectRow:
    """Of an object of these bytes alone."""
    extents = (ExtentRef(data.ljust(16)[:16], len(data)),) if in_extents and data else ()
    checksums = {CRC: checksum_of(CRC, data)}
    return ObjectRow(len(data), hashlib.md5(data).hexdigest(), 17, {}, checksums, extents)


def piece_of(data: bytes, offset: int, *, in_extents: bool = False) -> AppendedPiece:
    crcs = {name: checksum_of(name, data) for name in (CRC, CRC64)}
    return AppendedPiece(offset, row_of(data, in_extents=in_extents), crcs)


def standing(row: ObjectRow) -> Shard:
    shard = Shard()
    shard.index[OBJECT] = encode_value(IndexedObject(NOWHERE, *VERSION, row))
    return shard


def decided(shard: Shard, piece: AppendedPiece, condition: Condition | None = None) -> ObjectRow:
    decision, looked_at = shard.decide(appending(BUCKET, KEY, piece, condition))
    assert looked_at == [OBJECT]
    assert isinstance(decision, PutObject), decision
    return decision.row


def refusal(shard: Shard, piece: AppendedPiece, condition: Condition | None = None) -> int:
    decision, looked_at = shard.decide(appending(BUCKET, KEY, piece, condition))
    assert looked_at == [OBJECT]
    assert isinstance(decision, Refusal)
    return decision.code


@given(
    st.lists(st.tuples(st.binary(max_size=20), st.integers(-2, 2), st.booleans()), max_size=12),
    st.none() | st.integers(0, 11),
)
def test_a_log_is_the_pieces_whose_offset_was_its_size(
    tries: list[tuple[bytes, int, bool]], deleted_before: int | None
) -> None:
    """Each is decided on what is prepared, of which nothing is in the index yet."""
    shard, whole, etag, pieces = Shard(), b"", "", 0
    for number, (data, beside, in_extents) in enumerate(tries):
        if number == deleted_before:
            shard.prepare(DeleteObject(BUCKET, KEY))
            whole, etag, pieces = b"", "", 0
        offset = max(len(whole) + beside, 0)
        piece = piece_of(data, offset, in_extents=in_extents)
        if offset != len(whole):
            assert refusal(shard, piece) == RefusalCode.WRITE_OFFSET
            continue
        try:
            row = decided(shard, piece)
        except FormsDiffer:
            continue  # It has done nothing.
        shard.prepare(PutObject(BUCKET, KEY, msgspec.Raw(msgspec.msgpack.encode(row))))
        whole, pieces = whole + data, pieces + 1
        md5 = hashlib.md5(data).hexdigest()
        etag = md5 if pieces == 1 else f"{hashlib.md5((etag + md5).encode()).hexdigest()}-{pieces}"
        assert (row.size, row.etag) == (len(whole), etag)
        assert row.checksums == {CRC: checksum_of(CRC, whole)}
        in_row = sum(extent.length for extent in row.extents)
        assert in_row in (0, len(whole)), "all is in extents, or all in the record"


@pytest.mark.parametrize(
    ("before", "piece", "fits"),
    [
        (False, False, True),
        (True, True, True),
        (False, True, False),
        (True, False, False),
    ],
)
def test_a_record_and_extents_do_not_go_together(before: bool, piece: bool, fits: bool) -> None:
    shard = standing(row_of(b"one", in_extents=before))
    append = piece_of(b"two", 3, in_extents=piece)
    if not fits:
        with pytest.raises(FormsDiffer):
            decided(shard, append)
        return
    extents = decided(shard, append).extents
    assert [extent.id.strip() for extent in extents] == ([b"one", b"two"] if before else [])


def test_bytes_that_were_moved_are_those_of_the_version_that_stands() -> None:
    shard = standing(row_of(b"one"))
    append = piece_of(b"two", 3, in_extents=True)
    moved = msgspec.structs.replace(append, moved=MOVED, moved_from=VERSION)
    assert decided(shard, moved).extents == MOVED + append.row.extents
    other = msgspec.structs.replace(moved, moved_from=(Epoch(5), Seq(8)))
    with pytest.raises(FormsDiffer):
        decided(shard, other)
    in_extents = row_of(b"now", in_extents=True)
    assert decided(standing(in_extents), moved).extents == in_extents.extents + append.row.extents


def test_the_offset_and_the_condition_come_before_the_form() -> None:
    shard = standing(row_of(b"one"))
    assert refusal(shard, piece_of(b"two", 4, in_extents=True)) == RefusalCode.WRITE_OFFSET
    other = Condition(match=("other",))
    assert refusal(shard, piece_of(b"two", 3, in_extents=True), other) == RefusalCode.IF_MATCH
    assert refusal(shard, piece_of(b"two", 4), other) == RefusalCode.IF_MATCH
    assert refusal(Shard(), piece_of(b"two", 0), other) == RefusalCode.NO_SUCH_KEY


def test_the_last_append_is_the_ten_thousandth() -> None:
    row = row_of(b"one")
    for appends, refused in ((APPENDS_MAX - 1, False), (APPENDS_MAX, True)):
        shard = standing(msgspec.structs.replace(row, extras=ObjectExtras(appends=appends)))
        if refused:
            assert refusal(shard, piece_of(b"two", 3)) == RefusalCode.TOO_MANY_APPENDS
        else:
            extras = decided(shard, piece_of(b"two", 3)).extras
            assert extras == ObjectExtras(appends=APPENDS_MAX)


def test_what_few_objects_have_stays_but_for_what_is_of_parts() -> None:
    row = msgspec.structs.replace(row_of(b"one"), extras=TAGGED, part_sizes=(3,))
    whole = decided(standing(row), piece_of(b"two", 3))
    assert whole.extras == ObjectExtras({"a": "1"}, "public-read", appends=1)
    assert whole.part_sizes == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({CRC64: checksum_of(CRC64, b"one")}, {CRC64: checksum_of(CRC64, b"onetwo")}),
        ({SHA: checksum_of(SHA, b"one")}, {}),
        ({CRC: f"{checksum_of(CRC, b'one')}-2"}, {}),
        ({"CRC32C": checksum_of("CRC32C", b"one")}, {}),  # The piece came without.
    ],
)
def test_checksums_that_follow_stay_and_others_go(
    before: dict[str, str], after: dict[str, str]
) -> None:
    row = msgspec.structs.replace(row_of(b"one"), checksums=before)
    assert decided(standing(row), piece_of(b"two", 3)).checksums == after
