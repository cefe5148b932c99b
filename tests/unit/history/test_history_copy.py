"""Whatever happens meanwhile: in the end the receiver has every row of the source, and no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.unit.history.copied_work import GONE_BUCKET, OTHER, OTHER_BUCKET, SHARD, Ordered, keys_of
from tests.unit.history.copy_site import Held, Node, Story, state_of

from octad.sharding.ids import Epoch, Seq
from octad.storage_node.history import history_copier, history_writer
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.operations.index_changes import put_object


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few rows make many pages."""
    monkeypatch.setattr(history_copier, "HISTORY_PAGE_ROWS", 3)
    monkeypatch.setattr(history_copier, "HISTORY_MESSAGE_RECORDS", 2)
    monkeypatch.setattr(history_copier, "HISTORY_RETRY_S_MIN", 0.0)
    monkeypatch.setattr(history_copier, "HISTORY_RETRY_S_MAX", 0.0)
    monkeypatch.setattr(history_writer, "HISTORY_STEP_ROWS", 2)


@asynccontextmanager
async def told(seed: int) -> AsyncIterator[Story]:
    story = Story(random.Random(seed))
    try:
        yield story
    finally:
        await story.close()


async def others_rows(node: Node, first: int) -> None:
    """Rows of another pool, in the same range of the index."""
    names = [(OTHER_BUCKET, key) for key in keys_of(OTHER_BUCKET, first + 3)[first:]]
    names += [(GONE_BUCKET, key) for key in keys_of(GONE_BUCKET, first + 4)[first + 2 :]]
    for number, (bucket, key) in enumerate(names):
        operation = put_object(bucket, key, ObjectRow(3, "", 0))
        node.take(OTHER, Ordered(Epoch(1), Seq(number + 1), operation, b"abc"))
    await node.durable()
    node.commit(OTHER, Seq(9))


async def prepared(story: Story) -> None:
    """A history; a receiver that has nothing, or an old part of it; and where its log begins."""
    rng = story.rng
    await others_rows(story.receiver, 0)
    await others_rows(story.source, 3)
    story.order(rng.randint(1, 60))
    await story.settle(story.source, rng.randint(1, len(story.log)))
    known = story.source.replica(SHARD).log.applied
    if rng.random() < 0.7:
        await story.settle(story.receiver, rng.randint(0, known))
        story.feed(story.receiver, min(len(story.log), known + rng.randint(0, 3)))
    start = rng.randint(story.receiver.replica(SHARD).log.commit, known)
    story.begin_log(start)


async def compacted(story: Story) -> None:
    """Once in a while, what is dead goes."""
    while True:
        await asyncio.sleep(0.003)
        story.receiver.index.flush()
        await story.receiver.compactor.compact(0)
        await story.receiver.compactor.let_go(now=True)


async def aged(story: Story) -> None:
    """More of everything, until hardly a segment is left of the time of the copy."""
    for _ in range(story.rng.choice([0, 1, 6])):
        story.order(10)
        await story.settle(story.source)
        await story.settle(story.receiver)
        story.receiver.index.flush()
        while await story.receiver.compactor.compact(0):
            await story.receiver.compactor.let_go(now=True)


async def finished(story: Story) -> tuple[Held, Held]:
    """Both nodes show everything; gives what the receiver and the source hold of the shard."""
    story.busy = 0.0
    assert story.copier is not None
    await story.settle(story.source)
    await story.settle(story.receiver)
    receiver = story.receiver
    receiver.commit(OTHER, Seq(9))
    assert receiver.replica(SHARD).complete_to is None
    story.copier.forget_marks(SHARD, receiver.replica(SHARD).log.applied)
    async with asyncio.timeout(10):
        while receiver.marks():
            await asyncio.sleep(0.001)
    for node in (receiver, story.source):
        node.check()
    assert receiver.index.digests.now(SHARD) == story.source.index.digests.now(SHARD) is not None
    mine, theirs = (node.index.digests.usages.of(SHARD) for node in (receiver, story.source))
    assert {each: entry for each, entry in mine.items() if any(entry)} == {
        each: entry for each, entry in theirs.items() if any(entry)
    }
    return receiver.held(SHARD), story.source.held(SHARD)


async def check_rebuilt(story: Story) -> None:
    """A node with an index made from the receiver's journal alone holds the same."""
    held, state = story.receiver.held(), state_of(story.receiver)
    await story.rebuild()
    again = story.receiver
    await story.settle(again)
    assert again.replica(SHARD).complete_to is None
    again.commit(OTHER, Seq(9))
    assert again.held() == held
    assert state_of(again) == state
    again.check()


async def tell(seed: int) -> None:
    """One life of the receiver, until it is complete and for a while after."""
    async with told(seed) as story:
        await prepared(story)
        compacting: asyncio.Task[None] | None = None
        for _ in range(story.rng.choice([0, 0, 1, 2])):
            story.calls_left = story.rng.randint(0, 25)
            story.begin_copy()
            if await story.copied():
                break
            await story.crash()
            if story.rng.random() < 0.4:
                await story.rebuild()
        story.calls_left = None
        story.begin_copy()
        if story.rng.random() < 0.5:
            compacting = asyncio.create_task(compacted(story))
        try:
            assert await story.copied()
        finally:
            if compacting is not None:
                compacting.cancel()
                await asyncio.gather(compacting, return_exceptions=True)
        mine, theirs = await finished(story)
        assert mine == theirs
        await aged(story)
        assert len(story.receiver.held(OTHER)) == 5
        await check_rebuilt(story)


@pytest.mark.parametrize("seed", range(45))
async def test_the_rows_are_those_of_the_source_whatever_happens(seed: int) -> None:
    await tell(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(45, 1000))
async def test_the_rows_are_those_of_the_source_in_many_more_stories(seed: int) -> None:
    await tell(seed)


async def test_a_log_that_begins_at_nothing_is_rebuilt_with_the_digest_of_its_rows() -> None:
    """What is committed is not known of the journal then: its rows are those of the copy."""
    async with told(0) as story:
        story.busy = 0.0
        story.order(4)
        await story.settle(story.source)
        story.begin_log(0)
        story.begin_copy()
        async with asyncio.timeout(10):
            while len(story.receiver.held(SHARD)) < len(story.source.held(SHARD)):
                await asyncio.sleep(0.001)
            await story.settle(story.receiver)
            assert await story.copied()
        await check_rebuilt(story)
        assert story.receiver.counted(SHARD).rows
