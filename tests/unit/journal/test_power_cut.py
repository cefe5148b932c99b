"""A real file system loses power under load, twenty times: the ext4 shutdown ioctl on a loop mount.

Needs root: `pytest -m root tests/unit/journal/test_power_cut.py`. Each cut drops everything that
the kernel had not been told to keep; the mount that follows finds what a machine would find.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.loop_disk import LoopDisk, loop_disk
from tests.unit.journal.journal_site import data_of, replayed

pytestmark = [pytest.mark.root, pytest.mark.long]

CUTS = 20
ACKNOWLEDGED_MIN = 100  # Per life, before the power goes.
IMAGE_BYTES = 1 << 30

WRITER = """
import asyncio, sys
from pathlib import Path
from tests.harness.loop_disk import LoopDisk, loop_disk
from tests.unit.journal.journal_site import running_journal

async def main():
    async with running_journal(Path(sys.argv[1])) as site:
        number = int(sys.argv[2])
        while True:
            batch = [b"%d " % n + b"x" * (n * 7919 % 30000) for n in range(number, number + 20)]
            number += 20
            await site.batch(batch)
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with loop_disk(tmp_path / "mounted", IMAGE_BYTES) as disk:
        yield disk


def test_every_acknowledged_write_is_there_after_each_of_twenty_power_cuts(disk: LoopDisk) -> None:
    written = 0
    for _ in range(CUTS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(disk.mounted / "journal"), str(written)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        acknowledged = written
        assert writer.stdout is not None
        with writer.stdout as told:
            for line in told:
                acknowledged = int(line)
                if acknowledged >= written + ACKNOWLEDGED_MIN:
                    break
            # What is acknowledged from here on does not count: the kernel may still end a sync
            # without an error that was under way at the moment of the ioctl.
            disk.cut_power()
            writer.send_signal(signal.SIGKILL)
        writer.wait()
        disk.mount_again()
        numbers = [int(data.split(b" ")[0]) for data in data_of(replayed(disk.mounted / "journal"))]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= acknowledged, "an acknowledged write is lost"
        written = len(numbers)
    assert written >= CUTS * ACKNOWLEDGED_MIN
