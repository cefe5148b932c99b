"""Extents and their queue survive crashes, replay, compaction and a rebuild of the index."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.unit.engine.engine_site import BUCKET, EngineStory
from tests.unit.upkeep.extent_oracle import PIECES, ExtentOracle, ExtentScript
from tests.unit.upkeep.test_dead_extents import named_in, pieces_in, queued_in

from octad.sharding.ids import Seq
from octad.storage_node.index.index_format import (
    DEAD_EXTENTS,
    DeadExtents,
    decode_dead_extents,
    decode_piece,
    piece_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.journal_errors import JournalFailed, JournalFull, UnreadableRecord
from octad.storage_node.journal.record_format import SegmentId
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    DropExtent,
    ForgetExtents,
    Operation,
    PutObject,
    PutPiece,
    put_object,
)

CRASHES = 5
PIECE_BYTES = 1500
BIG = 6000


def content_of(extent: bytes, number: int) -> bytes:
    return (extent + bytes([number])) * (PIECE_BYTES // 17)


class ExtentStory(EngineStory):
    """What clients, the collector and a compaction do to one engine."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.script = ExtentScript()
        self.whole_queue = True  # A rebuild of the index does not know what was named before.

    async def start(self) -> None:
        await super().start()
        self.script.forget_behind(len(self.history))

    async def rebuild(self) -> None:
        self.whole_queue = False
        await super().rebuild()

    def check(self) -> None:
        site = self.site
        assert site is not None
        oracle = ExtentOracle()
        for seq, operation in enumerate(self.script.operations[: site.applied], start=1):
            oracle.apply(operation, Seq(seq))
        assert named_in(self.index) == oracle.named()
        assert pieces_in(self.index) == oracle.pieces
        queued = queued_in(self.index)
        assert all(oracle.queue[entry] == extents for entry, extents in queued.items())
        assert len(queued) == len(oracle.queue) or not self.whole_queue
        for extent in oracle.named():
            for number in range(PIECES):
                value = self.index.get(piece_key(extent, number))
                assert value is not None
                record = site.journal.read(decode_piece(value).location)
                assert bytes(record.data) == content_of(extent, number)
        assert self.index.counted().live_bytes() == self.index.ledger.live_bytes()

    def clients_work(self) -> None:
        rng = self.rng
        step = (rng.randint(0, 10), rng.randint(0, 2), rng.randint(0, 2), rng.randint(0, 2))
        for operation in self.script.step(step):
            self.write(operation)

    def collect(self) -> None:
        """What the collector proposes, for an entry that is not the last to be written."""
        entries = self.index.scan(DEAD_EXTENTS, past(DEAD_EXTENTS))
        for entry in [decode_dead_extents(value) for _, value in entries][:2]:
            self.collect_one(entry)

    def collect_one(self, entry: DeadExtents) -> None:
        for extent in entry.extents:
            self.propose(DropExtent(extent.id, PIECES))
        self.propose(ForgetExtents(entry.bucket, entry.key, entry.seq))

    def propose(self, operation: Operation) -> None:
        self.script.do(operation)
        self.write(operation)

    def write(self, operation: Operation) -> None:
        assert self.site is not None
        data = b""
        if isinstance(operation, PutObject) and not operation.row.extents:
            data = bytes(operation.row.size)
        elif isinstance(operation, PutPiece):
            data = content_of(operation.extent, operation.number)
        self.site.append(operation, data)
        self.history.append((b"", None))

    async def fill(self, segments: int) -> None:
        """Overwrite a small object until the journal is so many segments further."""
        wanted = max(self.index.ledger.segments, default=0) + segments
        while max(self.index.ledger.segments, default=0) < wanted:
            self.propose(put_object(BUCKET, b"hot", ObjectRow(BIG, "", 0)))
            assert self.site is not None
            await self.site.settled()


@asynccontextmanager
async def running_story(seed: int = 0) -> AsyncIterator[ExtentStory]:
    story = ExtentStory(random.Random(seed))
    await story.start()
    try:
        yield story
    finally:
        await story.close()


async def live(story: ExtentStory, steps: int) -> None:
    for _ in range(steps):
        site = story.site
        assert site is not None
        if site.failure is not None:
            return
        kind = story.rng.random()
        if kind < 0.6:
            story.clients_work()
        elif kind < 0.75:
            await site.settled()
            story.check()
        elif kind < 0.85:
            story.collect()
        elif kind < 0.92:
            story.index.flush()
        else:
            await compact(story)


async def compact(story: ExtentStory) -> None:
    assert story.site is not None
    story.index.flush()
    await story.site.compactor.compact(0)
    await story.site.compactor.let_go(now=True)


async def tell(seed: int, *, rebuild: bool) -> None:
    async with running_story(seed) as story:
        for _ in range(CRASHES):
            story.disk.calls_left = story.rng.choice([None, story.rng.randint(10, 120)])
            try:
                await live(story, 60)
            except (JournalFailed, JournalFull, OSError, UnreadableRecord):
                assert story.disk.off
            await story.crash(power_cut=story.rng.random() < 0.7, rebuild=rebuild)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rebuild", [False, True])
async def test_the_queue_is_what_it_was_after_any_crash(seed: int, rebuild: bool) -> None:
    await tell(seed, rebuild=rebuild)


async def test_a_dropped_extent_stays_dropped_where_its_drop_was_moved() -> None:
    async with running_story() as story:
        extent = bytes(16)
        story.propose(PutPiece(extent, 0, BUCKET, b"a"))
        for number in range(25):  # What lives beside it, so that its segment is not compacted.
            story.propose(PutPiece(bytes([number + 1] * 16), 0, BUCKET, b"a"))
        await story.fill(2)
        story.propose(DropExtent(extent, PIECES))
        await story.fill(3)
        assert story.site is not None
        assert await story.site.compacted()
        assert SegmentId(1) in story.index.ledger.segments
        await story.rebuild()
        assert (extent, 0) not in pieces_in(story.index)


async def test_a_rebuild_never_queues_what_a_later_row_names() -> None:
    """The delete was moved behind the object that was written after it."""
    async with running_story() as story:
        for number in range(8):
            story.propose(put_object(BUCKET, b"cold%d" % number, ObjectRow(BIG, "", 0)))
        await story.fill(2)
        story.propose(DeleteObject(BUCKET, b"a"))
        await story.fill(2)
        (extent,) = story.script.write(b"a", b"", 1)
        for operation in story.script.operations[-PIECES:]:
            story.write(operation)
        story.propose(put_object(BUCKET, b"a", ObjectRow(1, "", 0, extents=(extent,))))
        await story.fill(2)
        assert story.site is not None
        assert await story.site.compacted()
        await story.rebuild()
        assert queued_in(story.index) == {}
