"""A journal in a directory, driven batch by batch, and what it looks like after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Appended, Journal
from octad.storage_node.journal.record_format import (
    Identity,
    Location,
    Position,
    Record,
    RecordKind,
    segment_of,
)

IDENTITY = Identity("0123abcd", NodeId(1), "00112233445566778899aabbccddeeff")
REQUEST_ID = bytes(range(16))
SHARD = ShardId(7)
BEGINNING = Position(0)


class JournalSite:
    """A started journal; `durable` grows as it says so, `failures` should stay empty."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.durable: list[Position] = []
        self.failures: list[Exception] = []
        self.appended: list[tuple[Appended, bytes]] = []
        self._changed = asyncio.Event()
        journal.start(self._on_durable, self._on_failed)

    def append(self, data: bytes, kind: RecordKind = RecordKind.PUT_OBJECT) -> Appended:
        seq = Seq(len(self.appended) + 1)
        appended = self.journal.append(
            kind, SHARD, Epoch(1), seq, Seq(seq - 1), REQUEST_ID, b"metadata", data
        )
        self.appended.append((appended, data))
        return appended

    async def batch(self, data: Sequence[bytes]) -> list[Location]:
        """Append all in one tick and return when they are durable."""
        appended = [self.append(each) for each in data]
        await self.until_durable(appended[-1].lsn)
        return [each.location for each in appended]

    async def until_durable(self, lsn: Position) -> None:
        while not self.durable or self.durable[-1] < lsn:
            assert not self.failures, self.failures
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 10)

    async def until_failed(self) -> Exception:
        while not self.failures:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 10)
        return self.failures[0]

    def _on_durable(self, lsn: Position) -> None:
        self.durable.append(lsn)
        self._changed.set()

    def _on_failed(self, error: Exception) -> None:
        self.failures.append(error)
        self._changed.set()


@asynccontextmanager
async def running_journal(
    directory: Path, disk: Disk | None = None, start: Position = BEGINNING
) -> AsyncIterator[JournalSite]:
    """A journal after its replay, closed at the end."""
    journal = Journal.open(directory, IDENTITY, disk)
    for _ in journal.replay(start):
        pass
    site = JournalSite(journal)
    try:
        yield site
    finally:
        await journal.close()


def copy_as_crashed(source: Path, target: Path, end: Position) -> None:
    """What a kill at this moment leaves: used segments up to `end`, the prepared one left out."""
    target.mkdir()
    for path in sorted(source.glob("*.segment")):
        number = int(path.stem)
        if number <= segment_of(end):
            with path.open("rb") as file:
                content = file.read(_used_bytes(number, end))
            (target / path.name).write_bytes(content)


def replayed(directory: Path, start: Position = BEGINNING) -> list[tuple[Location, Record]]:
    """The records that a restart would find."""
    return list(Journal.open(directory, IDENTITY).replay(start))


def data_of(records: list[tuple[Location, Record]]) -> list[bytes]:
    return [bytes(record.data) for _, record in records]


def _used_bytes(number: int, end: Position) -> int:
    """All of a full segment; of the last, to the end and a little of what is behind it."""
    return -1 if number < segment_of(end) else (end & 0xFFFFFFFF) + 4096
