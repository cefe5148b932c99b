"""After a failed sync the system shows what it has not written, and does not write it again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import pytest
from tests.harness.simulated_disk import SimulatedDisk
from tests.unit.journal.journal_site import BEGINNING, IDENTITY, JournalSite, data_of

from octad.sharding.limits import MIB
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import Position, segment_of

DIRECTORY = Path("/data/journal")


def opened(disk: SimulatedDisk, start: Position = BEGINNING) -> tuple[Journal, list[bytes]]:
    journal = Journal.open(DIRECTORY, IDENTITY, disk, segment_bytes=MIB)
    return journal, data_of(list(journal.replay(start)))


@pytest.mark.parametrize("from_the_beginning", [True, False])
async def test_what_a_restart_replays_after_a_failed_sync_survives_a_power_cut(
    *, from_the_beginning: bool
) -> None:
    disk = SimulatedDisk(Random(1))
    journal, _ = opened(disk)
    site = JournalSite(journal)
    await site.batch([b"durable"])
    durable_to = journal.durable_to

    def fail(call: str, file: str) -> None:
        if (call, file) == ("sync", "0000000001.segment"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk.fail_when = fail
    site.append(b"in memory alone")
    await site.until_failed()
    await journal.close()

    disk = disk.after_kill()
    start = BEGINNING if from_the_beginning else durable_to
    journal, there = opened(disk, start)
    assert there[-1] == b"in memory alone", "the system shows it"
    site = JournalSite(journal)
    await journal.close()

    _, there = opened(disk.after_power_cut())
    assert there == [b"durable", b"in memory alone"]


async def test_nothing_is_written_behind_a_segment_whose_sync_has_failed() -> None:
    """So a restart need not write again what is in any segment but the last."""
    disk = SimulatedDisk(Random(1))
    journal, _ = opened(disk)
    site = JournalSite(journal)
    await site.batch([b"durable"])

    def fail(call: str, file: str) -> None:
        if (call, file) == ("sync", "0000000001.segment"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk.fail_when = fail
    pieces = [bytes([number]) * (MIB // 3) for number in range(4)]
    for piece in pieces:  # The last ones have their place in the next segment.
        site.append(piece)
    assert segment_of(journal.position()) == 2
    await site.until_failed()
    await journal.close()
    assert "write 0000000002.segment" not in disk.calls

    disk = disk.after_kill()
    journal, there = opened(disk)
    assert there == [b"durable", *pieces[:2]], "the system shows what is in memory"
    site = JournalSite(journal)
    await journal.close()

    _, there = opened(disk.after_power_cut())
    assert there == [b"durable", *pieces[:2]]
