"""A disk of one's own: an ext4 file system in a file, which can lose its power. Needs root."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = (2).to_bytes(4, "little")


class LoopDisk:
    """`image` holds the file system that is mounted at `mounted`."""

    def __init__(self, image: Path, mounted: Path) -> None:
        self.image, self.mounted = image, mounted

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.mounted], check=True)

    def cut_power(self) -> None:
        """Drop all that the kernel was not told to keep, and what is written from here on.

        It may still end a sync without an error that was under way at this moment.
        """
        descriptor = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def mount_again(self) -> None:
        """What a machine finds after the power cut; no one may have a file of it open."""
        subprocess.run(["umount", self.mounted], check=True)
        self.mount()


@contextmanager
def loop_disk(mounted: Path, size: int) -> Iterator[LoopDisk]:
    """An empty one at `mounted`, which is made; gone in the end."""
    disk = LoopDisk(mounted.with_name(f"{mounted.name}.image"), mounted)
    with disk.image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk.image], check=True)
    mounted.mkdir()
    disk.mount()
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)
        disk.image.unlink()


@contextmanager
def data_on_loop_disk(data: Path, size: int) -> Iterator[LoopDisk]:
    """All data of a cluster that is stopped lies on one."""
    kept = data.with_name("kept")
    data.rename(kept)
    with loop_disk(data, size) as disk:
        shutil.copytree(kept, data, dirs_exist_ok=True)
        yield disk
