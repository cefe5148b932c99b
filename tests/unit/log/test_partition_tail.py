"""The decisions of a partition's primary, by the rules of `docs/reference/log.md`."""

from __future__ import annotations

import pytest

from octad.sharding.ids import BucketId, Epoch, Seq
from octad.storage_node.index.index_format import encode_value
from octad.storage_node.index.partition_rows import (
    NO_TOKEN,
    BatchRow,
    IndexedBatch,
    IndexedFence,
    IndexedPin,
    IndexedState,
    KeptBatch,
    PartitionId,
    PartitionState,
    ProducerState,
    base_of,
    batch_key,
    decode_batch,
    decode_fence,
    decode_pin,
    decode_state,
    fence_of,
    job_of,
    named_pin,
    partition_key,
    partition_of,
    pin_of,
)
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.log.partition_tail import (
    IDLE_MS,
    PRODUCERS_MAX,
    SEQUENCES,
    Appending,
    Decision,
    Known,
    PartitionTail,
    Refusal,
)

TERM = Epoch(3)
NOW_MS = 1_000_000_000


def new_tail(state: PartitionState | None = None) -> PartitionTail:
    return PartitionTail(TERM, state, (), Seq(50), NOW_MS)


def append(tail: PartitionTail, batch: Appending, seq: int, now_ms: int = NOW_MS) -> Decision:
    """Decide, and add it where it is to be appended."""
    decision = tail.decide(batch)
    if isinstance(decision, int):
        last = decision + batch.records - 1
        of_producer = batch.producer, batch.producer_epoch, batch.sequence
        tail.add(decision, BatchRow(last, 0, 0, TERM, *of_producer), Seq(seq), now_ms)
    return decision


def of(producer: int, sequence: int, records: int = 1, epoch: int = 0) -> Appending:
    return Appending(records, producer, epoch, sequence)


def test_offsets_are_dense() -> None:
    tail = new_tail()
    assert [append(tail, Appending(n), seq) for seq, n in enumerate((3, 1, 5))] == [0, 3, 4]
    assert tail.next == 9


def test_an_expected_offset_is_taken_once_l6() -> None:
    tail = new_tail()
    assert append(tail, Appending(2, expect_offset=0), 1) == 0
    assert append(tail, Appending(2, expect_offset=0), 2) is Refusal.OFFSET_TAKEN
    assert append(tail, Appending(2, expect_offset=3), 2) is Refusal.OFFSET_AHEAD
    assert append(tail, Appending(2, expect_offset=2), 2) == 2


def test_a_batch_sent_again_is_answered_with_its_offset_and_waits_for_its_entry_l9() -> None:
    tail = new_tail()
    for sequence in range(6):
        append(tail, of(7, sequence), 60 + sequence)
    assert tail.decide(of(7, 3)) == Known(3, Seq(63))
    assert tail.decide(of(7, 0)) is Refusal.DUPLICATE, "the last five are remembered"
    assert tail.decide(of(7, 3, records=2)) is Refusal.DUPLICATE, "it is another batch"


@pytest.mark.parametrize(
    ("batch", "refusal"),
    [
        (of(7, 2), Refusal.OUT_OF_ORDER),
        (of(8, 1), Refusal.UNKNOWN_PRODUCER),
        (of(7, 1, epoch=1), Refusal.OUT_OF_ORDER),
    ],
)
def test_a_sequence_with_a_gap_before_it_is_refused_l12(batch: Appending, refusal: Refusal) -> None:
    tail = new_tail()
    append(tail, of(7, 0), 1)
    assert append(tail, batch, 2) is refusal
    assert tail.next == 1


def test_a_producer_of_an_older_epoch_is_fenced() -> None:
    tail = new_tail()
    append(tail, of(7, 0), 1)
    assert append(tail, of(7, 0, epoch=1), 2) == 1
    assert append(tail, of(7, 1), 3) is Refusal.FENCED


def test_a_job_appends_with_its_token_or_a_higher_one_and_with_no_other_l41() -> None:
    tail = new_tail()
    assert tail.decide(Appending(1, token=0)) == 0, "no fence stands"
    for token in (NO_TOKEN, 0, 6):
        assert tail.decide(Appending(1, token=token, fence=7)) is Refusal.FENCED_JOB
    assert tail.decide(Appending(1, token=7, fence=7)) == 0
    assert tail.decide(Appending(1, token=8, fence=7)) == 0


def test_a_fenced_job_hears_where_it_appended_before_and_nothing_else_l41() -> None:
    tail = new_tail()
    append(tail, of(7, 0), 60)
    fenced = {"token": 6, "fence": 7}
    assert tail.decide(Appending(1, 7, 0, 0, **fenced)) == Known(0, Seq(60))
    assert tail.decide(Appending(1, 7, 0, 5, **fenced)) is Refusal.FENCED_JOB
    assert tail.decide(Appending(1, expect_offset=0, **fenced)) is Refusal.FENCED_JOB


def test_a_sequence_begins_anew_after_the_last_one() -> None:
    tail = new_tail(
        PartitionState(9, (ProducerState(7, 0, (KeptBatch(SEQUENCES - 2, 1, 8),), NOW_MS),))
    )
    assert append(tail, of(7, SEQUENCES - 1, records=3), 60) == 9
    assert append(tail, of(7, 2), 61) == 12
    assert append(tail, of(7, SEQUENCES - 1, records=3), 62) == Known(9, Seq(60))


def test_what_is_kept_makes_the_same_tail_l8_l10() -> None:
    """And what it is answered with waits for all that was in the log when it was made (L9)."""
    tail = new_tail()
    for sequence in range(3):
        append(tail, of(7, 2 * sequence, records=2), sequence)
    kept = decode_state(
        encode_value(IndexedState(Location(SegmentId(1), 0, 0), TERM, Seq(9), tail.state(NOW_MS)))
    ).state
    append(tail, of(7, 6), 8)
    row = BatchRow(6, 0, 0, TERM, 7, 0, 6)
    other = PartitionTail(TERM, kept, [(6, row, Seq(8))], Seq(50), NOW_MS)
    assert other.state(NOW_MS) == tail.state(NOW_MS)
    assert other.kept_next == 6, "batches below it may be dropped (L11), and no other"
    assert other.decide(of(7, 2, records=2)) == Known(2, Seq(50)), "no one is told too early"
    assert other.decide(of(7, 6)) == Known(6, Seq(8))


def test_an_idle_producer_is_forgotten_in_a_state_row_only_l12() -> None:
    tail = new_tail()
    append(tail, of(7, 0), 1)
    append(tail, of(8, 0), 2, NOW_MS + IDLE_MS)
    assert [each.id for each in tail.state(NOW_MS + IDLE_MS).producers] == [8]
    assert tail.decide(of(7, 1)) is Refusal.UNKNOWN_PRODUCER


def test_there_are_at_most_so_many_producers_and_those_that_are_there_go_on_l12() -> None:
    tail = new_tail()
    for producer in range(PRODUCERS_MAX):
        append(tail, of(producer, 0), 1)
    assert tail.decide(of(PRODUCERS_MAX, 0)) is Refusal.TOO_MANY_PRODUCERS
    assert tail.decide(of(5, 1)) == PRODUCERS_MAX
    assert tail.decide(Appending(1)) == PRODUCERS_MAX


def test_each_term_is_kept_with_its_first_offset_l16() -> None:
    tail = new_tail(PartitionState(9, (), ((1, 0), (2, 4))))
    append(tail, Appending(2), 1)
    append(tail, Appending(2), 2)
    assert tail.state(NOW_MS).terms == ((1, 0), (2, 4), (3, 9))


def test_the_rows_bytes_are_as_they_were_first_written() -> None:
    partition = PartitionId(BucketId(7), 2)
    key = batch_key(partition, 9)
    assert key.hex() == "6c00000007000000020000000000000009"
    assert partition_key(partition, b"n").hex() == "6b00000007000000026e"
    assert (base_of(key), partition_of(key)) == (9, partition)
    row = BatchRow(11, 1005, 0, 3, 7, 1, 9, b"", 0, 100, 300, 1009)
    batch = IndexedBatch(Location(SegmentId(1), 4096, 200), Epoch(4), Seq(12), row)
    golden = bytes.fromhex("949301cd1000ccc8040c9c0bcd03ed0003070109c4000064cd012ccd03f1")
    assert encode_value(batch) == golden
    assert decode_batch(golden) == batch
    producers = (ProducerState(7, 1, (KeptBatch(5, 2, 3),), 1000),)
    kept = PartitionState(9, producers, ((3, 0),), (), 300, 1009)
    state = IndexedState(Location(SegmentId(1), 4096, 200), Epoch(4), Seq(12), kept)
    golden = bytes.fromhex("949301cd1000ccc8040c9609919407019193050203cd03e89192030090cd012ccd03f1")
    assert encode_value(state) == golden
    assert decode_state(golden) == state
    key = partition_key(partition, fence_of("a job"))
    assert key.hex() == "6b00000007000000026661206a6f62"
    assert partition_of(key) == partition
    fence = IndexedFence(Location(SegmentId(1), 4096, 200), Epoch(4), Seq(12), 7)
    assert encode_value(fence) == bytes.fromhex("949301cd1000ccc8040c07")
    assert decode_fence(encode_value(fence)) == fence
    assert job_of(key) == "a job"
    key = partition_key(partition, pin_of("a job", "cp 7"))
    assert key.hex() == "6b00000007000000027061206a6f620063702037"
    assert (partition_of(key), named_pin(key)) == (partition, ("a job", "cp 7"))
    pin = IndexedPin(Location(SegmentId(1), 4096, 200), Epoch(4), Seq(12), 9, 1000)
    assert encode_value(pin) == bytes.fromhex("959301cd1000ccc8040c09cd03e8")
    assert decode_pin(encode_value(pin)) == pin
