"""Journal, index and compaction of one node with one shard and no peers, put together as simply as
can be, beside a dictionary that says what they must hold."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from functools import reduce
from operator import xor
from pathlib import Path

from tests.harness.simulated_disk import SimulatedDisk
from tests.unit.index.twin_index import TwinIndex
from tests.unit.journal.journal_site import IDENTITY, REQUEST_ID, SHARD

from octad.sharding.ids import BucketId, Epoch, Seq, ShardId
from octad.sharding.limits import KIB
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import (
    OBJECTS,
    POSITION_KEY,
    ROW_TABLES,
    decode_object,
    decode_object_key,
    decode_shard_state,
    encode_position,
    encode_value,
    object_key,
    shard_state_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.index.shard_digest import FORMAT, row_hash
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import CorruptRecord, JournalFull
from octad.storage_node.journal.journal_recovery import JournalRecovery
from octad.storage_node.journal.record_format import Location, Position, end_of, start_of
from octad.storage_node.journal.retired_segments import read_retired
from octad.storage_node.journal.several_records import Several
from octad.storage_node.journal.shard_state import ShardDigest, ShardState
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    IndexChanges,
    Operation,
    decode_operation,
    encode_operation,
    kind_of,
    put_object,
    touched,
)
from octad.storage_node.rebuild.index_rebuild import IndexRebuild
from octad.storage_node.upkeep.compactor import Compactor, check_segments

BUCKET = BucketId(1)
DIRECTORY = Path("/data/journal")
SEGMENT_BYTES = 48 * KIB
_EPOCH = Epoch(1)

Change = tuple[bytes, bytes | None]  # Key, and its value; None: deleted.


class EngineSite:
    """An open engine. `acknowledged` is the seq up to which everything has been called durable."""

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        index: CountedIndex,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.index = index
        self.journal = Journal.open(directory, IDENTITY, disk, segment_bytes)
        self.failure: Exception | None = None
        self._changed = asyncio.Event()
        self.damage: list[CorruptRecord] = []
        self._pending: deque[tuple[Position, Seq, Operation, Location]] = deque()
        check_segments(self.journal, index)
        self.recover()
        self.acknowledged = self.end = self.applied
        self.compactor = Compactor(self.journal, index, self._is_dirty, self.damage.append)
        self.compactor.finish_earlier_work()

    def recover(self) -> None:
        stored = self.index.get(shard_state_key(SHARD))
        self.applied = Seq(0) if stored is None else decode_shard_state(stored).applied
        changes = IndexChanges(self.index.get, self.index.digests)
        for location, record in self.journal.replay(self.index.position()):
            if record.seq > self.applied:
                assert record.seq == self.applied + 1, "an entry is missing"
                operation = decode_operation(record.kind, record.metadata)
                changes.apply(operation, location, SHARD, _EPOCH, record.seq)
                self.applied = record.seq
        self.index.follow(self.journal)
        self.journal.start(self._on_durable, self._on_failed)
        self._write(changes)

    def put(self, key: bytes, value: bytes, etag: str = "") -> None:
        self.append(put_object(BUCKET, key, ObjectRow(len(value), etag, 0)), value)

    def delete(self, key: bytes) -> None:
        self.append(DeleteObject(BUCKET, key), b"")

    def get(self, key: bytes) -> bytes | None:
        """Raises CorruptRecord."""
        value = self.index.get(object_key(BUCKET, key))
        if value is None:
            return None
        return bytes(self.journal.read(decode_object(value).location).data)

    async def settled(self) -> None:
        """Everything appended is durable and applied, or the engine has failed."""
        while self._pending and self.failure is None:
            self._changed.clear()
            await self._changed.wait()

    def note_position(self) -> None:
        """Write how far the rows go, as every change of them does."""
        self._write(IndexChanges(self.index.get, self.index.digests))

    async def compacted(self) -> int:
        """Compact all that is worth it; gives the number of segments."""
        self.index.flush()
        segments = 0
        while await self.compactor.compact(0):
            segments += 1
        await self.compactor.let_go(now=True)
        return segments

    def append(self, operation: Operation, data: bytes) -> None:
        """Write the shard's next entry."""
        seq = Seq(self.end + 1)
        appended = self.journal.append(
            kind_of(operation),
            SHARD,
            _EPOCH,
            seq,
            Seq(self.applied),
            REQUEST_ID,
            encode_operation(operation),
            data,
            operation if isinstance(operation, Several) else None,
        )
        self.end = seq
        self._pending.append((appended.lsn, seq, operation, appended.location))

    def _is_dirty(self, shard: ShardId, key: bytes) -> bool:
        return any(key in touched(operation) for _, _, operation, _ in self._pending)

    def _on_durable(self, lsn: Position) -> None:
        changes = IndexChanges(self.index.get, self.index.digests)
        pending = self._pending
        while pending and pending[0][0] <= lsn:
            _, seq, operation, location = pending.popleft()
            changes.apply(operation, location, SHARD, _EPOCH, seq)
            self.acknowledged = self.applied = seq
        self._write(changes)
        self._changed.set()

    def _write(self, changes: IndexChanges) -> None:
        puts, deletes = changes.split()
        digest = self.index.digests.now(SHARD)
        state = ShardState(Seq(self.applied), _EPOCH, _EPOCH, digest=digest)
        puts.append((shard_state_key(SHARD), encode_value(state)))
        first = self._pending[0] if self._pending else None
        place = start_of(first[3]) if first is not None else self.journal.position()
        puts.append((POSITION_KEY, encode_position(place)))
        self.index.write(puts, deletes, changes.before)

    def _on_failed(self, error: Exception) -> None:
        self.failure = error
        self._changed.set()


class EngineStory:
    """An engine that lives through crashes, and all that was asked of it, in order."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.history: list[Change] = []
        self.disk = SimulatedDisk(rng)
        self.index = TwinIndex()
        self.site: EngineSite | None = None
        self.crashes = 0

    async def start(self) -> None:
        """Open the engine, and compare all it holds with what it must hold."""
        site = self.site = EngineSite(DIRECTORY, self.disk, self.index)
        del self.history[site.applied :]
        self.check()

    def check(self) -> None:
        site = self.site
        assert site is not None
        expected = dict(self.history[: site.applied])
        held = {decode_object_key(key)[1] for key, _ in self.index.scan(OBJECTS, past(OBJECTS))}
        assert held == {key for key, value in expected.items() if value is not None}
        for key, value in expected.items():
            assert site.get(key) == value, (key, site.applied)
        assert self.index.counted().live_bytes() == self.index.ledger.live_bytes()
        for segment, use in self.index.counted().segments.items():
            assert self.index.ledger.segments[segment].live == use.live
        assert self.index.digests.now(SHARD) in (None, digest_of_rows(self.index))

    def change(self, key: bytes, value: bytes | None) -> bool:
        """Ask for it; False when the disk has no room."""
        assert self.site is not None
        try:
            if value is None:
                self.site.delete(key)
            else:
                self.site.put(key, value)
        except JournalFull:
            return False
        self.history.append((key, value))
        return True

    async def crash(
        self, *, power_cut: bool, rebuild: bool = True, index_lost: bool = False
    ) -> None:
        """The process is gone, and with it perhaps what the disk was not told to keep."""
        site = self.site
        assert site is not None
        acknowledged = site.acknowledged
        self.disk.off = True
        await stop(site)
        self.disk = self.disk.after_power_cut() if power_cut else self.disk.after_kill()
        self.index = self.index.after_crash(self.rng)
        self.crashes += 1
        if index_lost:
            self.lose_index()
        await self.start()
        assert self.site is not None
        assert acknowledged <= self.site.applied, "an acknowledged write is lost"
        if rebuild:
            await self.rebuild()

    async def rebuild(self) -> None:
        """Go on with an index made from the journal alone; it must say the same."""
        assert self.site is not None
        applied = self.site.applied
        await stop(self.site)
        if self.disk.off or self.disk.calls_left is not None:
            return
        self.disk = self.disk.after_kill()
        self.lose_index()
        await self.start()
        assert self.site.applied == applied

    def lose_index(self) -> None:
        """Of a stopped engine: what it has now is made from the journal alone, in some rounds.

        Each ends where the journal was durable at some moment.
        """
        self.index = TwinIndex()
        rebuilding = IndexRebuild(self.disk, DIRECTORY, IDENTITY, self.index)
        whole = JournalRecovery(self.disk, DIRECTORY, IDENTITY, Position(0))
        ends = [end_of(location) for location, _ in whole.records(local=True)]
        reaches = read_retired(self.disk, DIRECTORY).reaches
        ends = [end for end in ends if end >= reaches]
        rng = random.Random(len(ends))  # The stories go on as they would have.
        for end in sorted(rng.sample(ends, min(len(ends), rng.choice([0, 1, 3])))):
            rebuilding.read_on(end)
        rebuilding.read_on()
        rebuilding.finish()

    async def close(self) -> None:
        if self.site is not None:
            await stop(self.site)


def digest_of_rows(index: CountedIndex) -> ShardDigest:
    """What the rows of all tables amount to."""
    tables = [index.scan(bytes([table]), bytes([table + 1])) for table in sorted(ROW_TABLES)]
    hashes = [row_hash(key, value) for rows in tables for key, value in rows]
    return ShardDigest(FORMAT, len(hashes), reduce(xor, hashes, 0))


async def stop(site: EngineSite) -> None:
    await site.journal.close()
    await asyncio.sleep(0)
