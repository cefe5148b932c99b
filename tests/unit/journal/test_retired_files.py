"""A retired segment is no part of the journal, whatever has become of its file by then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.unit.engine.engine_site import DIRECTORY, EngineStory
from tests.unit.journal.journal_site import IDENTITY
from tests.unit.upkeep.test_compaction import BIG, fill, running_story, site_of

from octad.storage_node.journal.journal_recovery import JournalRecovery
from octad.storage_node.journal.record_format import RECORDS_OFFSET, Position, SegmentId
from octad.storage_node.journal.retired_segments import read_retired
from octad.storage_node.journal.segment_file import segment_path, segments_in

OLDEST = SegmentId(1)


@asynccontextmanager
async def a_newer_one_gone() -> AsyncIterator[EngineStory]:
    """All but the last are retired; the file of the oldest, which was the last to be, is there."""
    async with running_story() as story:
        story.change(b"cold", bytes(BIG))
        await fill(story, 4)
        story.index.flush()
        compactor = site_of(story).compactor
        while OLDEST in story.index.ledger.segments:
            await compactor.let_go(now=True)
            assert await compactor.compact(0)
        there, retired = segments_in(story.disk, DIRECTORY), read_retired(story.disk, DIRECTORY)
        assert OLDEST in there
        assert SegmentId(2) not in there
        assert retired.has(OLDEST)
        assert retired.has(SegmentId(2))
        yield story


async def test_the_index_is_made_anew_while_a_retired_file_waits_for_readers() -> None:
    async with a_newer_one_gone() as story:
        await story.rebuild()
        story.check()
        assert OLDEST not in segments_in(story.disk, DIRECTORY)


async def test_a_journal_is_intact_while_a_retired_file_waits_for_readers() -> None:
    async with a_newer_one_gone() as story:
        recovery = JournalRecovery(story.disk, DIRECTORY, IDENTITY, Position(0))
        segments = {location.segment for location, _ in recovery.records(local=True)}
        assert OLDEST not in segments
        assert recovery.oldest in segments


@pytest.mark.parametrize("power_cut", [False, True])
async def test_a_restart_lets_the_file_of_a_retired_segment_go(*, power_cut: bool) -> None:
    async with a_newer_one_gone() as story:
        await story.crash(power_cut=power_cut, rebuild=False)
        assert OLDEST not in segments_in(story.disk, DIRECTORY)
        story.check()
        await story.rebuild()


@pytest.mark.parametrize("index_lost", [False, True])
async def test_a_power_cut_may_leave_the_next_ones_header_under_a_retired_name(
    *, index_lost: bool
) -> None:
    """The header of the segment that the file is made into is synced before its new name is."""
    async with a_newer_one_gone() as story:
        await story.close()
        story.disk = story.disk.after_kill()
        story.index = story.index.after_crash(story.rng)
        last = segments_in(story.disk, DIRECTORY)[-1]
        header = story.disk.content(segment_path(DIRECTORY, last))[:RECORDS_OFFSET]
        story.disk.content(segment_path(DIRECTORY, OLDEST))[:RECORDS_OFFSET] = header
        if index_lost:
            story.lose_index()
        await story.start()
        story.check()
        await story.rebuild()
