"""Dead records give their space back; live ones, and what makes older ones void, stay."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.unit.engine.engine_site import DIRECTORY, SEGMENT_BYTES, EngineSite, EngineStory
from tests.unit.journal.journal_site import REQUEST_ID, SHARD

from octad.sharding.ids import Epoch, Seq
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.index.index_format import (
    OBJECTS,
    PARTS,
    PIECES,
    SegmentUse,
    encode_value,
    segment_use_key,
)
from octad.storage_node.index.space_ledger import SpaceLedger
from octad.storage_node.journal.journal_errors import CorruptRecord, SegmentMissing
from octad.storage_node.journal.record_format import (
    RECORDS_OFFSET,
    Location,
    RecordKind,
    SegmentId,
    position,
)
from octad.storage_node.journal.segment_file import (
    open_segment,
    segment_path,
    segments_in,
    spares_in,
)
from octad.storage_node.operations.copy_format import Copied, encode_copied
from octad.storage_node.upkeep import compactor as compactor_module
from octad.storage_node.upkeep.compaction import HURRY_MAX, choose, hurry
from octad.storage_node.upkeep.compactor import COMPACTION_STEP_S_MIN, FULL_READER_PIN_S
from octad.storage_node.upkeep.damaged_records import DamagedRecords, no_repair
from octad.storage_node.upkeep.engine_upkeep import EngineUpkeep

BIG = 6000
PLENTY = 1 << 40


@asynccontextmanager
async def running_story(seed: int = 0) -> AsyncIterator[EngineStory]:
    story = EngineStory(random.Random(seed))
    await story.start()
    try:
        yield story
    finally:
        await story.close()


def site_of(story: EngineStory) -> EngineSite:
    assert story.site is not None
    return story.site


async def fill(story: EngineStory, segments: int, key: bytes = b"hot") -> None:
    """Overwrite one key until the journal is so many segments further."""
    first = story.index.ledger.segments
    wanted = max(first, default=0) + segments
    while max(story.index.ledger.segments, default=0) < wanted:
        story.change(key, story.rng.randbytes(BIG))
        await site_of(story).settled()


async def delete_outlives_compaction() -> None:
    """A deleted object does not come back where its delete was moved and its record is still."""
    async with running_story() as story:
        site = site_of(story)
        story.change(b"gone", b"old")
        for number in range(6):
            story.change(b"cold%d" % number, bytes(BIG))
        await fill(story, 2)
        story.change(b"gone", None)
        await fill(story, 3)
        assert await site.compacted()
        assert SegmentId(1) in story.index.ledger.segments
        await story.crash(power_cut=True)
        story.check()
        await site_of(story).compacted()
        await story.rebuild()


async def overwritten_while_it_is_moved() -> None:
    """A row that changes between the copy of its record and its move keeps what it changed to."""
    async with running_story() as story:
        site = site_of(story)
        story.change(b"cold", b"kept" * 100)
        await fill(story, 6)
        append = site.compactor._append

        def change_meanwhile(*of_record: Any) -> int:
            if of_record[3] is not None:
                story.change(b"cold", b"new")
            return append(*of_record)

        site.compactor._append = change_meanwhile  # type: ignore[method-assign,assignment]
        await site.compacted()
        await site.settled()
        assert site.get(b"cold") == b"new"
        story.check()


async def position_waits_for_copies() -> None:
    """A power cut that takes a copy, but not the index written meanwhile, is survived."""
    for seed in range(8):
        async with running_story(seed) as story:
            site = site_of(story)
            story.change(b"a", b"1")
            await site.settled()
            here = Location(SegmentId(1), RECORDS_OFFSET, 100)
            copied = Copied(here, SegmentId(1), RecordKind.BARRIER, b"\x90")
            site.journal.append(
                RecordKind.COPY,
                SHARD,
                Epoch(1),
                Seq(1),
                Seq(1),
                REQUEST_ID,
                encode_copied(copied),
                b"",
            )
            story.change(b"a", b"2")
            site.note_position()
            story.index.flush()
            await story.crash(power_cut=True, rebuild=False)
            story.change(b"a", b"3")
            await site_of(story).settled()
            await story.rebuild()


async def test_a_delete_outlives_the_compaction_of_its_segment() -> None:
    await delete_outlives_compaction()


async def test_a_row_that_is_overwritten_while_it_is_moved_stays_overwritten() -> None:
    await overwritten_while_it_is_moved()


async def test_the_index_is_never_ahead_of_what_is_durable() -> None:
    await position_waits_for_copies()


async def test_dead_segments_are_recycled_and_live_rows_move() -> None:
    async with running_story() as story:
        site = site_of(story)
        story.change(b"cold", b"kept" * 100)
        await fill(story, 6)
        before = segments_in(story.disk, DIRECTORY)
        assert await site.compacted() >= 5
        assert site.compactor.copied_bytes < SEGMENT_BYTES
        story.check()
        after = segments_in(story.disk, DIRECTORY)
        assert not set(before[:4]) & set(after)
        assert site.get(b"cold") == b"kept" * 100
        await fill(story, 2)
        last = segments_in(story.disk, DIRECTORY)[-1]
        with open_segment(story.disk, DIRECTORY, last, None) as file:
            assert file.header.generation >= 2


async def test_what_no_row_points_into_is_given_back_without_a_look_at_rows() -> None:
    async with running_story() as story:
        site = site_of(story)
        await fill(story, 6)
        get, looked_at = story.index.get, list[bytes]()

        def noted(key: bytes) -> bytes | None:
            looked_at.append(key)
            return get(key)

        story.index.get = noted  # type: ignore[method-assign]
        assert await site.compacted() >= 5
        assert [key for key in looked_at if key[:1] in (OBJECTS, PARTS, PIECES)] == []
        del story.index.get
        story.check()


async def test_a_stale_record_of_the_use_before_is_never_read() -> None:
    async with running_story() as story:
        for _ in range(6):
            await fill(story, 4)
            await site_of(story).compacted()
            await story.crash(power_cut=True)


async def test_a_full_disk_takes_deletes_and_then_writes_again() -> None:
    async with running_story() as story:
        site = site_of(story)
        number = 0
        while story.change(b"%d" % number, bytes(BIG)):
            number += 1
            await site.settled()
        assert number * BIG > story.disk.capacity // 2
        for each in range(number):
            assert story.change(b"%d" % each, None), "a delete is never refused"
            await site.settled()
        await site.compacted()
        assert story.disk.free_bytes(DIRECTORY) > story.disk.capacity // 2
        site.put(b"new", b"there is room")
        await site.settled()
        assert site.get(b"new") == b"there is room"


async def test_a_full_disk_gives_back_what_the_index_was_not_flushed_behind() -> None:
    """Deletes write so little that it would not be for long; at leisure it is left in peace."""
    async with running_story() as story:
        site = site_of(story)
        number = 0
        while story.change(b"%d" % number, bytes(4 * BIG)):
            number += 1
            await site.settled()
        for each in range(number):
            story.change(b"%d" % each, None)
            await site.settled()
        assert site.journal.room.nearly_full()
        while await site.compactor.compact(0):
            await site.compactor.let_go(now=True)
        assert story.disk.free_bytes(DIRECTORY) > story.disk.capacity // 2, "all, not just enough"


async def test_a_full_disk_removes_files_sooner_than_a_reader_could_be_late() -> None:
    async with running_story() as story:
        site = site_of(story)
        await fill(story, 5)
        story.index.flush()
        assert await site.compactor.compact(0)
        before = segments_in(story.disk, DIRECTORY)
        await site.compactor.let_go()
        assert segments_in(story.disk, DIRECTORY) == before
        story.disk.capacity -= site.journal.room.free_bytes()
        await asyncio.sleep(FULL_READER_PIN_S)
        await site.compactor.let_go()
        assert len(segments_in(story.disk, DIRECTORY)) == len(before) - 1
        assert not spares_in(story.disk, DIRECTORY), "who is late would find other records"


async def test_kept_records_go_once_nothing_older_is_left() -> None:
    async with running_story() as story:
        site = site_of(story)
        for number in range(200):
            story.change(b"%d" % number, b"x")
            story.change(b"%d" % number, None)
        await fill(story, 3)
        for _ in range(4):
            await site.compacted()
            await fill(story, 2)
        assert sum(use.kept for use in story.index.ledger.segments.values()) == 0


async def test_a_segment_that_was_given_up_is_gone_though_its_file_is_still_there() -> None:
    """Readers keep the file for a while, and a process may die then, and lose its index."""
    async with running_story() as story:
        site = site_of(story)
        await fill(story, 5)
        story.index.flush()
        while await site.compactor.compact(0):
            pass
        pinned = site.compactor._pinned
        assert len(pinned) > 1
        last = pinned.pop(0)  # Given up after the others, so its file is the one that is left.
        await site.compactor.let_go(now=True)
        assert last[1] in segments_in(story.disk, DIRECTORY)
        await story.rebuild()
        story.check()


async def test_readers_keep_their_files_while_another_index_takes_the_place_of_a_damaged_one() -> (
    None
):
    """Compaction begins anew with it, and finishes what was left; the files go later, once."""
    async with running_story() as story:
        site = site_of(story)
        await fill(story, 5)
        story.index.flush()
        while await site.compactor.compact(0):
            pass
        before = segments_in(story.disk, DIRECTORY)
        site.compactor.finish_earlier_work()
        assert segments_in(story.disk, DIRECTORY) == before
        await site.compactor.let_go(now=True)
        assert len(segments_in(story.disk, DIRECTORY)) < len(before)


async def test_compaction_does_not_go_on_beside_itself_when_the_index_is_given_up() -> None:
    """Two at once would both give a segment up: the node died of it."""

    async def meets_damage() -> None:
        raise IndexDamage("a block")

    async with running_story() as story:
        site = site_of(story)
        records = DamagedRecords(site.journal, story.index, lambda _shard, _key: False, no_repair)
        upkeep = EngineUpkeep(site.journal, story.index, lambda _shard, _key: False, records)
        upkeep.scrubber.run = meets_damage  # type: ignore[method-assign]
        before = asyncio.all_tasks()
        with pytest.raises(IndexDamage):
            await upkeep.run()
        assert asyncio.all_tasks() == before


async def test_a_damaged_segment_is_reported_and_not_given_up() -> None:
    async with running_story() as story:
        site = site_of(story)
        story.change(b"cold", b"kept")
        await fill(story, 3)
        story.disk.content(segment_path(DIRECTORY, SegmentId(1)))[RECORDS_OFFSET + 90] ^= 1
        await site.compacted()
        assert [error.offset for error in site.damage] == [RECORDS_OFFSET]
        assert SegmentId(1) in segments_in(story.disk, DIRECTORY)


async def test_a_missing_segment_is_named_at_the_start() -> None:
    async with running_story() as story:
        story.change(b"cold", b"kept")
        await fill(story, 3)
        story.index.flush()
        await story.close()
        story.disk = story.disk.after_kill()
        story.disk.unlink(segment_path(DIRECTORY, SegmentId(1)))
        with pytest.raises(SegmentMissing, match=r"0000000001\.segment is missing"):
            await story.start()


async def test_a_truncated_segment_is_named_at_the_start() -> None:
    async with running_story() as story:
        await fill(story, 3)
        story.index.flush()
        await story.close()
        story.disk = story.disk.after_kill()
        path = segment_path(DIRECTORY, SegmentId(1))
        descriptor = story.disk.open(path, os.O_RDWR)
        story.disk.truncate(descriptor, RECORDS_OFFSET + 10)
        story.disk.close(descriptor)
        with pytest.raises(CorruptRecord, match=r"0000000001\.segment is damaged at offset 4106: "):
            await story.start()


def test_the_emptiest_segment_below_the_flushed_position_is_chosen() -> None:
    ledger = ledger_of({1: (900, 1000), 2: (400, 1000), 3: (100, 1000), 4: (0, 1000), 5: (0, 0)})
    assert choose(ledger, position(SegmentId(4), 5000), nearly_full=False, room=PLENTY) == 3
    assert choose(ledger, position(SegmentId(3), 5000), nearly_full=False, room=PLENTY) == 2
    assert choose(ledger, position(SegmentId(2), 5000), nearly_full=False, room=PLENTY) is None
    assert choose(ledger, position(SegmentId(5), 5000), nearly_full=False, room=PLENTY) == 4
    fuller = ledger_of({1: (800, 1000), 2: (900, 1000)})
    assert choose(fuller, position(SegmentId(9), 5000), nearly_full=False, room=PLENTY) is None
    assert choose(fuller, position(SegmentId(9), 5000), nearly_full=True, room=PLENTY) == 1


def test_a_segment_whose_copies_would_not_fit_on_the_disk_is_left_for_later() -> None:
    ledger = ledger_of({1: (400, 1000), 2: (300, 1000)})
    end = position(SegmentId(9), 5000)
    assert choose(ledger, end, nearly_full=True, room=300) == 2
    assert choose(ledger, end, nearly_full=True, room=299) is None
    ledger = ledger_of({1: (400, 1000), 2: (0, 1000)})
    assert choose(ledger, end, nearly_full=True, room=-1) == 2, "there is nothing to copy"


def test_the_oldest_segment_is_renewed_when_much_is_kept() -> None:
    ledger = ledger_of({1: (1000, 1000), 2: (600, 1000)})
    ledger.keep(Location(SegmentId(2), RECORDS_OFFSET, 500), SegmentId(2))
    assert choose(ledger, position(SegmentId(9), 5000), nearly_full=False, room=PLENTY) == 1


def test_compaction_hurries_steeply_with_what_is_dead_beyond_half_the_bound() -> None:
    few = 1000
    half_the_bound = ledger_of({1: (1000, 2000)})
    assert hurry(half_the_bound, few) == 1.0
    the_bound = ledger_of({1: (1000, 2000), 2: (0, 1000)})
    assert hurry(the_bound, few) == 16.0
    lost = ledger_of({1: (0, 1_000_000)})
    assert hurry(lost, few) == HURRY_MAX
    assert hurry(ledger_of({}), few) == 1.0


@pytest.mark.parametrize("faster", [1.0, 5.0])
async def test_the_pauses_of_compaction_are_shorter_when_it_hurries(
    monkeypatch: pytest.MonkeyPatch, faster: float
) -> None:
    sleep, pauses = asyncio.sleep, list[float]()

    async def noted(pause: float) -> None:
        pauses.append(pause)
        await sleep(0)

    monkeypatch.setattr(compactor_module, "hurry", lambda *_: faster)
    async with running_story() as story:
        await fill(story, 3)
        story.index.flush()
        monkeypatch.setattr(asyncio, "sleep", noted)
        assert await site_of(story).compactor.compact()
        monkeypatch.undo()
    assert set(pauses) == {COMPACTION_STEP_S_MIN / faster}


def ledger_of(uses: dict[int, tuple[int, int]]) -> SpaceLedger:
    return SpaceLedger(
        (
            segment_use_key(SegmentId(segment)),
            encode_value(SegmentUse(live, RECORDS_OFFSET + written if written else 0)),
        )
        for segment, (live, written) in uses.items()
    )
