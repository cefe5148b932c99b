"""Records that came several in one entry are moved, repaired and given up one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.unit.engine.engine_site import BUCKET, DIRECTORY, EngineStory
from tests.unit.journal.journal_site import SHARD
from tests.unit.operations.toy_kinds import (
    PUT_NOTE,
    EraseNote,
    IndexedNote,
    PutNote,
    decode_note,
    note_key,
    put_notes,
)
from tests.unit.upkeep.test_compaction import BIG, fill, running_story, site_of

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.journal.record_format import RecordKind, SegmentId
from octad.storage_node.journal.segment_file import segment_path
from octad.storage_node.operations.index_changes import (
    Operation,
    delete_objects,
    encode_operation,
    put_object,
)
from octad.storage_node.upkeep.damaged_records import DamagedRecords, DamageReport
from octad.storage_node.upkeep.record_repair import Repaired
from octad.storage_node.upkeep.scrubber import Scrubber

NAMES = [b"one", b"two", b"three"]
TEXTS = {name: name * 700 for name in NAMES}

pytestmark = pytest.mark.usefixtures("toys")


def put(name: bytes) -> PutNote:
    return PutNote(BUCKET, name, NAMES.index(name))


def order(story: EngineStory, operation: Operation, data: bytes) -> None:
    site_of(story).append(operation, data)
    story.history.append((b"a note", None))


def row(story: EngineStory, name: bytes) -> IndexedNote:
    stored = story.index.get(note_key(BUCKET, name))
    assert stored is not None
    return decode_note(stored)


def text(story: EngineStory, name: bytes) -> bytes | None:
    """Raises CorruptRecord."""
    if story.index.get(note_key(BUCKET, name)) is None:
        return None
    return bytes(site_of(story).journal.read(row(story, name).location).data)


@asynccontextmanager
async def with_notes() -> AsyncIterator[EngineStory]:
    """Three notes in one entry, the journal's first."""
    async with running_story() as story:
        order(story, *put_notes([(put(name), bytes(16), TEXTS[name]) for name in NAMES]))
        await site_of(story).settled()
        yield story


async def test_each_row_names_a_record_of_its_own_and_all_are_counted() -> None:
    async with with_notes() as story:
        rows = [row(story, name) for name in NAMES]
        assert [each.number for each in rows] == [0, 1, 2]
        locations = [each.location for each in rows]
        assert len({each.offset for each in locations}) == len(NAMES)
        live = story.index.ledger.segments[SegmentId(1)].live
        assert live == sum(each.length for each in locations)
        assert {name: text(story, name) for name in NAMES} == TEXTS


@pytest.mark.parametrize("power_cut", [True, False])
async def test_compaction_moves_those_that_rows_still_name_and_gives_the_others_up(
    power_cut: bool,
) -> None:
    async with with_notes() as story:
        order(story, EraseNote(BUCKET, b"one"), b"")
        order(story, *put_notes([(put(b"two"), bytes(16), b"a newer text")]))
        await fill(story, 6)
        before = site_of(story).compactor.copied_bytes
        assert await site_of(story).compacted()
        copied = site_of(story).compactor.copied_bytes - before
        assert SegmentId(1) not in story.index.ledger.segments
        assert copied < 2 * len(TEXTS[b"three"]), "the others are not copied with it"
        expected = {b"one": None, b"two": b"a newer text", b"three": TEXTS[b"three"]}
        assert {name: text(story, name) for name in NAMES} == expected
        record = site_of(story).journal.read(row(story, b"three").location)
        assert (record.kind, record.seq) == (RecordKind.COPY, 1)
        await story.crash(power_cut=power_cut)  # And with an index made from the journal alone.
        assert {name: text(story, name) for name in NAMES} == expected
        story.check()


@pytest.mark.parametrize("power_cut", [True, False])
async def test_deletions_of_one_entry_outlive_the_compaction_of_its_segment(
    power_cut: bool,
) -> None:
    """No object comes back whose record is there still, also by an index made from the journal."""
    async with running_story() as story:
        for name in NAMES[:2]:
            order(story, put_object(BUCKET, name, ObjectRow(3, "", 0)), b"old")
        for number in range(6):
            story.change(b"cold%d" % number, bytes(BIG))
        await fill(story, 2)
        at = max(story.index.ledger.segments)
        order(story, *delete_objects(BUCKET, [(name, name.ljust(16)) for name in NAMES[:2]]))
        await fill(story, 3)
        assert await site_of(story).compacted()
        segments = story.index.ledger.segments
        assert SegmentId(1) in segments
        assert not {at, SegmentId(at + 1)} <= segments.keys(), "that of the entry is gone"
        await story.crash(power_cut=power_cut)
        story.check()
        await site_of(story).compacted()
        await story.rebuild()


async def test_a_record_inside_waits_while_an_entry_for_its_row_is_prepared() -> None:
    async with with_notes() as story:
        await fill(story, 6)
        site = site_of(story)
        is_dirty = site.compactor._is_dirty
        site.compactor._is_dirty = lambda _shard, key: key == note_key(BUCKET, b"two")
        await site.compacted()
        site.compactor._is_dirty = is_dirty
        assert SegmentId(1) in story.index.ledger.segments, "it waits"
        assert await site.compacted()
        assert SegmentId(1) not in story.index.ledger.segments
        assert {name: text(story, name) for name in NAMES} == TEXTS


@pytest.mark.parametrize("at", ["the entry's header", "one record", "two records"])
async def test_the_scrubber_finds_each_damaged_record_and_another_members_takes_its_place(
    at: str,
) -> None:
    async with with_notes() as story:
        await fill(story, 3)
        content = story.disk.content(segment_path(DIRECTORY, SegmentId(1)))
        damaged = {"the entry's header": [], "one record": NAMES[1:2], "two records": NAMES[:2]}[at]
        for name in damaged:
            content[row(story, name).location.offset + 200] ^= 1
            with pytest.raises(CorruptRecord):
                text(story, name)
        if not damaged:
            content[4096 + 20] ^= 1
        asked: list[tuple[bytes, Epoch, Seq]] = []

        async def fetch(key: bytes, epoch: Epoch, seq: Seq) -> Repaired:
            asked.append((key, epoch, seq))
            name = key[5:]
            return Repaired(SHARD, PUT_NOTE.record, encode_operation(put(name)), TEXTS[name])

        def never(_shard: ShardId, _key: bytes) -> bool:
            return False

        damaged_records = DamagedRecords(site_of(story).journal, story.index, never, fetch)
        scrubber = Scrubber(site_of(story).journal, story.index, damaged_records)
        while scrubber._segment():
            await scrubber.read_on()
        assert asked == [(note_key(BUCKET, name), 1, 1) for name in damaged]
        count = len(damaged)
        assert damaged_records.report() == DamageReport(found=count, repaired=count)
        assert {name: text(story, name) for name in NAMES} == TEXTS
        story.check()
        story.index.flush()
        await story.crash(power_cut=True, rebuild=False)
        assert {name: text(story, name) for name in NAMES} == TEXTS
