"""A damaged record comes back from another member whole and in its place, or not at all."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable

import pytest
from tests.unit.engine.engine_site import BUCKET, DIRECTORY, EngineStory
from tests.unit.journal.journal_site import SHARD
from tests.unit.upkeep.test_compaction import fill, running_story, site_of

from octad.sharding.ids import Epoch, NodeId, PoolId, Seq, ShardId, shard_id
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap
from octad.storage_node.history.history_messages import ReadRecords
from octad.storage_node.history.history_source import HistorySource
from octad.storage_node.index.index_format import decode_object, object_key
from octad.storage_node.journal.journal_errors import CorruptRecord, UnreadableRecord
from octad.storage_node.journal.record_format import RECORDS_OFFSET, SegmentId
from octad.storage_node.journal.segment_file import segment_path
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_log import ShardLog
from octad.storage_node.rpc.messages import Message, Reply, Request, reply_to
from octad.storage_node.rpc.rpc_errors import RpcRefusal
from octad.storage_node.shards.extent_messages import ReadRecord, RecordRead
from octad.storage_node.shards.object_store import Damaged, Unavailable
from octad.storage_node.upkeep.damaged_records import DamagedRecords, DamageReport, Outcome
from octad.storage_node.upkeep.record_repair import RecordRepair

KEY = object_key(BUCKET, b"a")
VALUE = b"precious" * 100
HERE, SPOILT, INTACT = NodeId(1), NodeId(2), NodeId(3)
POOL = PoolId(0)
MEMBERS = tuple(Member(node, f"disk{node}", Seq(0)) for node in (HERE, SPOILT, INTACT))
MAP = ShardMap(
    {POOL: Pool(POOL, 3, 0)}, {shard_id(POOL, 0): ShardConfiguration(Epoch(1), 0, HERE, MEMBERS)}
)

Answer = Callable[[NodeId, ReadRecord], Awaitable[tuple[RecordRead, memoryview]]]


def damage(story: EngineStory) -> None:
    story.disk.content(segment_path(DIRECTORY, SegmentId(1)))[RECORDS_OFFSET + 200] ^= 1


def never(_shard: ShardId, _key: bytes) -> bool:
    return False


async def with_value(story: EngineStory) -> None:
    story.change(b"a", VALUE)
    await fill(story, 2)


def repair_at(story: EngineStory, answer: Answer, shard_map: ShardMap = MAP) -> RecordRepair:
    async def call(
        node: NodeId, message: Request[Reply], _body: bytes, _timeout_s: float
    ) -> tuple[Reply, memoryview]:
        asked: Message = message
        assert isinstance(asked, ReadRecord)
        answered, data = await answer(node, asked)
        return reply_to(message, answered), data

    return RecordRepair(HERE, site_of(story).journal, story.index, shard_map, call)


def records_at(
    story: EngineStory,
    answer: Answer,
    is_dirty: Callable[[ShardId, bytes], bool] = never,
    shard_map: ShardMap = MAP,
) -> DamagedRecords:
    fetch = repair_at(story, answer, shard_map).fetch
    return DamagedRecords(site_of(story).journal, story.index, is_dirty, fetch)


async def members(story: EngineStory) -> Answer:
    """What other members answer: one has damaged its copy as well, one has it whole."""
    whole = await repair_at(story, nobody).answer(ReadRecord(KEY, Epoch(1), Seq(1)))

    async def answer(node: NodeId, message: ReadRecord) -> tuple[RecordRead, memoryview]:
        assert (message.index_key, message.epoch, message.seq) == (KEY, 1, 1)
        if node == SPOILT:
            raise Damaged("here too")
        return whole

    return answer


async def nobody(_node: NodeId, _message: ReadRecord) -> tuple[RecordRead, memoryview]:
    raise Unavailable("away")


def refuse_reads(call: str, _file: str) -> None:
    if call == "read":
        raise OSError(errno.EIO, os.strerror(errno.EIO))


async def test_a_read_that_meets_damage_finds_the_record_whole_again() -> None:
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)
        damaged = records_at(story, answer)
        assert await damaged.repair(KEY)
        assert site_of(story).get(b"a") == VALUE
        assert damaged.report() == DamageReport(found=1, repaired=1)
        assert await damaged.look_at(KEY) is Outcome.SOUND, "it is intact: nothing to do"
        assert damaged.report() == DamageReport(found=1, repaired=1)
        story.index.flush()
        await story.crash(power_cut=True, rebuild=False)
        assert site_of(story).get(b"a") == VALUE


async def test_many_reads_that_meet_the_same_damage_repair_it_once() -> None:
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)
        damaged = records_at(story, answer)
        assert all(await asyncio.gather(*[damaged.repair(KEY) for _ in range(5)]))
        assert damaged.report() == DamageReport(found=1, repaired=1)


async def test_without_another_copy_it_stays_damaged_and_is_never_served() -> None:
    async with running_story() as story:
        await with_value(story)
        damage(story)
        damaged = records_at(story, nobody)
        assert not await damaged.repair(KEY)
        assert damaged.report() == DamageReport(found=1, left=1), "no one has said that it is lost"
        with pytest.raises(CorruptRecord):
            site_of(story).get(b"a")


async def test_a_copy_that_was_altered_on_its_way_is_not_taken() -> None:
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)

        async def altered(node: NodeId, message: ReadRecord) -> tuple[RecordRead, memoryview]:
            found, data = await answer(node, message)
            return found, memoryview(b"P" + bytes(data)[1:])

        assert not await records_at(story, altered).repair(KEY)


async def test_nothing_is_appended_while_an_entry_for_the_row_is_prepared() -> None:
    """Its copy would lie behind the end of its version, and a rebuild would bring it back."""
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)
        before = site_of(story).journal.position()
        damaged = records_at(
            story, answer, is_dirty=lambda shard, key: (shard, key) == (SHARD, KEY)
        )
        assert not await damaged.repair(KEY)
        assert site_of(story).journal.position() == before


async def test_a_row_that_has_changed_while_the_copy_was_fetched_is_left_alone() -> None:
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)

        async def slow(node: NodeId, message: ReadRecord) -> tuple[RecordRead, memoryview]:
            story.change(b"a", b"newer")
            await site_of(story).settled()
            return await answer(node, message)

        damaged = records_at(story, slow)
        assert await damaged.repair(KEY), "what is there now can be read"
        assert site_of(story).get(b"a") == b"newer"
        assert damaged.report() == DamageReport(found=1)


async def test_what_no_member_could_be_asked_for_is_repaired_when_one_is_back() -> None:
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        damage(story)
        away = True

        async def at_times(node: NodeId, message: ReadRecord) -> tuple[RecordRead, memoryview]:
            return await (nobody if away else answer)(node, message)

        damaged = records_at(story, at_times)
        assert not await damaged.repair(KEY)
        await damaged.repair_left()
        assert damaged.report() == DamageReport(found=1, left=1), "found once, however often tried"
        away = False
        await damaged.repair_left()
        assert damaged.report() == DamageReport(found=1, repaired=1)
        assert site_of(story).get(b"a") == VALUE


async def test_what_was_damaged_and_is_overwritten_is_not_left() -> None:
    async with running_story() as story:
        await with_value(story)
        damage(story)
        damaged = records_at(story, nobody)
        assert not await damaged.repair(KEY)
        story.change(b"a", b"newer")
        await site_of(story).settled()
        await damaged.repair_left()
        assert damaged.report() == DamageReport(found=1)


async def test_only_what_every_member_has_damaged_is_called_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_story() as story:
        await with_value(story)
        damage(story)

        async def spoilt(node: NodeId, _message: ReadRecord) -> tuple[RecordRead, memoryview]:
            raise Damaged("here too")

        async def one_is_away(node: NodeId, _message: ReadRecord) -> tuple[RecordRead, memoryview]:
            raise Damaged("here too") if node == SPOILT else Unavailable("away")

        damaged = records_at(story, one_is_away)
        assert not await damaged.repair(KEY)
        assert damaged.report() == DamageReport(found=1, left=1)
        assert "lost" not in caplog.text
        damaged = records_at(story, spoilt)
        assert not await damaged.repair(KEY)
        assert damaged.report() == DamageReport(found=1, left=1, lost=1)
        assert "lost: every copy of object b'a' in bucket 1 is damaged" in caplog.text


async def test_the_only_copy_is_lost_when_it_is_damaged_but_not_when_the_disk_refuses_it() -> None:
    configuration = ShardConfiguration(Epoch(1), 0, HERE, MEMBERS[:1])
    alone = ShardMap({POOL: Pool(POOL, 1, 0)}, {shard_id(POOL, 0): configuration})
    async with running_story() as story:
        await with_value(story)
        story.disk.fail_when = refuse_reads
        damaged = records_at(story, nobody, shard_map=alone)
        assert not await damaged.repair(KEY)
        assert damaged.report() == DamageReport(found=1, left=1)
        story.disk.fail_when = None
        await damaged.repair_left()
        assert damaged.report() == DamageReport(found=1, passed=1)
        damage(story)
        assert not await damaged.repair(KEY)
        assert damaged.report() == DamageReport(found=2, passed=1, left=1, lost=1)


async def test_a_read_error_that_passes_is_counted_and_nothing_else() -> None:
    async with running_story() as story:
        await with_value(story)
        damaged = records_at(story, nobody)
        story.disk.fail_when = refuse_reads
        with pytest.raises(UnreadableRecord):
            site_of(story).get(b"a")
        story.disk.fail_when = None
        assert await damaged.repair(KEY)
        assert damaged.report() == DamageReport(passed=1)


async def test_a_member_whose_disk_refuses_to_read_does_not_call_its_copy_damaged() -> None:
    async with running_story() as story:
        await with_value(story)
        story.disk.fail_when = refuse_reads
        with pytest.raises(Unavailable):
            await repair_at(story, nobody).answer(ReadRecord(KEY, Epoch(1), Seq(1)))


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


async def test_who_copies_history_gets_what_was_damaged_here() -> None:
    """The last member with all of history may have the damaged record."""
    async with running_story() as story:
        await with_value(story)
        answer = await members(story)
        site = site_of(story)
        log = ShardLog(Seq(site.applied), Epoch(1))
        replica = ShardReplica(
            SHARD, HERE, "", PairLeases(HERE, 1, 0.0), Strength(1, 1), lambda *_: None, log, {}
        )
        source = HistorySource(site.journal, story.index, {SHARD: replica}.get, lambda _: POOL)
        asked = ReadRecords(SHARD, Seq(1), [(KEY, Epoch(1), Seq(1))])
        damage(story)
        with pytest.raises(RpcRefusal, match="is damaged at offset"):
            await source.read_records(asked)
        source.repair = records_at(story, answer).repair
        read, body = await source.read_records(asked)
        assert (read.looked_at, bytes(body[0])) == (1, VALUE)
        assert site.get(b"a") == VALUE
