"""A node's data is set aside in its own data directory, and the node begins without it.

    DIR/set-aside-<incarnation>/   exists: it is decided, and every start continues it
                                   superblock.json in it: it is done, and DIR is a new directory

Everything is renamed, the superblock last: until then it shows that the rest of DIR belongs to the
disk that is set aside, so a crash at any step leaves a directory that the next start finishes.
Only `delete` deletes it, when the other nodes have all of it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from octad.storage_node.journal.disk import Disk

PREFIX = "set-aside-"


def place(data: Path, incarnation: str) -> Path:
    """The directory for the data of the disk `incarnation`."""
    return data / f"{PREFIX}{incarnation}"


def places(data: Path) -> list[Path]:
    """All directories set aside in `data`."""
    return sorted(each for each in data.glob(f"{PREFIX}*") if each.is_dir())


def incarnation_of(there: Path) -> str:
    return there.name.removeprefix(PREFIX)


def decide(disk: Disk, data: Path, incarnation: str) -> None:
    """Make the next start begin without the present data; durable when this returns."""
    disk.make_directory(place(data, incarnation))
    disk.sync_directory(data)


def is_decided(data: Path, incarnation: str) -> bool:
    """Whether the disk, whose superblock is still in `data`, is being set aside."""
    return place(data, incarnation).is_dir()


def carry_out(
    disk: Disk, data: Path, incarnation: str, last: str, staying: Collection[str]
) -> None:
    """Rename everything but `staying`; the file named `last` comes last."""
    there = place(data, incarnation)
    names = {name for name in disk.names(data) if not name.startswith(PREFIX)} - {*staying, last}
    for name in sorted(names):
        disk.rename(data / name, there / name)
    disk.sync_directory(there)
    disk.sync_directory(data)
    disk.rename(data / last, there / last)
    disk.sync_directory(there)
    disk.sync_directory(data)


def can_be_renamed(data: Path) -> bool:
    """False if one of its directories is the root of another file system."""
    return len({each.lstat().st_dev for each in (data, *data.iterdir())}) == 1


def room_needed(data: Path) -> int:
    """Bytes that as much data would take again: those of the journal's files."""
    files = (each.stat() for each in (data / "journal").glob("*.segment"))
    return sum(each.st_blocks * 512 for each in files)


def delete(disk: Disk, there: Path) -> None:
    """Call it when others have verified copies of all of it. A crash leaves a part for later."""
    shutil.rmtree(there)
    disk.sync_directory(there.parent)
