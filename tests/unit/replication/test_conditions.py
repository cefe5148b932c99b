"""Conditions against a model of them, and their guards on rows that are prepared."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.ids import BucketId, Epoch, PoolId, Seq, shard_id
from octad.storage_node.index.index_format import (
    IndexedObject,
    IndexedPart,
    IndexedUpload,
    encode_value,
    object_key,
    part_key,
    upload_key,
)
from octad.storage_node.index.rows import ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.record_format import Location, RecordKind, SegmentId
from octad.storage_node.operations.conditions import (
    ANY_ETAG,
    Condition,
    decode_condition,
    encode_condition,
)
from octad.storage_node.operations.index_changes import (
    CompleteUpload,
    DeleteObject,
    Operation,
    PutObject,
    PutPart,
    Refused,
    encode_operation,
    put_object,
    touched,
)
from octad.storage_node.replication.guards import (
    Guard,
    Refusal,
    RefusalCode,
    completion,
    conditional,
    unmet,
)
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.shard_log import Entry, ShardLog
from octad.storage_node.replication.writes import received_write, write_of

BUCKET, KEY, UPLOAD = BucketId(1), b"key", b"an upload's id.."
NOWHERE = Location(SegmentId(0), 0, 0)
OBJECT = object_key(BUCKET, KEY)
ETAGS = ("a", "b", "c")

etags = st.lists(st.sampled_from((*ETAGS, ANY_ETAG)), max_size=2).map(tuple)
versions = st.tuples(st.integers(0, 2).map(Epoch), st.integers(0, 2).map(Seq))
conditions = st.builds(
    Condition,
    match=etags,
    none_match=etags,
    version=st.none() | versions,
    size=st.none() | st.integers(0, 2),
    modified_s=st.none() | st.integers(0, 2),
    or_absent=st.booleans(),
)
objects = st.none() | st.builds(
    lambda version, size, etag, ms: IndexedObject(
        NOWHERE, version[0], version[1], ObjectRow(size, etag, ms)
    ),
    versions,
    st.integers(0, 2),
    st.sampled_from(ETAGS),
    st.integers(0, 2999),
)


def asked(condition: Condition) -> dict[RefusalCode, Callable[[IndexedObject], bool]]:
    """Each part of the condition that is set, and what it says of an object that is there."""
    c = condition
    parts: dict[RefusalCode, Callable[[IndexedObject], bool]] = {
        RefusalCode.IF_MATCH: lambda o: "*" in c.match or o.row.etag in c.match,
        RefusalCode.IF_NONE_MATCH: lambda o: (
            "*" not in c.none_match and o.row.etag not in c.none_match
        ),
        RefusalCode.IF_VERSION: lambda o: (o.epoch, o.seq) == c.version,
        RefusalCode.IF_SIZE: lambda o: o.row.size == c.size,
        RefusalCode.IF_MODIFIED: lambda o: o.row.modified_ms // 1000 == c.modified_s,
    }
    is_set = (c.match != (), c.none_match != (), c.version is not None, c.size is not None)
    used = zip(parts.items(), (*is_set, c.modified_s is not None), strict=True)
    return {code: holds for (code, holds), wanted in used if wanted}


@given(conditions, objects)
def test_a_write_is_refused_by_the_first_part_of_its_condition_that_does_not_hold(
    condition: Condition, standing: IndexedObject | None
) -> None:
    parts = asked(condition)
    if standing is not None:
        failing = [code for code, holds in parts.items() if not holds(standing)]
        assert unmet(condition, standing) == (failing[0] if failing else None)
    elif condition.or_absent or parts.keys() <= {RefusalCode.IF_NONE_MATCH}:
        assert unmet(condition, standing) is None
    else:
        assert unmet(condition, standing) == RefusalCode.NO_SUCH_KEY


@given(conditions)
def test_a_condition_is_the_same_at_the_other_end(condition: Condition) -> None:
    assert decode_condition(encode_condition(condition)) == condition


def test_what_a_newer_octad_asks_besides_is_refused_by_its_name() -> None:
    newer = msgspec.msgpack.encode({"match": ["a"], "owner": "somebody"})
    with pytest.raises(msgspec.ValidationError, match="owner"):
        decode_condition(newer)


def test_only_what_makes_or_deletes_an_object_takes_a_condition() -> None:
    part = PutPart(BUCKET, KEY, UPLOAD, 1, PartRow(1, "etag", 0))
    anything = Condition(match=("*",))
    with pytest.raises(ValueError, match="PutPart"):
        received_write(
            RecordKind.PUT_PART, encode_operation(part), bytes(16), memoryview(b""), 0.0,
            Epoch(1), anything,
        )  # fmt: skip
    gone = DeleteObject(BUCKET, KEY)
    write = received_write(
        RecordKind.DELETE_OBJECT, encode_operation(gone), bytes(16), memoryview(b""), 0.0,
        Epoch(1), anything,
    )  # fmt: skip
    assert write.guard is not None


class Shard:
    """A log above an index."""

    def __init__(self) -> None:
        self.index: dict[bytes, bytes] = {}
        self.log = ShardLog(Seq(100), Epoch(5))

    def get(self, key: bytes) -> bytes | None:
        return self.index.get(key)

    def scan(self, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        return [item for item in sorted(self.index.items()) if start <= item[0] < (end or b"\xff")]

    def prepare(self, operation: Operation) -> Seq:
        write = write_of(operation, bytes(16))
        seq = Seq(self.log.end + 1)
        self.log.append(
            Entry(Epoch(6), seq, write.kind, bytes(16), write.metadata, b"", operation,
                  touched(operation))
        )  # fmt: skip
        return seq

    def decide(self, guard: Guard) -> tuple[Operation | Refusal, list[bytes]]:
        rows = PreparedRows(shard_id(PoolId(0), 0), self.log, self)
        return guard(rows), rows.looked_at


def put(etag: str) -> PutObject:
    return put_object(BUCKET, KEY, ObjectRow(1, etag, 0))


def test_a_condition_is_one_on_what_is_prepared_and_not_yet_in_the_index() -> None:
    shard, new = Shard(), put("new")
    absent = conditional(Condition(none_match=("*",)), new)
    assert shard.decide(absent) == (new, [OBJECT])
    seq = shard.prepare(put("a"))
    refused, looked_at = shard.decide(absent)
    assert isinstance(refused, Refusal)
    assert (refused.code, looked_at) == (RefusalCode.IF_NONE_MATCH, [OBJECT])
    of_it = Condition(version=(Epoch(6), seq))
    assert shard.decide(conditional(of_it, new))[0] is new
    shard.prepare(put("a"))
    refused, _ = shard.decide(conditional(of_it, new))
    assert isinstance(refused, Refusal)
    assert refused.code == RefusalCode.IF_VERSION
    shard.prepare(DeleteObject(BUCKET, KEY))
    assert shard.decide(absent)[0] is new


def completed(shard: Shard, condition: Condition) -> int:
    """The code of the refusal; 0: the upload is completed."""
    row = ObjectRow(0, "whole", 0)
    decision, looked_at = shard.decide(
        completion(BUCKET, KEY, UPLOAD, row, [(1, "part")], condition)
    )
    assert OBJECT in looked_at
    assert isinstance(decision, Refusal | CompleteUpload)
    return decision.code if isinstance(decision, Refusal) else 0


@pytest.mark.parametrize(
    ("stands", "condition", "code"),
    [
        ((5, 9), Condition(match=("a",)), 0),
        ((5, 11), Condition(match=("a",)), RefusalCode.OVERTAKEN),
        ((6, 3), Condition(match=("a",)), RefusalCode.OVERTAKEN),  # After a recovery by force.
        ((4, 11), Condition(match=("a",)), 0),
        ((5, 11), Condition(none_match=("b",)), RefusalCode.OVERTAKEN),
        ((5, 11), Condition(match=("b",)), RefusalCode.IF_MATCH),
        ((5, 11), Condition(none_match=("*",)), RefusalCode.IF_NONE_MATCH),
        ((5, 11), Condition(version=(Epoch(5), Seq(11))), 0),
        ((5, 11), Condition(version=(Epoch(5), Seq(9))), RefusalCode.IF_VERSION),
        (None, Condition(none_match=("*",)), 0),
        (None, Condition(match=("a",)), RefusalCode.NO_SUCH_KEY),
    ],
)
def test_a_completion_replaces_nothing_that_is_younger_than_its_upload(
    stands: tuple[int, int] | None, condition: Condition, code: int
) -> None:
    shard = Shard()
    begun = IndexedUpload(NOWHERE, Epoch(5), Seq(10), UploadRow(0, "owner"))
    part = IndexedPart(NOWHERE, Epoch(5), Seq(11), PartRow(1, "part", 0))
    shard.index[upload_key(BUCKET, KEY, UPLOAD)] = encode_value(begun)
    shard.index[part_key(BUCKET, KEY, UPLOAD, 1)] = encode_value(part)
    if stands is not None:
        epoch, seq = Epoch(stands[0]), Seq(stands[1])
        shard.index[OBJECT] = encode_value(IndexedObject(NOWHERE, epoch, seq, ObjectRow(1, "a", 0)))
    assert completed(shard, condition) == code


def test_an_upload_that_is_closed_is_refused_before_any_condition() -> None:
    shard = Shard()
    decision, _ = shard.decide(
        completion(BUCKET, KEY, UPLOAD, ObjectRow(0, "", 0), [], Condition(match=("a",)))
    )
    assert isinstance(decision, Refusal)
    assert decision.code == RefusalCode.NO_SUCH_UPLOAD


def test_a_refusal_that_is_an_entry_keeps_which_condition_it_was() -> None:
    write = write_of(put("new"), bytes(16), b"data", condition=Condition(match=("a",)))
    refused = write.decided(Refusal(RefusalCode.IF_MATCH, ""))
    assert refused.operation == Refused(BUCKET, KEY, RefusalCode.IF_MATCH)
    assert refused.data == b""
