"""A damaged record comes back from another member whole and in its place, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.unit.engine.engine_site import BUCKET, DIRECTORY, EngineStory
from tests.unit.engine.journal_site import SHARD
from tests.unit.engine.test_compaction import fill, running_story, site_of

from octad.sharding.ids import Epoch, NodeId, PoolId, Seq, ShardId, shard_id
from octad.sharding.shard_map import Member, Pool, ShardMap, ShardRow
from octad.storage_node.core.extent_messages import ReadRecord, RecordRead
from octad.storage_node.core.index_format import decode_object, object_key
from octad.storage_node.core.messages import Message
from octad.storage_node.core.object_store import Damaged, Unavailable
from octad.storage_node.core.record_format import RECORDS_OFFSET, SegmentId
from octad.storage_node.shell.journal_errors import CorruptRecord
from octad.storage_node.shell.record_repair import Call, RecordRepair
from octad.storage_node.shell.segment_file import segment_path

KEY = object_key(BUCKET, b"a")
VALUE = b"precious" * 100
HERE, SPOILT, WHOLE = NodeId(1), NodeId(2), NodeId(3)
POOL = PoolId(0)
MEMBERS = tuple(Member(node, f"disk{node}", Seq(0)) for node in (HERE, SPOILT, WHOLE))
MAP = ShardMap({POOL: Pool(POOL, 3, 0)}, {shard_id(POOL, 0): ShardRow(Epoch(1), 0, HERE, MEMBERS)})

Answer = Callable[[NodeId, ReadRecord], Awaitable[tuple[Message, memoryview]]]


def damage(story: EngineStory) -> None:
    story.disk.content(segment_path(DIRECTORY, SegmentId(1)))[RECORDS_OFFSET + 200] ^= 1


def never(_shard: ShardId, _key: bytes) -> bool:
    return False


async def with_value(story: EngineStory) -> None:
    story.change(b"a", VALUE)
    await fill(story, 2)


def repair_at(
    story: EngineStory,
    answer: Answer,
    is_dirty: Callable[[ShardId, bytes], bool] = never,
) -> RecordRepair:
    def call(
        node: NodeId, message: Message, _body: bytes, _timeout_s: float
    ) -> Awaitable[tuple[Message, memoryview]]:
        assert isinstance(message, ReadRecord)
        return answer(node, message)

    asked: Call = call
    return RecordRepair(HERE, site_of(story).journal, story.index, MAP, asked, is_dirty)


async def members(story: EngineStory) -> Answer:
    """What other members answer: one has damaged its copy as well, one has it whole."""
    whole = await repair_at(story, nobody).answer(ReadRecord(KEY, Epoch(1), Seq(1)))

    async def answer(node: NodeId, message: ReadRecord) -> tuple[Message, memoryview]:
        assert (message.index_key, message.epoch, message.seq) == (KEY, 1, 1)
        if node == SPOILT:
            raise Damaged("here too")
        return whole

    return answer


async def nobody(_node: NodeId, _message: ReadRecord) -> tuple[Message, memoryview]:
    raise Unavailable("away")


async def test_a_read_that_meets_damage_finds_the_record_whole_again() -> None:
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)
        repair = repair_at(story, answer)
        assert await repair.mend(KEY)
        assert site_of(story).get(b"a") == VALUE
        assert (len(repair.damaged), repair.repaired_records) == (1, 1)
        assert await repair.mend(KEY), "it is whole: nothing to do"
        assert repair.repaired_records == 1
        story.index.flush()
        await story.crash(power_cut=True, rebuild=False)
        assert site_of(story).get(b"a") == VALUE


async def test_many_reads_that_meet_the_same_damage_mend_it_once() -> None:
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)
        repair = repair_at(story, answer)
        assert all(await asyncio.gather(*[repair.mend(KEY) for _ in range(5)]))
        assert repair.repaired_records == 1


async def test_without_another_copy_it_stays_damaged_and_is_never_served() -> None:
    async with running_story() as story:
        await with_value(story)
        damage(story)
        repair = repair_at(story, nobody)
        assert not await repair.mend(KEY)
        with pytest.raises(CorruptRecord):
            site_of(story).get(b"a")


async def test_a_copy_that_was_altered_on_its_way_is_not_taken() -> None:
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)

        async def altered(node: NodeId, message: ReadRecord) -> tuple[Message, memoryview]:
            found, data = await answer(node, message)
            return found, memoryview(b"P" + bytes(data)[1:])

        assert not await repair_at(story, altered).mend(KEY)


async def test_nothing_is_appended_while_an_entry_for_the_row_is_prepared() -> None:
    """Its copy would lie behind the end of its version, and a rebuild would bring it back."""
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)
        before = site_of(story).journal.position()
        repair = repair_at(story, answer, is_dirty=lambda shard, key: (shard, key) == (SHARD, KEY))
        assert not await repair.mend(KEY)
        assert site_of(story).journal.position() == before


async def test_a_row_that_has_changed_while_the_copy_was_fetched_is_left_alone() -> None:
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)

        async def slow(node: NodeId, message: ReadRecord) -> tuple[Message, memoryview]:
            story.change(b"a", b"newer")
            await site_of(story).settled()
            return await answer(node, message)

        assert not await repair_at(story, slow).mend(KEY)
        assert site_of(story).get(b"a") == b"newer"


async def test_a_member_answers_only_for_the_very_record() -> None:
    async with running_story() as story:
        await with_value(story)
        repair = repair_at(story, nobody)
        found, data = await repair.answer(ReadRecord(KEY, Epoch(1), Seq(1)))
        assert isinstance(found, RecordRead)
        assert (found.shard, bytes(data)) == (SHARD, VALUE)
        for message in (
            ReadRecord(KEY, Epoch(1), Seq(2)),
            ReadRecord(KEY, Epoch(2), Seq(1)),
            ReadRecord(object_key(BUCKET, b"b"), Epoch(1), Seq(1)),
        ):
            with pytest.raises(Unavailable):
                await repair.answer(message)
        damage(story)
        with pytest.raises(Damaged):
            await repair.answer(ReadRecord(KEY, Epoch(1), Seq(1)))


async def test_a_record_that_compaction_moved_is_answered_as_it_was_written() -> None:
    async with running_story() as story:
        await with_value(story)
        repair = repair_at(story, nobody)
        before, _ = await repair.answer(ReadRecord(KEY, Epoch(1), Seq(1)))
        assert await site_of(story).compacted()
        value = story.index.get(KEY)
        assert value is not None
        assert decode_object(value).location.segment != 1
        after, data = await repair.answer(ReadRecord(KEY, Epoch(1), Seq(1)))
        assert (after, bytes(data)) == (before, VALUE)
