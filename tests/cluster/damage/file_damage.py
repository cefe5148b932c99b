"""What a disk may do to a node's files: a bit flipped, a block cut out, an end or all of it gone.

A plan of damages comes from a seed, and names each file by its kind and each place in it by a share
of its bytes, so that it can be made again whatever the files are called and however long they are.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from octad.storage_node.journal.record_format import RECORDS_OFFSET

NODES = 3
BLOCK_BYTES = 4096
How = Literal["flipped", "zeroed", "cut", "removed"]
When = Literal["running", "stopped", "killed"]
HOW: tuple[How, ...] = ("flipped", "zeroed", "cut", "removed")
WHEN: tuple[When, ...] = ("running", "stopped", "killed")
INDEX = (
    *("*.sst", "MANIFEST-*", "CURRENT", "OPTIONS-*", "IDENTITY", "LOG", "*.log"),
    "rocksdict-config.json",
)
JOURNAL = ("first.segment", "last.segment", "*.segment", "retired.json", "*.spare")
OWN = ("superblock.json", "superblock.copy", "LOCK", "cluster.kept")
ALL_OF_INDEX = "all of it"


@dataclass(frozen=True, slots=True)
class Damage:
    """`share`: how far into the file, of what is written there; `bit`: which one of that byte."""

    place: int  # The node's place.
    when: When
    room: str  # "index", "journal", or "" for the data directory itself.
    file: str
    how: How
    share: float
    bit: int
    twice: bool = False  # At the next node, too, as soon as this one serves.
    rebuild_killed: bool = False  # The process that makes another index is killed once.

    def __str__(self) -> str:
        where = f"{self.room or 'own files'}: {self.file} {self.how} at {self.share:.3f}"
        more = " twice" * self.twice + ", rebuild killed" * self.rebuild_killed
        return f"node {self.place} {self.when}, {where}{more}"

    def may_keep_it_down(self) -> bool:
        """Whether the node may need someone to start again: what the journal is made for."""
        return self.room != "index"


def plan(seed: int, count: int) -> list[Damage]:
    """So many damages at random."""
    dice = random.Random(seed)
    return [_any(dice, dice.randrange(NODES)) for _ in range(count)]


def short_plan(seed: int) -> list[Damage]:
    """Ten, of the kinds that matter most, at random places and in a random order."""
    dice = random.Random(seed)
    kinds: list[tuple[When, str, str, How]] = [
        ("running", "index", "*.sst", "flipped"),
        ("running", "index", "*.sst", "zeroed"),
        ("stopped", "index", "*.sst", "flipped"),
        ("killed", "index", "*.sst", "cut"),
        ("stopped", "index", "CURRENT", "removed"),
        ("killed", "index", "MANIFEST-*", "cut"),
        ("killed", "index", ALL_OF_INDEX, "removed"),
        ("running", "journal", "*.segment", "flipped"),
        ("killed", "journal", "last.segment", "zeroed"),
        ("stopped", "", "superblock.json", "flipped"),
    ]
    dice.shuffle(kinds)
    return [
        Damage(
            *(number % NODES, when, room, file, how, dice.random(), dice.randrange(8)),
            twice=(when, file) == ("stopped", "*.sst"),
            rebuild_killed=(when, file) == ("stopped", "*.sst"),
        )
        for number, (when, room, file, how) in enumerate(kinds)
    ]


def _any(dice: random.Random, place: int) -> Damage:
    room = dice.choices(("index", "journal", ""), (6, 4, 1))[0]
    how, when = dice.choices(HOW, (5, 3, 2, 1))[0], dice.choice(WHEN)
    if room == "index":
        file = dice.choices((*INDEX, ALL_OF_INDEX), (8, 4, 2, *([1] * (len(INDEX) - 2))))[0]
        how = "removed" if file == ALL_OF_INDEX else how
    else:
        file = dice.choice(JOURNAL if room == "journal" else OWN)
    share = dice.choice((dice.random(), dice.random(), 1 - dice.random() / 20))
    index = room == "index"
    return Damage(
        *(place, when, room, file, how, share, dice.randrange(8)),
        twice=index and dice.random() < 0.2,
        rebuild_killed=index and dice.random() < 0.2,
    )


def do(damage: Damage, data: Path) -> str | None:
    """Damage a file of the node in `data`; gives what was done, or None without such a file."""
    if damage.file == ALL_OF_INDEX:
        shutil.rmtree(_index(data))
        return f"{_index(data)} removed"
    file = _file(damage, data)
    if file is None:
        return None
    if damage.how == "removed":
        file.unlink()
        return f"{file} removed"
    written = _written(file)
    at = min(int(written * damage.share), written - 1)
    descriptor = os.open(file, os.O_RDWR)
    try:
        _AT[damage.how](descriptor, at, damage.bit)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return f"{file} {damage.how} at {at} of {written}"


def _flip(descriptor: int, at: int, bit: int) -> None:
    (byte,) = os.pread(descriptor, 1, at)
    os.pwrite(descriptor, bytes([byte ^ (1 << bit)]), at)


def _zero(descriptor: int, at: int, _bit: int) -> None:
    at -= at % BLOCK_BYTES
    os.pwrite(descriptor, bytes(min(BLOCK_BYTES, os.fstat(descriptor).st_size - at)), at)


def _cut(descriptor: int, at: int, _bit: int) -> None:
    os.ftruncate(descriptor, at)


_AT: dict[How, Callable[[int, int, int], None]] = {"flipped": _flip, "zeroed": _zero, "cut": _cut}


def _file(damage: Damage, data: Path) -> Path | None:
    """The files of one kind, oldest first; those with nothing in them can only be removed."""
    directory = {"index": _index(data), "journal": data / "journal", "": data}[damage.room]
    segments = sorted(directory.glob("*.segment"))
    written = [each for each in segments if _written(each) > RECORDS_OFFSET]
    match damage.file:
        case "first.segment":
            found = segments[:1]
        case "last.segment":
            found = written[-1:]
        case kind:
            found = sorted(directory.glob(kind))
    if damage.how != "removed":
        found = [each for each in found if _written(each)]
    return found[int(damage.share * 997) % len(found)] if found else None


def _index(data: Path) -> Path:
    """The one in use: one that was made while the node ran keeps its name until the next start."""
    rebuilt = [each for each in data.glob("index.rebuilt.*") if each.suffix != ".given-up"]
    return max(rebuilt, key=lambda each: int(each.name.split(".")[2]), default=data / "index")


def _written(file: Path) -> int:
    """Up to where there is anything but zeros."""
    return len(file.read_bytes().rstrip(b"\0"))
