"""What rows named and name no more is in the queue, on every replica alike; nothing else is."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.engine_site import BUCKET
from tests.unit.index.twin_index import TwinIndex
from tests.unit.journal.journal_site import SHARD
from tests.unit.upkeep.extent_oracle import STEPS, ExtentOracle, ExtentScript, Step

from octad.sharding.hashing import object_hash
from octad.sharding.ids import Epoch, NodeId, PoolId, Seq, pool_of
from octad.storage_node.index.index_format import (
    DEAD_EXTENTS,
    OBJECTS,
    PARTS,
    PIECES,
    SEGMENT_USES,
    SHARD_ORDER,
    DeadExtents,
    IndexedPiece,
    dead_key,
    decode_dead_extents,
    decode_object,
    decode_part,
    decode_piece,
    decode_piece_key,
    decode_shard_order_key,
    encode_value,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.rows import ExtentRef, ObjectRow, PartRow
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.operations.index_changes import (
    CompleteUpload,
    DropExtent,
    IndexChanges,
    Operation,
    PutPart,
    decode_operation,
    encode_operation,
    hashes_of,
    kind_of,
    put_object,
    touched,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "index" / "extents-v1.hex"
HERE = Location(SegmentId(3), 4096, 4400)


def operations_of(steps: list[Step]) -> ExtentScript:
    script = ExtentScript()
    for step in steps:
        script.step(step)
    return script


def applied(operations: list[Operation], batches: list[int]) -> TwinIndex:
    """An index that was given the operations in batches of these sizes, over and over."""
    index = TwinIndex()
    sizes = itertools.cycle(batches)
    seq = 0
    while seq < len(operations):
        changes = IndexChanges(index.get)
        for operation in operations[seq : seq + next(sizes)]:
            seq += 1
            changes.apply(operation, HERE, SHARD, Epoch(1), Seq(seq))
        puts, deletes = changes.split()
        index.write(puts, deletes, changes.before)
    return index


def queued_in(index: TwinIndex) -> dict[tuple[bytes, Seq], set[bytes]]:
    entries = [decode_dead_extents(v) for _, v in index.scan(DEAD_EXTENTS, past(DEAD_EXTENTS))]
    return {(entry.key, entry.seq): {each.id for each in entry.extents} for entry in entries}


def named_in(index: TwinIndex) -> set[bytes]:
    rows = [decode_object(value).row.extents for _, value in index.scan(OBJECTS, past(OBJECTS))]
    rows += [decode_part(value).row.extents for _, value in index.scan(PARTS, past(PARTS))]
    return {extent.id for extents in rows for extent in extents}


def pieces_in(index: TwinIndex) -> set[tuple[bytes, int]]:
    return {decode_piece_key(key) for key, _ in index.scan(PIECES, past(PIECES))}


def rows_of(index: TwinIndex) -> list[tuple[bytes, bytes]]:
    """All that replicas have in common: not the use of a node's own segments."""
    return [item for item in index.scan(b"") if not item[0].startswith(SEGMENT_USES)]


def expect(index: TwinIndex, oracle: ExtentOracle) -> None:
    assert named_in(index) == oracle.named()
    assert queued_in(index) == oracle.queue
    assert pieces_in(index) == oracle.pieces


@given(STEPS, st.lists(st.integers(1, 9), min_size=1))
@settings(max_examples=300, deadline=None)
def test_what_no_row_names_any_more_is_queued_and_nothing_else(
    steps: list[Step], batches: list[int]
) -> None:
    script = operations_of(steps)
    index = applied(script.operations, batches)
    expect(index, script.oracle)
    assert not named_in(index) & set().union(*queued_in(index).values())
    assert index.counted().live_bytes() == index.ledger.live_bytes()


@given(STEPS, st.lists(st.integers(1, 9), min_size=1))
@settings(max_examples=100, deadline=None)
def test_replicas_that_apply_in_other_batches_have_the_same_index(
    steps: list[Step], batches: list[int]
) -> None:
    operations = operations_of(steps).operations
    assert rows_of(applied(operations, batches)) == rows_of(applied(operations, [1]))


@given(STEPS)
@settings(max_examples=50, deadline=None)
def test_every_entry_of_the_queue_has_its_place_in_the_order_of_shards(steps: list[Step]) -> None:
    index = applied(operations_of(steps).operations, [3])
    for key, value in index.scan(DEAD_EXTENTS, past(DEAD_EXTENTS)):
        entry = decode_dead_extents(value)
        assert key == dead_key(object_hash(entry.bucket, entry.key), entry.bucket, entry.seq)
        assert entry.pool == pool_of(SHARD)
    tables = DEAD_EXTENTS + OBJECTS + PARTS + PIECES
    rows = {key for key, _ in index.scan(b"") if key[:1] in [bytes([each]) for each in tables]}
    ordered = {decode_shard_order_key(key) for key, _ in index.scan(SHARD_ORDER, past(SHARD_ORDER))}
    assert rows <= ordered


def test_completing_moves_extents_to_the_object_and_queues_what_was_not_chosen() -> None:
    script = operations_of([(4, 0, 0, 0), (5, 0, 0, 1), (5, 0, 0, 2), (5, 0, 0, 2), (8, 0, 0, 1)])
    first, replaced, last = [each for each in script.operations if isinstance(each, PutPart)]
    complete = script.operations[-1]
    assert isinstance(complete, CompleteUpload)
    assert complete.row.extents == first.row.extents
    index = applied(script.operations, [100])
    dead = set().union(*queued_in(index).values())
    assert dead == {each.id for part in (replaced, last) for each in part.row.extents}


def test_the_same_row_again_frees_nothing() -> None:
    """A retry inside the cluster that was ordered twice."""
    extents = (ExtentRef(bytes(16), 5),)
    put = put_object(BUCKET, b"a", ObjectRow(5, "", 0, extents=extents))
    part = PutPart(BUCKET, b"a", bytes(16), 1, PartRow(5, "", 0, extents=extents))
    for operation in (put, part):
        assert queued_in(applied([operation, operation], [1])) == {}


@given(STEPS)
@settings(max_examples=30, deadline=None)
def test_operations_on_extents_come_back_from_their_bytes(steps: list[Step]) -> None:
    for operation in operations_of(steps).operations:
        assert decode_operation(kind_of(operation), encode_operation(operation)) == operation


def test_a_drop_touches_every_piece_so_that_none_is_copied_behind_it() -> None:
    drop = DropExtent(bytes(16), 3)
    assert len(touched(drop)) == 3
    assert hashes_of(drop)


def test_the_bytes_of_pieces_and_dead_extents_are_those_on_record() -> None:
    piece = IndexedPiece(
        HERE,
        Epoch(2),
        Seq(9),
        BUCKET,
        PoolId(1),
        b"key",
        bytes(range(16)),
        1_700_000_000_000,
        NodeId(3),
    )
    extents = (ExtentRef(bytes(range(16, 32)), 67108864),)
    dead = DeadExtents(PoolId(1), BUCKET, b"key", b"", Seq(9), extents)
    lines = [
        encode_value(piece),
        dead_key(object_hash(BUCKET, b"key"), BUCKET, Seq(9)),
        encode_value(dead),
    ]
    golden = GOLDEN.read_text().splitlines()
    assert [line.hex() for line in lines] == golden
    assert decode_piece(bytes.fromhex(golden[0])) == piece
    assert decode_dead_extents(bytes.fromhex(golden[2])) == dead


def test_a_piece_of_the_first_format_has_no_key() -> None:
    assert decode_piece(encode_value((HERE, 1, 1, 1))).key == b""
