"""Damage is found by reading everything again, reported, never served, and repaired from others."""

from __future__ import annotations

import logging

import pytest
from tests.unit.engine.engine_site import BUCKET, DIRECTORY, EngineStory
from tests.unit.engine.journal_site import SHARD
from tests.unit.engine.test_compaction import fill, running_story, site_of

from octad.sharding.ids import Epoch, Seq
from octad.storage_node.core.index_format import object_key
from octad.storage_node.core.operations import encode_operation, put_object
from octad.storage_node.core.record_format import RECORDS_OFFSET, RecordKind, SegmentId
from octad.storage_node.core.rows import ObjectRow
from octad.storage_node.shell.journal_errors import CorruptRecord
from octad.storage_node.shell.record_repair import Repaired
from octad.storage_node.shell.scrubber import Scrubber, no_repair
from octad.storage_node.shell.segment_file import segment_path


async def a_round(scrubber: Scrubber) -> None:
    while scrubber._segment():
        await scrubber.read_on()


def damage(story: EngineStory, offset: int) -> None:
    story.disk.content(segment_path(DIRECTORY, SegmentId(1)))[offset] ^= 1


async def test_a_round_reads_every_ended_segment_once() -> None:
    async with running_story() as story:
        await fill(story, 4)
        scrubber = Scrubber(site_of(story).journal, story.index)
        await a_round(scrubber)
        assert scrubber.bytes_read == story.index.ledger.written_bytes()
        assert scrubber.damaged_records == 0


async def test_the_next_round_begins_only_after_the_period() -> None:
    async with running_story() as story:
        await fill(story, 3)
        scrubber = Scrubber(site_of(story).journal, story.index, period_s=3600)
        await a_round(scrubber)
        read = scrubber.bytes_read
        assert await scrubber.read_on() > 0
        assert scrubber.bytes_read == read
        soon = Scrubber(site_of(story).journal, story.index, period_s=0)
        await soon.read_on()
        await a_round(soon)
        assert (soon.bytes_read, soon.state.rounds) == (read, 1)


async def test_how_far_a_round_is_survives_a_restart() -> None:
    async with running_story() as story:
        await fill(story, 5)
        scrubber = Scrubber(site_of(story).journal, story.index)
        await scrubber.read_on()
        await scrubber.read_on()
        place = scrubber.state.position
        story.index.flush()
        await story.crash(power_cut=True, rebuild=False)
        again = Scrubber(site_of(story).journal, story.index)
        assert again.state.position == place > 0


@pytest.mark.parametrize("offset", [0, 8, 30, 88, 100, 500])
async def test_a_bad_record_is_reported_once_and_those_behind_it_are_read(
    offset: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_story() as story:
        story.change(b"a", bytes(1000))
        story.change(b"b", b"behind it")
        await fill(story, 3)
        damage(story, RECORDS_OFFSET + offset)
        scrubber = Scrubber(site_of(story).journal, story.index)
        with caplog.at_level(logging.ERROR):
            await a_round(scrubber)
        assert scrubber.damaged_records == 1
        assert f"0000000001.segment is damaged at offset {RECORDS_OFFSET}" in caplog.text
        await scrubber._quarantine(*next(iter(scrubber.quarantined.items())))
        assert scrubber.damaged_records == 1
        with pytest.raises(CorruptRecord):
            site_of(story).get(b"a")
        assert site_of(story).get(b"b") == b"behind it"


async def test_a_record_that_another_member_has_takes_the_place_of_the_bad_one() -> None:
    async with running_story() as story:
        value = b"precious" * 100
        story.change(b"a", value)
        await fill(story, 3)
        damage(story, RECORDS_OFFSET + 200)
        asked: list[tuple[bytes, int]] = []

        async def repair(key: bytes, _epoch: Epoch, seq: Seq) -> Repaired:
            asked.append((key, seq))
            operation = put_object(BUCKET, b"a", ObjectRow(len(value), "", 0))
            return Repaired(SHARD, RecordKind.PUT_OBJECT, encode_operation(operation), value)

        scrubber = Scrubber(site_of(story).journal, story.index, repair)
        await a_round(scrubber)
        assert asked == [(object_key(BUCKET, b"a"), 1)]
        assert scrubber.repaired_records == 1
        story.check()
        story.index.flush()
        await story.crash(power_cut=True, rebuild=False)
        assert site_of(story).get(b"a") == value


async def test_a_node_that_is_alone_serves_no_wrong_bytes() -> None:
    async with running_story() as story:
        story.change(b"a", bytes(600))
        await fill(story, 2)
        whole = bytes(600)
        for offset in range(0, 700, 7):
            damage(story, RECORDS_OFFSET + offset)
            try:
                read = site_of(story).get(b"a")
            except CorruptRecord:
                read = whole
            assert read == whole
            damage(story, RECORDS_OFFSET + offset)
        assert site_of(story).get(b"a") == whole
        assert await no_repair(b"", Epoch(1), Seq(1)) is None
