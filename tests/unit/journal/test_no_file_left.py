"""No file can be opened for a while: nothing takes that for a bad disk, and all goes on after."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path

import pytest
from tests.harness.watched_disk import WatchedDisk
from tests.unit.engine.engine_site import EngineStory
from tests.unit.journal.journal_site import IDENTITY, JournalSite
from tests.unit.upkeep.test_compaction import fill, running_story, site_of
from tests.unit.upkeep.test_scrub import found, scrubber_of

from octad.sharding.limits import KIB
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import RECORDS_OFFSET, Location
from octad.storage_node.upkeep.damaged_records import DamageReport

SEGMENT_BYTES = RECORDS_OFFSET + 16 * KIB
SOME = bytes(10 * KIB)  # One record a segment.


class NoFileLeft(WatchedDisk):
    """While `left` is 0 no file is opened; otherwise so many more."""

    def __init__(self) -> None:
        super().__init__(self._refuse)
        self.left: int | None = None
        self.refused = 0

    def _refuse(self, call: str, _file: str) -> None:
        if call not in ("open", "create") or self.left is None:
            return
        if self.left == 0:
            self.refused += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.left -= 1


def journal_on(disk: WatchedDisk, directory: Path, open_files_max: int = 8) -> JournalSite:
    journal = Journal.open(directory, IDENTITY, disk, SEGMENT_BYTES, open_files_max)
    assert list(journal.replay(journal.position())) == []
    return JournalSite(journal)


async def filled(site: JournalSite, segments: int) -> list[Location]:
    return [(await site.batch([SOME + bytes([number])]))[0] for number in range(segments)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_read_closes_another_file_of_the_journal_and_goes_on(tmp_path: Path) -> None:
    disk = NoFileLeft()
    site = journal_on(disk, tmp_path)
    places = await filled(site, 6)
    for place in places[:3]:
        site.journal.read(place)
    opened = disk.open

    def as_many_as_before(path: Path, flags: int) -> int:
        disk.left = 0 if len(site.journal._files) >= 3 else None
        return opened(path, flags)

    disk.open = as_many_as_before  # type: ignore[method-assign]
    for number, place in enumerate(places):
        assert site.journal.read(place).data == SOME + bytes([number])
    assert disk.refused == 3, "once for each of those that were not open"
    disk.open = opened  # type: ignore[method-assign]
    disk.left = None
    await site.journal.close()


async def test_a_read_for_which_there_is_no_file_at_all_is_no_damage(tmp_path: Path) -> None:
    disk = NoFileLeft()
    site = journal_on(disk, tmp_path)
    (place, *_) = await filled(site, 2)
    disk.left = 0
    with pytest.raises(OSError, match="Too many open files"):
        site.journal.read(place)
    disk.left = None
    assert site.journal.read(place).data == SOME + bytes([0])
    await site.journal.close()


async def test_the_journal_keeps_no_more_files_open_than_it_may(tmp_path: Path) -> None:
    site = journal_on(WatchedDisk(), tmp_path, open_files_max=3)
    places = await filled(site, 8)
    for place in places:
        site.journal.read(place)
        assert len(site.journal._files) <= 3
    await site.journal.close()


async def test_the_next_segment_is_made_once_a_file_can_be_opened_again(tmp_path: Path) -> None:
    disk = NoFileLeft()
    site = journal_on(disk, tmp_path)
    await until(lambda: disk.count("create") == 2)
    await site.batch([SOME])
    disk.left = 0
    await site.batch([SOME])  # Into the segment that was ready.
    await until(lambda: disk.refused >= 2)
    disk.left = None
    await until(lambda: len(list(tmp_path.glob("*.segment"))) == 3)
    await filled(site, 3)
    assert not site.failures
    await site.journal.close()


async def refused_for_a_while(story: EngineStory, work: Coroutine[object, object, None]) -> None:
    """Run `work` while no file can be opened, and then until it is cancelled."""
    opened = story.disk.open
    refused = 0

    def refuse(path: Path, flags: int) -> int:
        nonlocal refused
        refused += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    story.disk.open = refuse  # type: ignore[method-assign]
    task = asyncio.create_task(work)
    await until(lambda: refused >= 3 or task.done())
    story.disk.open = opened  # type: ignore[method-assign]
    assert not task.done(), "it waits"
    await asyncio.sleep(0.2)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_compaction_waits_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("octad.storage_node.upkeep.compactor.COMPACTION_POLL_S", 0.01)
    async with running_story() as story:
        await fill(story, 6)
        story.index.flush()
        compactor = site_of(story).compactor
        await refused_for_a_while(story, compactor.run())
        assert compactor.segments_freed > 0
        assert [each.message for each in caplog.records] == [
            "compaction waits: [Errno 24] Too many open files"
        ]
        story.check()


async def test_scrubbing_waits_and_quarantines_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("octad.storage_node.upkeep.scrubber._IDLE_S", 0.01)
    async with running_story() as story:
        await fill(story, 4)
        scrubber = scrubber_of(story)
        await refused_for_a_while(story, scrubber.run())
        assert scrubber.bytes_read > 0
        assert found(scrubber) == DamageReport()
        assert len(caplog.records) == 1


_INDEX_WITHOUT_FILES = """
import os, resource, sys
from pathlib import Path
from octad.storage_node.index.index import Index

KEYS = [b"%08d" % number for number in range(20_000)]
directory = Path(sys.argv[1])
index = Index(directory)
for first in range(0, len(KEYS), 500):
    index.write([(key, key * 10) for key in KEYS[first : first + 500]])
    index.flush()
index.close()
assert len(list(directory.glob("*.sst"))) > 25
index = Index(directory, 20)
used = len(os.listdir("/proc/self/fd"))
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (used - 2, limit[1]))
refused = 0
for read in (lambda: [index.get(key) for key in KEYS], lambda: list(index.scan(b"0"))):
    try:
        read()
    except Exception as error:
        assert "Too many open files" in str(error), error
        refused += 1
assert refused == 2
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
assert index.damage is None and index.failure is None
assert [index.get(key) for key in KEYS] == [key * 10 for key in KEYS]
assert len(list(index.scan(b"0"))) == len(KEYS)
index.close()
print("whole")
"""


def test_an_index_whose_files_cannot_be_opened_now_is_not_given_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INDEX_WITHOUT_FILES, tmp_path / "index"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "whole\n", done.stderr
