"""Replaces a damaged index by another that is made from the journal.

    damage ─ DIR/index.damaged, durable ─ a process reads the journal: DIR/index.rebuilding ─
    complete: DIR/index.rebuilt.N ─ the node goes on with it (`index_catch_up.py`) ─
    the next start: DIR/index, and no mark any more

The mark is what a restart goes by: an index that has once been damaged is never opened again. The
process reads up to where the journal is durable, again and again, until little is left to catch up
with. It is one of its own so that the node's loop goes on: the node acknowledges meanwhile. Each
index has a name that no other had while the node ran, because RocksDB writes by name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Position

MARK = "index.damaged"
REBUILDING = "index.rebuilding"
_REBUILT = "index.rebuilt."
_GIVEN_UP = ".given-up"  # The suffix of an index that was rebuilt and then damaged, too.
_ROUND_S = 1.0  # A replay takes about as long as the last round.
_ROUNDS_MAX = 10  # Clients may write as fast as it reads.
_RETRY_S_MIN, _RETRY_S_MAX = 1.0, 60.0
DAMAGED = os.EX_DATAERR  # What the process ends with where the journal is to blame,
NOT_FOR_OTHERS = os.EX_IOERR  # and the same where no one should fill the node anew for it.

log = logging.getLogger(__name__)


class RebuildFailed(Exception):
    """No index could be made from the journal; the mark stays. For the others: JournalDamage."""

    def __init__(self, why: str, *, others_may_fill: bool) -> None:
        super().__init__(why)
        self.others_may_fill = others_may_fill


class RebuildDelayed(Exception):
    """None could be made now: no room for it, the process was killed, or it hit a bug."""


class Round(msgspec.Struct):
    """What the process says of each round: a line of JSON."""

    records: int


class Asked(msgspec.Struct):
    """What the process is told: read up to here, or (None) all of a journal that no one writes.

    `last`: it is to finish then.
    """

    until: Position | None
    last: bool


def is_marked(data: Path) -> bool:
    """Whether the index in a node's data directory is known to be damaged."""
    return (data / MARK).exists()


def mark(disk: Disk, index: Path, why: str) -> None:
    """`index` is damaged, or gone: durable when this returns. To say so again changes nothing."""
    data = index.parent
    descriptor = disk.open(data / MARK, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        disk.write(descriptor, [why.encode() + b"\n"], 0)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    if index.name.startswith(_REBUILT):
        given_up = index.with_name(index.name + _GIVEN_UP)
        if index.exists():
            disk.rename(index, given_up)
        disk.make_directory(given_up)
    disk.sync_directory(data)


def give_up(disk: Disk, made: Path) -> None:
    """Delete a rebuilt index that is of no use; its name is not used again."""
    given_up = made.with_name(made.name + _GIVEN_UP)
    disk.rename(made, given_up)
    disk.sync_directory(made.parent)
    for name in disk.names(given_up):
        disk.unlink(given_up / name)


def pauses() -> Iterator[float]:
    """Seconds between one try and the next, for ever: what is in the way may take hours to go."""
    pause_s = _RETRY_S_MIN
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _RETRY_S_MAX)


def adopt(disk: Disk, data: Path) -> bool:
    """Put an index that was rebuilt in the place of the damaged one; False when there is none."""
    rebuilt = [each for each in data.glob(_REBUILT + "*") if each.suffix != _GIVEN_UP]
    if not rebuilt:
        return False
    shutil.rmtree(data / "index", ignore_errors=True)
    disk.rename(rebuilt[0], data / "index")
    disk.sync_directory(data)
    disk.unlink(data / MARK)
    disk.sync_directory(data)
    for other in data.glob(_REBUILT + "*"):
        shutil.rmtree(other)
    return True


def forget_damage(disk: Disk, data: Path) -> None:
    """DIR/index is a new one, made on a stopped node: no other is to take its place."""
    for other in data.glob(_REBUILT + "*"):
        shutil.rmtree(other)
    if is_marked(data):
        disk.unlink(data / MARK)
        disk.sync_directory(data)


async def rebuild_beside(data: Path, durable_to: Callable[[], Position] | None) -> Path:
    """Returns where the complete index is. Raises RebuildFailed, RebuildDelayed.

    `durable_to` is asked for each round; None: no one writes the journal.
    """
    began = time.monotonic()
    result = _unused(data)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "octad.storage_node.rebuild.index_rebuild_process"),
        *(str(data), str(result)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        records = await _lead(process, durable_to)
        _, complaint = await process.communicate()
        if process.returncode or records is None:
            last = complaint.decode(errors="replace").strip().splitlines()[-1:]
            code = process.returncode or 0
            why = last[0] if last else f"the process ended with {code}"
            await asyncio.to_thread(shutil.rmtree, data / REBUILDING, ignore_errors=True)
            if code not in (DAMAGED, NOT_FOR_OTHERS):
                raise RebuildDelayed(why)
            raise RebuildFailed(why, others_may_fill=code == DAMAGED)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    log.info("an index of %d records was made in %.1f s", records, time.monotonic() - began)
    return result


def _unused(data: Path) -> Path:
    """A name that no index has had since the node was started."""
    numbers = [int(each.name.split(".")[2]) for each in data.glob(_REBUILT + "*")]
    return data / f"{_REBUILT}{max(numbers, default=0) + 1}"


async def _lead(
    process: asyncio.subprocess.Process, durable_to: Callable[[], Position] | None
) -> int | None:
    """Round after round; returns how many records were read, or None when it has ended early."""
    assert process.stdin is not None
    assert process.stdout is not None
    records = 0
    took_s = float("inf")
    for number in range(_ROUNDS_MAX):
        last = durable_to is None or took_s < _ROUND_S or number == _ROUNDS_MAX - 1
        asked = Asked(None if durable_to is None else durable_to(), last)
        began = time.monotonic()
        # What it says of its end is read below; to a pipe that is closed, uvloop refuses to write.
        with suppress(ConnectionError, RuntimeError):
            process.stdin.write(msgspec.json.encode(asked) + b"\n")
            await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            return None
        records += msgspec.json.decode(line, type=Round).records
        took_s = time.monotonic() - began
        if last:
            return records
    raise AssertionError("the last round is the last")
