"""A shard's digest is that of its rows at every entry, however they came to be what they are."""

from __future__ import annotations

import random
from functools import reduce
from operator import xor
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest
from tests.unit.history.copied_work import DEPTH, SHARD, RandomWork

from octad.sharding.ids import BucketId, Epoch, PoolId, Seq, ShardId
from octad.storage_node.index.index_format import (
    ROW_TABLES,
    EncodedRow,
    IndexedPart,
    IndexedPiece,
    decode_shard_order_key,
    decode_shard_state,
    encode_value,
    object_key,
    part_key,
    piece_key,
    shard_order_range,
    upload_key,
)
from octad.storage_node.index.rows import ExtentRef, ObjectRow, PartRow, UploadRow, encode_row
from octad.storage_node.index.shard_digest import (
    FORMAT,
    RECENT_MAX,
    Count,
    Found,
    ShardDigests,
    row_hash,
)
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.journal.shard_state import ShardDigest, ShardState
from octad.storage_node.operations.copy_format import moved
from octad.storage_node.operations.index_changes import IndexChanges

GOLDEN = Path(__file__).parents[2] / "golden" / "index" / "shard-digest-v1.hex"
HERE, THERE = Location(SegmentId(3), 4096, 4400), Location(SegmentId(70_000), 900_000, 4400)
BUCKET, KEY, UPLOAD, EXTENT = BucketId(5), b"a\x00b", bytes(range(16)), bytes(range(16, 32))
EPOCH, SEQ = Epoch(2), Seq(9)
SIBLING = ShardId(SHARD + 1)
EXTENTS = (ExtentRef(EXTENT, 67108864),)
Row: TypeAlias = EncodedRow | IndexedPart | IndexedPiece
ROWS: dict[bytes, Row] = {
    object_key(BUCKET, KEY): EncodedRow(
        HERE,
        EPOCH,
        SEQ,
        encode_row(ObjectRow(5, "0" * 32, 1700000000000, {"content-type": "text/plain"})),
    ),
    upload_key(BUCKET, KEY, UPLOAD): EncodedRow(HERE, EPOCH, SEQ, encode_row(UploadRow(1, "root"))),
    part_key(BUCKET, KEY, UPLOAD, 3): IndexedPart(
        HERE, EPOCH, SEQ, PartRow(67108864, "1" * 32, 1, {}, EXTENTS)
    ),
    piece_key(EXTENT, 63): IndexedPiece(HERE, EPOCH, SEQ, BUCKET, PoolId(1), KEY),
}


class Engine:
    """A shard whose entries are applied in batches to a dictionary."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.work = RandomWork(self.rng)
        self.index: dict[bytes, bytes] = {}
        self.digests = ShardDigests()
        self.seq = 0
        self.at: dict[int, ShardDigest] = {0: self.counted()}

    def write(self, entries: int) -> None:
        """One batch; what the rows are after each entry is counted beside it."""
        changes = IndexChanges(self.index.get, self.digests)
        for _ in range(entries):
            self.seq += 1
            operation, _ = self.work.next()
            place = Location(SegmentId(1), 100 * self.seq, 100)
            changes.apply(operation, place, SHARD, Epoch(1), Seq(self.seq))
            self.at[self.seq] = self.counted(dict(changes.changes))
        puts, deletes = changes.split()
        self.index.update(puts)
        for key in deletes:
            self.index.pop(key, None)

    def counted(self, changes: dict[bytes, bytes | None] | None = None) -> ShardDigest:
        rows = {**self.index, **(changes or {})}
        hashes = [
            row_hash(key, value)
            for key, value in rows.items()
            if value is not None and key[0] in ROW_TABLES
        ]
        return ShardDigest(FORMAT, len(hashes), reduce(xor, hashes, 0))

    def count_some(self, count: Count, end: bytes, rows: int) -> None:
        order = sorted(key for key in self.index if count.cursor <= key < end)[:rows]
        count.cursor = order[-1] + b"\x00" if order else end
        for key in map(decode_shard_order_key, order):
            if key[0] in ROW_TABLES and key in self.index:
                count.add(key, self.index[key])


@pytest.mark.parametrize("seed", range(30))
def test_the_digest_after_each_entry_is_that_of_the_rows(seed: int) -> None:
    engine = Engine(seed)
    for _ in range(40):
        engine.write(engine.rng.randint(1, 9))
        assert engine.digests.seq(SHARD) == engine.seq
        assert engine.digests.now(SHARD) == engine.at[engine.seq] == engine.counted()
    for seq in range(engine.seq - RECENT_MAX + 1, engine.seq + 1):
        assert engine.digests.at(SHARD, Seq(seq)) == engine.at[seq]
    assert engine.digests.at(SHARD, Seq(engine.seq - RECENT_MAX)) is None
    assert engine.digests.at(SHARD, Seq(engine.seq + 1)) is None


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_rows_are_counted_while_they_change(seed: int, known: bool) -> None:
    engine = Engine(seed)
    engine.write(40)
    if not known:
        state = ShardState(Seq(engine.seq), Epoch(1), Epoch(1))
        engine.digests = ShardDigests([(SHARD, state)])
    begin, end = shard_order_range(0, DEPTH)
    count = engine.digests.begin_count(SHARD, begin)
    while count.cursor < end:
        engine.count_some(count, end, engine.rng.randint(1, 4))
        engine.write(engine.rng.randint(0, 3))
    assert engine.digests.counted(count) is (Found.EQUAL if known else Found.NOW_KNOWN)
    assert engine.digests.now(SHARD) == engine.counted()
    engine.write(5)
    assert engine.digests.now(SHARD) == engine.counted()
    assert engine.digests.at(SHARD, Seq(engine.seq - 7)) == engine.at[engine.seq - 7]


def test_a_row_that_goes_behind_the_digests_back_is_found_by_counting() -> None:
    engine = Engine(1)
    engine.write(40)
    del engine.index[next(key for key in engine.index if key[0] in ROW_TABLES)]
    begin, end = shard_order_range(0, DEPTH)
    count = engine.digests.begin_count(SHARD, begin)
    engine.count_some(count, end, 1000)
    engine.count_some(count, end, 1000)
    assert engine.digests.counted(count) is Found.DIFFERENT
    assert engine.digests.now(SHARD) is None
    again = engine.digests.begin_count(SHARD, begin)
    engine.count_some(again, end, 1000)
    engine.count_some(again, end, 1000)
    assert engine.digests.counted(again) is Found.DIFFERENT, "what it lacks, it lacks for good"


def test_where_a_record_lies_does_not_matter_and_all_else_does() -> None:
    for key, row in ROWS.items():
        value = encode_value(row)
        elsewhere = moved(value, HERE, THERE)
        assert elsewhere is not None
        assert row_hash(key, elsewhere) == row_hash(key, value)
        later = encode_value(msgspec.structs.replace(row, seq=Seq(10)))
        assert row_hash(key, later) != row_hash(key, value)
        assert row_hash(key[:-1] + b"\xfe", value) != row_hash(key, value)


def test_a_row_that_moves_keeps_what_a_newer_octad_has_added_to_it() -> None:
    newer = encode_value([HERE, EPOCH, SEQ, [5, "etag", 1, {}, {}, [], [], "new"], "new"])
    assert moved(newer, HERE, THERE) == encode_value(
        [THERE, EPOCH, SEQ, [5, "etag", 1, {}, {}, [], [], "new"], "new"]
    )


def test_a_piece_that_was_written_with_fewer_fields_is_the_same_row() -> None:
    key = piece_key(EXTENT, 1)
    whole = IndexedPiece(HERE, EPOCH, SEQ, BUCKET)
    assert row_hash(key, encode_value((HERE, EPOCH, SEQ, BUCKET))) == row_hash(
        key, encode_value(whole)
    )


def test_the_bytes_of_digests_are_those_on_record() -> None:
    lines = [row_hash(key, encode_value(row)).to_bytes(8, "big") for key, row in ROWS.items()]
    state = ShardState(SEQ, EPOCH, Epoch(3), digest=ShardDigest(FORMAT, 7, 0x0123456789ABCDEF))
    lines.append(encode_value(state))
    assert "".join(line.hex() + "\n" for line in lines) == GOLDEN.read_text()
    assert decode_shard_state(lines[-1]) == state


def test_a_digest_of_another_format_is_counted_anew() -> None:
    state = ShardState(SEQ, EPOCH, EPOCH, digest=ShardDigest(FORMAT + 1, 1, 1))
    assert ShardDigests([(SHARD, state)]).now(SHARD) is None


def test_halves_are_counted_anew_unless_the_whole_was_empty() -> None:
    digests = ShardDigests()
    digests.split(SHARD, SIBLING)
    assert digests.now(SHARD) == digests.now(SIBLING) == ShardDigest(FORMAT, 0, 0)
    for key, row in ROWS.items():
        digests.change(SHARD, key, None, encode_value(row))
    digests.reach(SHARD, SEQ)
    begin, end = shard_order_range(0, DEPTH)
    count = digests.begin_count(SHARD, begin)
    digests.split(SHARD, SIBLING)
    assert digests.now(SHARD) is digests.now(SIBLING) is None
    assert digests.seq(SIBLING) == SEQ
    count.cursor = end
    assert digests.counted(count) is Found.VOID


def test_a_log_that_begins_anew_says_nothing_of_entries_before() -> None:
    digests = ShardDigests()
    digests.reach(SHARD, Seq(4))
    digests.reach(SHARD, Seq(5))
    assert digests.at(SHARD, Seq(4)) is not None
    digests.stand_at(SHARD, Seq(5))
    assert digests.at(SHARD, Seq(4)) is not None
    digests.stand_at(SHARD, Seq(9))
    assert digests.at(SHARD, Seq(5)) is None
    assert digests.at(SHARD, Seq(9)) is not None
