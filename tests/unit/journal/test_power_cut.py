"""A real file system loses power under load, twenty times: the ext4 shutdown ioctl on a loop mount.

Needs root: `pytest -m root tests/unit/journal/test_power_cut.py`. Each cut drops everything that
the kernel had not been told to keep; the mount that follows finds what a machine would find.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.journal.journal_site import data_of, replayed

pytestmark = [pytest.mark.root, pytest.mark.long]

CUTS = 20
ACKNOWLEDGED_MIN = 100  # Per life, before the power goes.
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = (2).to_bytes(4, "little")
IMAGE_BYTES = 1 << 30

WRITER = """
import asyncio, sys
from pathlib import Path
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
def mount(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    image, target = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    target.mkdir()
    subprocess.run(["mount", "-o", "loop", image, target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", target], check=True)


def cut_power(mounted: Path) -> None:
    descriptor = os.open(mounted, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
    finally:
        os.close(descriptor)


def mount_again(mounted: Path) -> None:
    image = mounted.parent / "image"
    subprocess.run(["umount", mounted], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)


def test_every_acknowledged_write_is_there_after_each_of_twenty_power_cuts(mount: Path) -> None:
    written = 0
    for _ in range(CUTS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(mount / "journal"), str(written)],
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
            cut_power(mount)
            writer.send_signal(signal.SIGKILL)
        writer.wait()
        mount_again(mount)
        numbers = [int(data.split(b" ")[0]) for data in data_of(replayed(mount / "journal"))]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= acknowledged, "an acknowledged write is lost"
        written = len(numbers)
    assert written >= CUTS * ACKNOWLEDGED_MIN
