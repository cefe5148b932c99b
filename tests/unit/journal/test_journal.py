"""The journal says durable when it is, writes in groups, and stops for good when the disk fails."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.harness.watched_disk import WatchedDisk
from tests.unit.journal.journal_site import (
    BEGINNING,
    IDENTITY,
    JournalSite,
    data_of,
    replayed,
    running_journal,
)

from octad.sharding.limits import MIB, SEGMENT_BYTES
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import JOURNAL_PENDING_BYTES_MAX, Journal
from octad.storage_node.journal.journal_errors import (
    CorruptRecord,
    ForeignSegment,
    JournalFailed,
    JournalFull,
)
from octad.storage_node.journal.record_format import Location, SegmentId

WRITE, SYNC = "write 0000000001.segment", "sync 0000000001.segment"


async def test_what_was_appended_can_be_read_once_it_is_durable(tmp_path: Path) -> None:
    async with running_journal(tmp_path) as site:
        data = [b"", b"x", bytes(4096), bytes(range(256)) * 512, memoryview(b"view")]
        locations = await site.batch([bytes(each) for each in data])
        for location, expected in zip(locations, data, strict=True):
            record = site.journal.read(location)
            assert record.data == expected
            assert bytes(record.metadata) == b"metadata"
            assert (int(record.epoch), int(record.shard)) == (1, 7)


async def test_a_tick_of_appends_is_one_write_and_one_sync(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with running_journal(tmp_path, disk) as site:
        await site.batch([b"warm up"])
        writes, syncs = disk.count(WRITE), disk.count(SYNC)
        await site.batch([b"x" * 100] * 64)
        assert (disk.count(WRITE) - writes, disk.count(SYNC) - syncs) == (1, 1)


async def test_appends_of_many_ticks_during_one_sync_share_the_next(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with running_journal(tmp_path, disk) as site:
        await site.batch([b"warm up"])
        syncs = disk.count(SYNC)
        with disk.slow():
            site.append(b"first")
            for number in range(50):
                await asyncio.sleep(0)
                last = site.append(b"%d" % number)
        await site.until_durable(last.lsn)
        assert disk.count(SYNC) - syncs == 2


async def test_nothing_is_durable_before_its_sync_has_returned(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with running_journal(tmp_path, disk) as site:
        await site.batch([b"warm up"])
        told = list(site.durable)
        with disk.slow():
            writes = disk.count(WRITE)
            appended = site.append(b"in flight")
            while disk.count(WRITE) == writes:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            assert site.durable == told
        await site.until_durable(appended.lsn)


async def test_a_new_journal_asks_the_disk_for_these_things_in_this_order(tmp_path: Path) -> None:
    disk = WatchedDisk()
    directory = tmp_path / "journal"
    async with running_journal(directory, disk) as site:
        await site.batch([b"one"])
        calls = list(disk.calls)
    made = calls.index("create 0000000001.preparing")
    assert calls[made : made + 7] == [
        "create 0000000001.preparing",
        "preallocate 0000000001.preparing",
        "write 0000000001.preparing",
        "write 0000000001.preparing",
        "sync 0000000001.preparing",
        "rename 0000000001.preparing 0000000001.segment",
        "sync_directory journal",
    ]
    # The next segment is being made meanwhile; what concerns the first one keeps its order.
    first = [call for call in calls[made + 7 :] if call.endswith(" 0000000001.segment")]
    assert first == ["write 0000000001.segment", "sync 0000000001.segment"]


async def test_records_go_on_in_the_next_segment_when_one_is_full(tmp_path: Path) -> None:
    data = [bytes([number]) * (7 * MIB) for number in range(20)]
    async with running_journal(tmp_path) as site:
        locations: list[Location] = []
        for each in data:
            await site.journal.wait_for_room()
            locations.append(site.append(each).location)
        await site.until_durable(site.journal.position())
        assert [location.segment for location in locations] == [1] * 9 + [2] * 9 + [3] * 2
        assert all(location.offset + location.length <= SEGMENT_BYTES for location in locations)
        for location, expected in zip(locations, data, strict=True):
            assert site.journal.read(location).data == expected
    assert data_of(replayed(tmp_path)) == data


async def test_bulk_writers_wait_while_much_is_pending(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with running_journal(tmp_path, disk) as site:
        await site.journal.wait_for_room()
        with disk.slow():
            while site.journal.pending_bytes <= JOURNAL_PENDING_BYTES_MAX:
                site.append(bytes(MIB))
            waiting = asyncio.create_task(site.journal.wait_for_room())
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 10)
        assert site.journal.pending_bytes <= JOURNAL_PENDING_BYTES_MAX


async def test_large_bodies_do_not_stay_in_memory_and_small_ones_do(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with running_journal(tmp_path, disk) as site:
        small = await site.batch([b"x" * 4096] * 500)
        assert disk.uncached_writes == 0
        large = await site.batch([b"y" * MIB] * 4)
        assert disk.uncached_writes == 1
        for location, data in ((small[7], b"x" * 4096), (large[2], b"y" * MIB)):
            assert site.journal.read(location).data == data


async def test_a_system_that_cannot_write_past_its_cache_writes_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = os.pwritev
    tried: list[int] = []

    def refuse(file: int, buffers: Sequence[bytes], offset: int, flags: int = 0) -> int:
        tried.append(flags)
        if flags:
            raise OSError(errno.EOPNOTSUPP, "no such flag")
        return written(file, buffers, offset)

    monkeypatch.setattr(os, "pwritev", refuse)
    disk = Disk()
    file = disk.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    disk.write(file, [b"one", b"two"], 0, cached=False)
    disk.write(file, [b"three"], 6, cached=False)
    assert disk.read(file, 100, 0) == b"onetwothree"
    disk.close(file)
    assert sum(flags != 0 for flags in tried) <= 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("failing", ["write", "sync"])
async def test_a_failed_write_or_sync_ends_the_journal_and_is_not_tried_again(
    tmp_path: Path, failing: str, number: int
) -> None:
    disk = WatchedDisk()
    async with running_journal(tmp_path, disk) as site:
        await site.batch([b"kept"])

        def fail(call: str, file: str) -> None:
            if (call, file) == (failing, "0000000001.segment"):
                raise OSError(number, "the disk says no")

        disk.fail_when = fail
        site.append(b"lost")
        error = await site.until_failed()
        assert isinstance(error, OSError)
        assert error.errno == number
        told, syncs = list(site.durable), disk.count(SYNC)
        with pytest.raises(JournalFailed):
            site.append(b"refused")
        await site.journal.wait_for_room()
        await asyncio.sleep(0.1)
        assert (site.durable, disk.count(SYNC)) == (told, syncs)
    assert len(site.failures) == 1


async def test_a_disk_without_room_for_the_next_segment_refuses_and_recovers(
    tmp_path: Path,
) -> None:
    def fail(call: str, file: str) -> None:
        if call == "preallocate" and "0000000002" in file:
            raise OSError(errno.ENOSPC, "no space left")

    disk = WatchedDisk(fail)
    async with running_journal(tmp_path, disk) as site:
        for _ in range(7):
            await site.batch([bytes(8 * MIB)])
        with pytest.raises(JournalFull):
            site.append(bytes(8 * MIB))
        assert not site.failures
        await site.batch([b"small ones still fit"])
        disk.fail_when = None
        with contextlib.suppress(JournalFull):  # The attempt that failed, or one that may succeed.
            site.append(bytes(8 * MIB))
        await asyncio.sleep(0.1)
        (location,) = await site.batch([bytes(8 * MIB)])
        assert location.segment == 2
    assert not [name for name in disk.names(tmp_path) if name.endswith(".preparing")]


async def test_a_damaged_record_is_reported_with_file_and_offset(tmp_path: Path) -> None:
    async with running_journal(tmp_path) as site:
        _, location = await site.batch([b"good", b"bad" * 100])
        path = tmp_path / "0000000001.segment"
        with path.open("r+b") as file:
            file.seek(location.offset + 150)
            file.write(b"?")
        with pytest.raises(CorruptRecord) as caught:
            site.journal.read(location)
        assert (caught.value.file, caught.value.offset) == (path, location.offset)


async def test_a_location_in_a_segment_that_is_gone_is_damage(tmp_path: Path) -> None:
    async with running_journal(tmp_path) as site:
        with pytest.raises(CorruptRecord, match=r"0000000099\.segment"):
            site.journal.read(Location(SegmentId(99), 4096, 100))


async def test_segments_of_another_node_are_refused(tmp_path: Path) -> None:
    async with running_journal(tmp_path) as site:
        await site.batch([b"theirs"])
    for other in ("cluster", "node", "incarnation"):
        changed = {"cluster": "fedcba98", "node": 2, "incarnation": "ff" * 16}[other]
        identity = IDENTITY.__class__(
            **{
                **{name: getattr(IDENTITY, name) for name in IDENTITY.__struct_fields__},
                other: changed,
            }
        )
        with pytest.raises(ForeignSegment, match=r"0000000001\.segment belongs to n1"):
            list(Journal.open(tmp_path, identity).replay(BEGINNING))


async def test_an_idle_journal_writes_its_mark_once_and_then_nothing(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with running_journal(tmp_path, disk) as site:
        await site.batch([b"last"])
        position = site.journal.position()
        await asyncio.sleep(0.15)
        writes = disk.count(WRITE)
        await asyncio.sleep(0.15)
        assert disk.count(WRITE) == writes
        assert site.journal.position() == position
        assert site.durable[-1] > position


async def test_closing_makes_durable_what_was_appended(tmp_path: Path) -> None:
    async with running_journal(tmp_path) as site:
        for number in range(100):
            site.append(b"%d" % number)
    assert data_of(replayed(tmp_path)) == [b"%d" % number for number in range(100)]


async def test_a_journal_goes_on_where_it_was_over_many_restarts(tmp_path: Path) -> None:
    for number in range(5):
        async with running_journal(tmp_path) as site:
            await site.batch([b"a%d" % number, b"b%d" % number])
            position = site.journal.position()
        assert replayed(tmp_path, position) == []
    expected = [b"%c%d" % (letter, number) for number in range(5) for letter in b"ab"]
    assert data_of(replayed(tmp_path)) == expected


async def test_restarts_without_a_write_leave_no_segments_behind(tmp_path: Path) -> None:
    async with running_journal(tmp_path) as site:
        await site.batch([b"one"])
    for _ in range(3):
        async with running_journal(tmp_path):
            pass
    assert len(Disk().names(tmp_path)) <= 3


def test_a_started_journal_has_been_replayed_to_its_end(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, IDENTITY)
    with pytest.raises(AssertionError, match="replay first"):
        JournalSite(journal)
