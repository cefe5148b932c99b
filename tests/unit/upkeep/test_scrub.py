"""Damage is found by reading everything again, reported, never served, and repaired from others."""

from __future__ import annotations

import errno
import logging

import pytest
from tests.unit.engine.engine_site import BUCKET, DIRECTORY, EngineStory
from tests.unit.journal.journal_site import SHARD
from tests.unit.upkeep.test_compaction import fill, running_story, site_of

from octad.sharding.ids import Epoch, Seq
from octad.sharding.limits import SCRUB_PERIOD_S
from octad.storage_node.index.index_format import decode_located, object_key
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.journal.record_format import RECORDS_OFFSET, RecordKind, SegmentId
from octad.storage_node.journal.segment_file import segment_path
from octad.storage_node.operations.index_changes import encode_operation, put_object
from octad.storage_node.upkeep.damaged_records import DamagedRecords, DamageReport, no_repair
from octad.storage_node.upkeep.record_repair import Repair, Repaired
from octad.storage_node.upkeep.scrubber import Scrubber


def scrubber_of(
    story: EngineStory, repair: Repair = no_repair, period_s: float = SCRUB_PERIOD_S
) -> Scrubber:
    journal = site_of(story).journal
    damaged = DamagedRecords(journal, story.index, lambda _shard, _key: False, repair)
    return Scrubber(journal, story.index, damaged, period_s)


def found(scrubber: Scrubber) -> DamageReport:
    return scrubber._damaged_records.report()


async def a_round(scrubber: Scrubber) -> None:
    while scrubber._segment():
        await scrubber.read_on()


def record_bytes(story: EngineStory) -> int:
    """Of each of the first records, which are alike."""
    stored = story.index.get(object_key(BUCKET, b"b"))
    assert stored is not None
    return decode_located(stored).location.offset - RECORDS_OFFSET


def damage(story: EngineStory, offset: int) -> None:
    story.disk.content(segment_path(DIRECTORY, SegmentId(1)))[offset] ^= 1


async def test_a_round_reads_every_ended_segment_once() -> None:
    async with running_story() as story:
        await fill(story, 4)
        scrubber = scrubber_of(story)
        await a_round(scrubber)
        assert scrubber.bytes_read == story.index.ledger.written_bytes()
        assert found(scrubber) == DamageReport()


async def test_the_next_round_begins_only_after_the_period() -> None:
    async with running_story() as story:
        await fill(story, 3)
        scrubber = scrubber_of(story, period_s=3600)
        await a_round(scrubber)
        read = scrubber.bytes_read
        assert await scrubber.read_on() > 0
        assert scrubber.bytes_read == read
        soon = scrubber_of(story, period_s=0)
        await soon.read_on()
        await a_round(soon)
        assert (soon.bytes_read, soon.state.rounds) == (read, 1)


async def test_how_far_a_round_is_survives_a_restart() -> None:
    async with running_story() as story:
        await fill(story, 5)
        scrubber = scrubber_of(story)
        await scrubber.read_on()
        await scrubber.read_on()
        place = scrubber.state.position
        story.index.flush()
        await story.crash(power_cut=True, rebuild=False)
        again = scrubber_of(story)
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
        scrubber = scrubber_of(story)
        with caplog.at_level(logging.ERROR):
            await a_round(scrubber)
        assert found(scrubber) == DamageReport(found=1, left=1)
        assert f"0000000001.segment is damaged at offset {RECORDS_OFFSET}" in caplog.text
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

        scrubber = scrubber_of(story, repair)
        await a_round(scrubber)
        assert asked == [(object_key(BUCKET, b"a"), 1)]
        assert found(scrubber) == DamageReport(found=1, repaired=1)
        story.check()
        story.index.flush()
        await story.crash(power_cut=True, rebuild=False)
        assert site_of(story).get(b"a") == value


@pytest.mark.parametrize("failing", [1, 2])
async def test_a_read_error_that_passes_leaves_nothing_and_ends_no_round(failing: int) -> None:
    """Of the header of a segment, and of its records."""
    async with running_story() as story:
        story.change(b"a", bytes(1000))
        await fill(story, 3)
        scrubber = scrubber_of(story)
        reads = story.disk.count("read")
        story.disk.fail_at("read", failing, errno.EIO)
        await a_round(scrubber)
        assert story.disk.count("read") >= reads + failing
        report = found(scrubber)
        assert (report.left, report.repaired) == (0, 0)
        assert report.passed == 1


async def test_dead_records_that_are_damaged_are_nobodys_loss() -> None:
    async with running_story() as story:
        story.change(b"a", bytes(1000))
        story.change(b"a", b"newer")
        await fill(story, 3)
        damage(story, RECORDS_OFFSET + 200)
        scrubber = scrubber_of(story)
        await a_round(scrubber)
        assert found(scrubber) == DamageReport()


async def test_of_two_bad_records_side_by_side_both_are_found() -> None:
    async with running_story() as story:
        for key in (b"a", b"b", b"c"):
            story.change(key, bytes(1000))
        await fill(story, 3)
        for record in (0, 1):
            damage(story, RECORDS_OFFSET + record * record_bytes(story) + 200)
        scrubber = scrubber_of(story)
        await a_round(scrubber)
        assert found(scrubber) == DamageReport(found=2, left=2)


async def test_a_spot_that_the_disk_refuses_hides_nothing_but_what_lies_there() -> None:
    async with running_story() as story:
        for key in (b"a", b"b", b"c"):
            story.change(key, bytes(1000))
        await fill(story, 3)
        bad = RECORDS_OFFSET + record_bytes(story) + 200
        story.disk.refuses = lambda offset, length: offset <= bad < offset + length
        scrubber = scrubber_of(story)
        await a_round(scrubber)
        assert found(scrubber) == DamageReport(found=1, left=1)
        assert list(scrubber._damaged_records._left) == [object_key(BUCKET, b"b")]


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
