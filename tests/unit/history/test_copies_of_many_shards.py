"""Many shards copied at once: what they wait for together, and what counts as clients' work."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.journal.journal_site import IDENTITY

from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq, ShardId, shard_id
from octad.sharding.limits import HISTORY_STEP_ROWS
from octad.storage_node.history import history_writer
from octad.storage_node.history.history_copier import HISTORY_COPIES, HistoryCopier
from octad.storage_node.history.history_messages import (
    HistoryRead,
    HistoryRecord,
    HistoryRow,
    ReadHistory,
)
from octad.storage_node.history.history_writer import HistoryWriter
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import (
    decode_shard_order_key,
    object_key,
    shard_order_key,
)
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import Position, RecordKind
from octad.storage_node.operations.index_changes import (
    Barrier,
    DeleteObject,
    Operation,
    encode_operation,
    kind_of,
    put_object,
    touched,
)
from octad.storage_node.replication.digest_messages import DigestRead, DigestsRead, ReadDigests
from octad.storage_node.replication.host.log_writer import LogWriter
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Append, SplitLog, StartLog
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_log import NO_REQUEST, Entry, ShardLog
from octad.storage_node.rpc.messages import Message, Reply, Request, reply_to

SOURCE = NodeId(2)
POOL = PoolId(0)
DEPTH = 8
BUCKET = BucketId(1)
SHARDS = [shard_id(POOL, number) for number in range(3 * HISTORY_COPIES)]


class CountingIndex(CountedIndex):
    """Counts flushes; they wait while `free` is not set."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.free = asyncio.Event()
        self.free.set()
        self.flushes = 0

    async def flush_in_thread(self) -> None:
        self.flushes += 1
        await self.free.wait()
        await super().flush_in_thread()


@asynccontextmanager
async def engine(directory: Path) -> AsyncIterator[tuple[Journal, CountingIndex]]:
    index = CountingIndex(directory / "index")
    journal = Journal.open(directory / "journal", IDENTITY)
    for _ in journal.replay(Position(0)):
        pass
    index.follow(journal)
    failures: list[Exception] = []
    journal.start(lambda _: None, failures.append)
    try:
        yield journal, index
    finally:
        await journal.close()
        index.close()
    assert not failures


def pool_of_bucket(_bucket: BucketId) -> PoolId:
    return POOL


async def test_copies_that_end_one_after_the_other_share_flushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_writer, "HISTORY_FLUSH_S", 0.5)
    loop = asyncio.get_running_loop()
    async with engine(tmp_path) as (journal, index):
        writer = HistoryWriter(journal, index, pool_of_bucket)
        began = loop.time()
        installs = []
        for shard in SHARDS:
            installs.append(asyncio.create_task(writer.install(shard, Seq(1), Seq(1), [])))
            await asyncio.sleep(0.01)
        await asyncio.gather(*installs)
        assert index.flushes <= (loop.time() - began) / 0.5 + 1


async def test_a_copy_alone_does_not_wait_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_writer, "HISTORY_FLUSH_S", 3600.0)
    async with engine(tmp_path) as (journal, index):
        writer = HistoryWriter(journal, index, pool_of_bucket)
        await asyncio.wait_for(writer.install(SHARDS[0], Seq(1), Seq(1), []), 10)


async def test_a_copy_goes_on_once_a_file_can_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that says whose a row is may be the only thing that does."""
    compare, tries = HistoryWriter.compare, iter([OSError(errno.EMFILE, os.strerror(errno.EMFILE))])

    async def compared(writer: HistoryWriter, *of: Any) -> Any:
        for error in tries:
            raise error
        return await compare(writer, *of)

    monkeypatch.setattr(HistoryWriter, "compare", compared)
    target, shard = Target(), SHARDS[0]
    async with engine(tmp_path) as (journal, index):

        async def call(
            _node: NodeId, message: Request[Reply], _body: bytes, _timeout_s: float
        ) -> tuple[Reply, bytes]:
            asked: Message = message
            if isinstance(asked, ReadDigests):
                digest = DigestRead(shard, Seq(1), index.digests.now(shard), 0)
                return reply_to(message, DigestsRead([digest])), b""
            assert isinstance(asked, ReadHistory)
            return reply_to(message, HistoryRead(Seq(1), Seq(1), asked.end, [], [])), b""

        copier = HistoryCopier(journal, index, call, pool_of_bucket, lambda _: None)
        index.digests.stand_at(shard, Seq(1))
        copier.begin(target, shard, DEPTH, Seq(1), (SOURCE,))
        async with asyncio.timeout(10):
            while not target.copied:
                await asyncio.sleep(0.01)
        await copier.close()


async def test_a_copy_that_waits_for_the_disk_lets_the_next_one_begin(tmp_path: Path) -> None:
    target = Target()
    async with engine(tmp_path) as (journal, index):
        index.free.clear()
        copying: set[ShardId] = set()
        all_asked = asyncio.Event()

        async def call(
            _node: NodeId, message: Request[Reply], _body: bytes, _timeout_s: float
        ) -> tuple[Reply, bytes]:
            asked: Message = message
            if isinstance(asked, ReadDigests):
                ((shard, seq),) = asked.shards
                digest = DigestRead(shard, seq, index.digests.now(shard), 0)
                return reply_to(message, DigestsRead([digest])), b""
            assert isinstance(asked, ReadHistory)
            copying.add(asked.shard)
            if len(copying) == len(SHARDS):
                all_asked.set()
            return reply_to(message, HistoryRead(Seq(1), Seq(1), asked.end, [], [])), b""

        copier = HistoryCopier(
            journal,
            index,
            call,
            pool_of_bucket,
            lambda _: None,
        )
        for shard in SHARDS:
            index.digests.stand_at(shard, Seq(1))
            copier.begin(target, shard, DEPTH, Seq(1), (SOURCE,))
        await asyncio.wait_for(all_asked.wait(), 10)
        assert not target.copied, "nothing is durable yet"
        index.free.set()
        async with asyncio.timeout(10):
            while len(target.copied) < len(SHARDS):
                await asyncio.sleep(0.01)
        await copier.close()


async def test_rows_of_a_copy_that_is_no_longer_wanted_appear_before_anything_behind_them(
    tmp_path: Path,
) -> None:
    """A recovery by force may put the receiver in charge: its barrier follows these records."""
    async with engine(tmp_path) as (journal, index):
        writer = HistoryWriter(journal, index, pool_of_bucket)
        copied = []
        for number in range(3 * HISTORY_STEP_ROWS):
            operation = put_object(BUCKET, b"%d" % number, ObjectRow(0, "", 0))
            kind, metadata = kind_of(operation), encode_operation(operation)
            order_key = shard_order_key(
                number.to_bytes(8, "big"), object_key(BUCKET, b"%d" % number)
            )
            row = HistoryRow(order_key, Epoch(1), Seq(number + 1), 1)
            record = HistoryRecord(number, kind, bytes(16), metadata, 0)
            copied.append(writer.append(SHARDS[0], row, record, b""))
        putting = asyncio.create_task(writer.put(SHARDS[0], copied, lambda: False))
        await asyncio.sleep(0)
        barrier = journal.append(
            RecordKind.BARRIER, SHARDS[0], Epoch(2), Seq(999), Seq(0), bytes(16), b"", b""
        )
        await journal.durable(barrier.lsn)
        assert all(index.get(decode_shard_order_key(row.order_key)) for _, row, _ in copied)
        await putting


class Target:
    """Wants all of it."""

    def __init__(self) -> None:
        self.copied: list[ShardId] = []

    def wants_copy(self, _shard: ShardId, _start: Seq) -> bool:
        return True

    def on_copied(
        self, shard: ShardId, _start: Seq, _as_of: Seq, _request_ids: list[tuple[bytes, Seq]]
    ) -> None:
        self.copied.append(shard)


def entry(seq: int, operation: Operation) -> Append:
    metadata = encode_operation(operation)
    kind, keys = kind_of(operation), touched(operation)
    made = Entry(Epoch(2), Seq(seq), kind, NO_REQUEST, metadata, b"", operation, keys)
    return Append(made, Seq(0))


async def test_what_puts_a_log_in_order_is_no_work_of_clients(tmp_path: Path) -> None:
    log = ShardLog(Seq(0), Epoch(0))
    leases = PairLeases(NodeId(1), 1, 0.0)
    replica = ShardReplica(
        SHARDS[0], NodeId(1), "", leases, Strength(1, 1), lambda *_: None, log, {}
    )
    async with engine(tmp_path) as (journal, _):
        writer = LogWriter(journal)
        writer.start_anew(replica, StartLog(Seq(0), Epoch(0), Seq(0), Seq(0)))
        writer.append(replica, entry(1, Barrier()))
        split = SplitLog(
            SHARDS[1], 9, Seq(1), Epoch(2), ShardLog(Seq(0), Epoch(0)), None, None, Epoch(2), None
        )
        writer.split(replica, split)
        assert journal.records_appended == journal.upkeep_appended == 3
        writer.append(replica, entry(2, DeleteObject(BucketId(1), b"key")))
        assert journal.records_appended - journal.upkeep_appended == 1
