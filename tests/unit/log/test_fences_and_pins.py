"""Fences and pins at a partition, as its shard's primary orders and answers them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec import structs
from tests.unit.log.partition_site import batch, codes, site, turns
from tests.unit.replication_host.new_primary import SHARD

from octad.storage_node.log import partition_changes
from octad.storage_node.log.log_messages import (
    FenceStands,
    PinPartition,
)
from octad.storage_node.log.partition_tail import Refusal
from octad.storage_node.operations.partitions import (
    AppendBatch,
    RaiseFence,
    RaiseLogStart,
    SetPin,
)
from octad.storage_node.shards.object_store import (
    NotServed,
    OffsetOutOfRange,
    PinExists,
    Pinned,
    TooManyAtPartition,
)

Result = TypeVar("Result")


async def test_a_fence_is_only_ever_raised_and_refuses_its_job_alone_l41(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        first = await here.answered(here.fence("a", 7), here.fence("a", 5), here.fence("b", 0))
        assert [answer for answer, _ in first] == [FenceStands(7), FenceStands(7), FenceStands(0)]
        lower = here.append(batch("x"), job="a", token=6)
        none = here.append(batch("x"), job="a")
        for refused in await here.answered(lower, none):
            assert [(each.code, each.fence) for each in refused] == [(Refusal.FENCED_JOB, 7)]
        taken = here.append(batch("1"), job="a", token=7), here.append(batch("2"), job="a", token=8)
        others = here.append(batch("3"), job="b", token=0), here.append(batch("4"))
        unknown = here.append(batch("5"), job="c")
        assert await here.bases(*taken, *others, unknown) == [0, 1, 2, 3, 4]
        ((answer, _),) = await here.answered(here.fence("a", 6))
        assert answer == FenceStands(7), "one that comes late changes nothing"


async def test_a_fence_counts_when_it_is_ordered_and_is_told_when_it_is_committed_l41_l2(
    tmp_path: Path,
) -> None:
    """Whatever is done with the tail meanwhile."""
    async with site(tmp_path) as here:
        before = here.append(batch("a"), job="a")
        await turns()
        fence = here.fence("a", 7)
        await turns()
        here.leader.tails.forget(SHARD, here.partition)
        after = here.append(batch("b"), job="a")
        await turns()
        assert here.ordered == [AppendBatch, RaiseFence]
        assert not any(each.done() for each in (before, fence, after))
        refused = (await here.answered(before, after))[1]
        assert codes(refused) == [Refusal.FENCED_JOB]
        await here.answered(fence)
        replica = here.primary.replica
        here.primary.host._perform(replica, replica.primary.step_down())
        with pytest.raises(NotServed):
            await here.fence("a", 8)


async def test_a_partition_has_so_many_fences_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_changes, "FENCES_MAX", 2)
    async with site(tmp_path) as here:
        await here.answered(here.fence("a", 1), here.fence("b", 1))
        with pytest.raises(TooManyAtPartition):
            await here.answered(here.fence("c", 1))
        await here.answered(here.fence("a", 2))


async def test_no_trim_goes_past_a_pin_until_it_is_released_l11_l22_l43(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(*(batch(f"{n}") for n in range(6))))
        await here.answered(here.pin("a", 2), here.pin("b", 4), here.pin("end", 6))
        await here.answered(here.trim(2))
        with pytest.raises(Pinned, match="from 2 on is kept for the pin a of job"):
            await here.answered(here.trim(3))
        await here.answered(here.release("a"), here.release("never made"))
        with pytest.raises(Pinned, match="from 4 on"):
            await here.answered(here.trim(5))
        await here.answered(here.trim(4))
        assert await here.pins() == {"b": 4, "end": 6}
        with pytest.raises(OffsetOutOfRange, match="4 to 6"):
            await here.answered(here.pin("too late", 3))
        with pytest.raises(OffsetOutOfRange, match="4 to 6"):
            await here.answered(here.pin("too early", 7))
        with pytest.raises(PinExists, match="the pin b of job is at 4"):
            await here.answered(here.pin("b", 5))
        await here.answered(here.pin("b", 4))


async def test_pins_and_trims_see_each_other_before_either_is_committed_l1_l22(
    tmp_path: Path,
) -> None:
    """And what is refused is told only when what it saw is committed (L2)."""
    async with site(tmp_path) as here:
        await here.bases(here.append(*(batch(f"{n}") for n in range(6))))
        pin = here.pin("a", 2)
        await turns()
        trim = here.trim(3)
        await turns()
        assert here.ordered == [SetPin]
        assert not pin.done()
        assert not trim.done()
        await here.answered(pin)
        with pytest.raises(Pinned):
            await trim
        trim = here.trim(1)
        await turns()
        late = here.pin("b", 0)
        await turns()
        assert here.ordered == [RaiseLogStart]
        assert not late.done()
        await here.answered(trim)
        with pytest.raises(OffsetOutOfRange, match="1 to 6"):
            await late
        assert await here.pins() == {"a": 2}


async def test_a_pin_that_is_sent_again_after_its_release_is_not_there_again_l22(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(batch("a")))
        pin = PinPartition(SHARD, *here.partition, "job", "a", 0, b"p" * 16)
        await here.answered(asyncio.create_task(here.changes.pin(pin)))
        await here.answered(here.release("a"))
        late = structs.replace(pin, age_s=1.0)
        await here.answered(asyncio.create_task(here.changes.pin(late)))
        assert await here.pins() == {}


async def test_a_partition_has_so_many_pins_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_changes, "PINS_MAX", 2)
    async with site(tmp_path) as here:
        await here.answered(here.pin("a", 0), here.pin("b", 0))
        with pytest.raises(TooManyAtPartition):
            await here.answered(here.pin("c", 0))
        await here.answered(here.release("a"))
        await here.answered(here.pin("c", 0))
