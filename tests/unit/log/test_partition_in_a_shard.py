"""Appends and trims at a partition, as its shard's primary orders and answers them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypeVar

import pytest
from tests.unit.log.partition_site import batch, codes, site, turns
from tests.unit.replication_host.new_primary import SHARD

from octad.sharding.ids import Epoch
from octad.storage_node.log import partition_tails
from octad.storage_node.log.log_messages import (
    MakeProducer,
    ProducerMade,
)
from octad.storage_node.log.partition_leader import BATCHES_UNKEPT_MAX
from octad.storage_node.log.partition_tail import Refusal
from octad.storage_node.operations.partitions import (
    AppendBatch,
    AppendBatches,
    DropBatches,
    KeepState,
)
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.shards.object_messages import NOT_SERVED, UNAVAILABLE
from octad.storage_node.shards.object_store import (
    OffsetOutOfRange,
)

Result = TypeVar("Result")


async def test_what_comes_in_one_turn_is_one_entry_and_each_batch_has_its_own_row_l14_l15(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        begun = [here.append(batch("a"), batch("b")), here.append(batch("c"), partition=1)]
        begun.append(here.append(batch("d")))
        await turns()
        assert here.ordered == [AppendBatches]
        assert await here.bases(*begun) == [0, 1, 0, 2]
        assert here.rows() == [0, 1, 2]
        alone = here.append(batch("e"))
        await turns()
        assert here.ordered == [AppendBatch]
        assert await here.bases(alone) == [3]
        answer, bases = await here.fetch(1)
        assert (answer.start, answer.next, bases) == (0, 4, [1, 2, 3])


async def test_appends_follow_each_other_without_waiting_and_none_is_shown_before_it_is_committed(
    tmp_path: Path,
) -> None:
    """Rule L17: the mark is the index's, never the tail's."""
    async with site(tmp_path) as here:
        first = here.append(batch("a"))
        await turns()
        second = here.append(batch("b"))
        await turns()
        assert here.ordered == [AppendBatch, AppendBatch]
        log = here.primary.replica.log
        assert log.has_requests_above(log.commit), "someone waits, without a request id"
        answer, bases = await here.fetch(0)
        assert (answer.next, bases) == (0, [])
        assert await here.bases(first, second) == [0, 1]
        answer, bases = await here.fetch(0)
        assert (answer.next, bases) == (2, [0, 1])


async def test_a_refusal_and_a_duplicate_wait_for_what_they_saw_l2_l9(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        first = here.append(batch("a", (7, 0, 0)))
        await turns()
        again = here.append(batch("a", (7, 0, 0)))
        taken = here.append(batch("b"), expect=0, request_id=b"b" * 16)
        ahead = here.append(batch("c"), expect=9, request_id=b"c" * 16)
        await turns()
        assert not any(each.done() for each in (first, again, taken, ahead))
        assert await here.bases(first, again) == [0, 0]
        ((lower,), (higher,)) = await here.answered(taken, ahead)
        assert (lower.code, lower.next) == (Refusal.OFFSET_TAKEN, 1)
        assert (higher.code, higher.next) == (Refusal.OFFSET_AHEAD, 1)


async def test_what_was_seen_of_an_entry_that_never_commits_is_not_answered_l2_l9(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        first = here.append(batch("a", (7, 0, 0)))
        await turns()
        again = here.append(batch("a", (7, 0, 0)))
        taken = here.append(batch("b"), expect=0, request_id=b"b" * 16)
        await turns()
        replica = here.primary.replica
        here.primary.host._perform(replica, replica.primary.step_down())
        found = [await each for each in (first, again, taken)]
        assert [codes(each) for each in found] == [[UNAVAILABLE], [UNAVAILABLE], [UNAVAILABLE]]
        late = await here.append(batch("c"))
        assert codes(late) == [NOT_SERVED]


async def test_a_try_that_comes_again_is_answered_with_the_offset_it_has_l6(
    tmp_path: Path,
) -> None:
    """Also when the entry is applied, and others that follow it: by the row, which keeps the id."""
    async with site(tmp_path) as here:
        mine = b"m" * 16
        first = here.append(batch("a"), expect=0, request_id=mine)
        await turns()
        under_way = here.append(batch("a"), expect=0, request_id=mine, age_s=1.0)
        assert await here.bases(first, under_way) == [0, 0]
        for number in range(20):
            await here.bases(here.append(batch(f"{number}"), batch("and another")))
        mine = b"n" * 16
        await here.bases(here.append(batch("x"), expect=41, request_id=mine))
        await here.bases(here.append(batch("y")))
        again = here.append(batch("x"), expect=41, request_id=mine, age_s=1.0)
        assert await here.bases(again) == [41]
        first = here.append(batch("a"), expect=0, request_id=b"m" * 16, age_s=1.0)
        assert await here.bases(first) == [0]


async def test_a_tail_made_anew_goes_on_where_the_last_one_was_with_what_is_under_way_l8(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(batch("a", (7, 0, 0))))
        under_way = here.append(batch("b", (7, 0, 1)))
        await turns()
        here.leader.tails.forget(SHARD, here.partition)
        after = here.append(batch("c", (7, 0, 2)))
        again = here.append(batch("b", (7, 0, 1)))
        assert await here.bases(under_way, after, again) == [1, 2, 1]


async def test_a_tail_of_another_reign_is_not_used_l8(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(batch("a")))
        tail = here.leader.tails.get(here.primary.replica, here.partition)
        tail.term = Epoch(tail.term - 1)
        tail.next = 99
        assert await here.bases(here.append(batch("b"))) == [1]


async def test_tails_that_are_too_many_go_but_never_before_what_they_decided_is_ordered_l8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_tails, "WEIGHT_MAX", 2)
    async with site(tmp_path) as here:
        for turn in range(2):
            of = [here.append(batch("x", (7, 0, turn * 2)), partition=n) for n in range(5)]
            of += [here.append(batch("y", (7, 0, turn * 2 + 1)), partition=n) for n in range(5)]
            assert await here.bases(*of) == [turn * 2] * 5 + [turn * 2 + 1] * 5
            here.leader.tails.shrink()
            assert here.leader.tails.weight == 2, "one tail, with one producer"


async def test_a_state_is_kept_now_and_then_and_batches_below_it_may_go_l10_l11(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        many = [batch("x") for _ in range(BATCHES_UNKEPT_MAX // 4)]
        for _ in range(4):
            begun = here.append(*many)
            await turns()
            states = here.ordered.count(KeepState)
            await here.bases(begun)
        assert states == 1
        assert here.leader.tails.get(here.primary.replica, here.partition).kept_next == 1000


async def test_trimmed_batches_go_once_a_state_covers_them_and_nothing_is_forgotten_l11_l21(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        for sequence in range(6):
            await here.bases(here.append(batch("x", (7, 0, sequence))))
        with pytest.raises(OffsetOutOfRange, match="0 to 6"):
            await here.trim(7)
        await here.answered(here.trim(6))
        with pytest.raises(OffsetOutOfRange):
            await here.fetch(5)
        dropping = asyncio.create_task(here.upkeep._drop_below(here.partition, 6))
        await turns()
        assert here.ordered == [KeepState, DropBatches]
        await here.answered(dropping)
        assert here.rows() == []
        here.leader.tails.forget(SHARD, here.partition)
        again, after = here.append(batch("x", (7, 0, 5))), here.append(batch("x", (7, 0, 6)))
        assert await here.bases(again, after) == [5, 6]
        answer, bases = await here.fetch(6)
        assert (answer.start, answer.next, bases) == (6, 7, [6])


async def test_a_producers_id_is_given_once_l24(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        asked = MakeProducer(SHARD, here.topic)
        begun: list[asyncio.Task[Answer]] = [
            asyncio.create_task(here.changes.make_producer(asked)) for _ in range(3)
        ]
        await turns()
        assert not any(each.done() for each in begun), "none is told before it is committed"
        ids = [answer for answer, _ in await here.answered(*begun)]
        first = here.topic << 32
        assert ids == [ProducerMade(first + n) for n in (1, 2, 3)]
