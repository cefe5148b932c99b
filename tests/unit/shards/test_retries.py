"""Requests that meet a dead, moved, starting or silent node: tried again, and applied once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.shards.fake_shard import (
    DIES_AFTER,
    DIES_BEFORE,
    FAULTS,
    IS_CUT_OFF,
    IS_FULL,
    LATE,
    NODES,
    POOL,
    REFUSES,
    SHARD,
    FakeShard,
    a_write,
    schedule_of,
)

from octad.sharding import limits
from octad.storage_node.rpc.rpc_errors import RemoteError
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards import retry, shard_client
from octad.storage_node.shards.object_store import (
    Damaged,
    DiskFull,
    NoSuchUpload,
    OutcomeForgotten,
    Unavailable,
)

READ = messages.ReadPiece(SHARD, bytes(16), 0)


@pytest.fixture(autouse=True, scope="module")
def _short_pauses() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "RETRY_PAUSE_S_MIN", 0.0005)
        patch.setattr(retry, "RETRY_PAUSE_S_MAX", 0.002)
        patch.setattr(limits, "REQUEST_RETRY_S_MAX", 2.0)
        yield


async def write(shard: FakeShard, what: bytes, age_s: float = 0.0) -> int:
    done = await shard.client.propose(POOL, a_write(what, b"data", age_s))
    return done.copies


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(FAULTS), max_size=5), min_size=1, max_size=4))
def test_every_acknowledged_write_is_applied_exactly_once(schedules: list[list[str]]) -> None:
    async def run() -> None:
        shard = FakeShard()
        writes = [b"write %d" % number for number in range(len(schedules))]
        for what, faults in zip(writes, schedules, strict=True):
            shard.schedules[what] = schedule_of(faults)
        await asyncio.gather(*(write(shard, what) for what in writes))
        assert sorted(shard.log) == sorted(writes)

    asyncio.run(run())


async def test_a_write_retried_after_somebody_elses_does_not_come_back() -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = schedule_of([DIES_AFTER])

    async def other() -> None:
        while not shard.log:
            await asyncio.sleep(0)
        await write(shard, b"B")

    await asyncio.gather(other(), write(shard, b"A"))
    assert shard.log == [b"A", b"B"]


async def test_a_try_that_arrives_after_the_next_one_changes_nothing() -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = schedule_of([LATE])
    await write(shard, b"A")
    assert shard.log == [b"A"]
    assert len(shard.ages) == 2


@pytest.mark.parametrize("fault", [REFUSES, IS_CUT_OFF])
async def test_a_try_without_effect_does_not_make_the_request_older(fault: str) -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = schedule_of([fault, fault])
    await write(shard, b"A")
    assert shard.ages == [0.0]


@pytest.mark.parametrize(
    ("faults", "did_nothing"),
    [([], True), ([REFUSES, IS_CUT_OFF], True), ([LATE], False), ([DIES_BEFORE, REFUSES], False)],
)
async def test_of_a_full_disk_it_is_known_whether_a_try_before_may_have_had_an_effect(
    faults: list[str], did_nothing: bool
) -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = schedule_of([*faults, IS_FULL])
    with pytest.raises(DiskFull) as ended:
        await write(shard, b"A")
    assert ended.value.did_nothing == did_nothing


async def test_the_age_counts_from_the_first_try_that_may_have_had_an_effect() -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = schedule_of([REFUSES, DIES_BEFORE, REFUSES, REFUSES])
    started = time.monotonic()
    await write(shard, b"A")
    assert 0 < shard.ages[-1] <= time.monotonic() - started


async def test_each_try_of_a_change_names_the_epoch_of_the_configuration_that_it_goes_by() -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = schedule_of([DIES_BEFORE, REFUSES])
    await write(shard, b"A")
    assert shard.asked_in == [1, 2, 2]


async def test_a_request_that_was_old_when_it_came_is_older_at_every_try() -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = schedule_of([DIES_AFTER])
    await write(shard, b"A", age_s=30.0)
    assert shard.ages[0] == 30.0
    assert shard.ages[1] > 30.0


async def test_a_first_try_that_succeeds_makes_no_task_and_no_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = FakeShard()
    monkeypatch.setattr(shard_client, "Patience", None)
    tasks = asyncio.all_tasks()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_at", None)
    writing = write(shard, b"A")
    assert await writing == 0
    assert asyncio.all_tasks() == tasks


async def test_patience_ends() -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = [REFUSES] * 10_000
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "REQUEST_RETRY_S_MAX", 0.1)
        with pytest.raises(Unavailable, match="starting"):
            await write(shard, b"A")
    assert 0.1 <= time.monotonic() - started < 1.0
    assert not shard.log


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (messages.OUTCOME_FORGOTTEN, OutcomeForgotten),
        (messages.NO_SUCH_UPLOAD, NoSuchUpload),
    ],
)
async def test_what_trying_again_cannot_change_is_not_tried_again(
    code: str, error: type[Exception]
) -> None:
    shard = FakeShard()
    for node in NODES:
        shard.reads[node] = RemoteError(node, code, "")
    with pytest.raises(error):
        await shard.client.ask_primary(SHARD, READ)
    assert len(shard.asked) == 1


async def test_a_write_at_a_silent_primary_goes_to_its_successor_as_soon_as_there_is_one() -> None:
    shard = FakeShard()
    shard.silent.add(NODES[0])
    writing = asyncio.create_task(write(shard, b"A"))
    await asyncio.sleep(0.01)
    shard.move_to(NODES[1])
    await asyncio.wait_for(writing, 1.0)
    assert shard.asked == [NODES[0], NODES[1]]
    assert shard.log == [b"A"]


async def test_a_request_waits_for_the_configuration_and_not_for_the_pause() -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = schedule_of([REFUSES])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "RETRY_PAUSE_S_MIN", 60.0)
        writing = asyncio.create_task(write(shard, b"A"))
        await asyncio.sleep(0.01)
        assert not writing.done()
        shard.move_to(NODES[1])
        await asyncio.wait_for(writing, 1.0)


async def test_a_request_waits_for_the_primarys_return_and_not_for_the_pause() -> None:
    shard = FakeShard()
    shard.schedules[b"A"] = schedule_of([IS_CUT_OFF])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "RETRY_PAUSE_S_MIN", 60.0)
        writing = asyncio.create_task(write(shard, b"A"))
        await asyncio.sleep(0.01)
        shard.client.connected(NODES[1])
        await asyncio.sleep(0.01)
        assert not writing.done()
        shard.client.connected(NODES[0])
        await asyncio.wait_for(writing, 1.0)


async def test_a_request_waits_for_a_shards_first_configuration() -> None:
    shard = FakeShard()
    configuration = shard.configurations.pop(SHARD)
    writing = asyncio.create_task(write(shard, b"A"))
    await asyncio.sleep(0.01)
    shard.configurations[SHARD] = configuration
    await asyncio.wait_for(writing, 1.0)


async def test_a_read_goes_on_at_another_member_and_remembers_who_was_silent() -> None:
    shard = FakeShard()
    shard.silent.add(NODES[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_client, "READ_ELSEWHERE_S", 0.05)
        started = time.monotonic()
        _, piece = await shard.client.ask_members(SHARD, READ)
        assert time.monotonic() - started < 1.0
        assert piece == b"piece"
        await shard.client.ask_members(SHARD, READ)
    assert shard.asked == [NODES[0], NODES[1], NODES[1]]


async def test_a_read_that_no_member_can_answer_yet_is_tried_again() -> None:
    shard = FakeShard()
    for node in NODES:
        shard.reads[node] = RemoteError(node, messages.NOT_SERVED, "no lease")
    reading = asyncio.create_task(shard.client.ask_members(SHARD, READ))
    await asyncio.sleep(0.01)
    del shard.reads[NODES[2]]
    await asyncio.wait_for(reading, 1.0)


async def test_what_is_damaged_everywhere_is_said_at_once() -> None:
    shard = FakeShard()
    for node in NODES:
        shard.reads[node] = RemoteError(node, messages.DAMAGED, "")
    with pytest.raises(Damaged):
        await shard.client.ask_members(SHARD, READ)
    assert shard.asked == list(NODES)


async def test_a_damaged_copy_does_not_end_a_read_while_another_member_is_away() -> None:
    shard = FakeShard()
    shard.reads[NODES[0]] = RemoteError(NODES[0], messages.DAMAGED, "")
    for node in NODES[1:]:
        shard.reads[node] = RemoteError(node, messages.NOT_SERVED, "")
    reading = asyncio.create_task(shard.client.ask_members(SHARD, READ))
    await asyncio.sleep(0.01)
    del shard.reads[NODES[1]]
    await asyncio.wait_for(reading, 1.0)
