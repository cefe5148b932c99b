"""What a node had is set aside in its own data directory, whole, and the node begins without it.

    DIR/set-aside-<incarnation>/   made: it is decided, and every start carries it out
                                   superblock.json in it: it is done, and DIR is a new directory

Everything is renamed, the superblock last: until it is there, what remains in DIR is known by it to
be of the disk that is set aside, so a crash at any step leaves a directory that the next start
finishes. Nothing of it is deleted here but by `delete`, when the others have all of it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from octad.storage_node.journal.disk import Disk

PREFIX = "set-aside-"


def place(data: Path, incarnation: str) -> Path:
    """Where what the disk `incarnation` had is set aside."""
    return data / f"{PREFIX}{incarnation}"


def places(data: Path) -> list[Path]:
    """All that is set aside in `data`."""
    return sorted(each for each in data.glob(f"{PREFIX}*") if each.is_dir())


def incarnation_of(there: Path) -> str:
    return there.name.removeprefix(PREFIX)


def decide(disk: Disk, data: Path, incarnation: str) -> None:
    """From now on the next start begins without what is there; durable when this returns."""
    disk.make_directory(place(data, incarnation))
    disk.sync_directory(data)


def is_decided(data: Path, incarnation: str) -> bool:
    """Of a disk whose superblock is still in `data`."""
    return place(data, incarnation).is_dir()


def carry_out(
    disk: Disk, data: Path, incarnation: str, last: str, staying: Collection[str]
) -> None:
    """Rename everything but what is `staying`, and `last` of all the file of that name."""
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
    """Not where one of its directories is the root of another file system."""
    return len({each.lstat().st_dev for each in (data, *data.iterdir())}) == 1


def room_needed(data: Path) -> int:
    """Bytes that as much data would take again: those of the journal's files."""
    files = (each.stat() for each in (data / "journal").glob("*.segment"))
    return sum(each.st_blocks * 512 for each in files)


def delete(disk: Disk, there: Path) -> None:
    """The others have all that is in it, verified. A crash leaves a part, for the next try."""
    shutil.rmtree(there)
    disk.sync_directory(there.parent)
