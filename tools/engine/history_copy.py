"""How fast a shard's history is copied from one node's disk to another's, without a network.

    python -m tools.engine.history_copy DIR

Journals and indexes are real, both in this one process: its CPU is that of both nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq, ShardId, shard_id
from octad.sharding.limits import KIB, MIB
from octad.storage_node.history.history_copier import HistoryCopier
from octad.storage_node.history.history_messages import ReadHistory, ReadRecords
from octad.storage_node.history.history_source import HistorySource
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import Identity, Position
from octad.storage_node.operations.index_changes import (
    IndexChanges,
    Operation,
    PutPiece,
    encode_operation,
    kind_of,
    put_object,
)
from octad.storage_node.replication.digest_messages import DigestRead, DigestsRead, ReadDigests
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_log import ShardLog
from octad.storage_node.rpc.messages import (
    Message,
    Reply,
    Request,
    decode_message,
    encode_message,
    reply_to,
)

SHARD = shard_id(PoolId(0), 0)
BUCKET = BucketId(1)
SOURCE = NodeId(1)


class Side:
    """A node's disk."""

    def __init__(self, directory: Path) -> None:
        identity = Identity("0123abcd", SOURCE, "00" * 16)
        directory.mkdir(parents=True)
        self.index = CountedIndex(directory / "index")
        self.journal = Journal.open(directory / "journal", identity)
        for _ in self.journal.replay(Position(0)):
            pass
        self.index.follow(self.journal)
        self.journal.start(lambda _: None, _fail)

    async def write(self, operations: list[Operation], data: bytes) -> None:
        """As a primary would, but in one go."""
        for first in range(0, len(operations), 64):
            await self.journal.wait_for_room()
            changes = IndexChanges(lambda _key: None, self.index.digests)
            for number, operation in enumerate(operations[first : first + 64], first + 1):
                appended = self.journal.append(
                    kind_of(operation), SHARD, Epoch(1), Seq(number), Seq(number - 1),
                    number.to_bytes(16, "big"), encode_operation(operation), data,
                )  # fmt: skip
                changes.apply(operation, appended.location, SHARD, Epoch(1), Seq(number))
            await self.journal.durable(appended.lsn)
            self.index.write(*changes.split())

    async def close(self) -> None:
        await self.journal.close()
        self.index.close()


@dataclass(frozen=True)
class Figures:
    """Of one copy."""

    records: int
    size: int
    seconds: float
    cpu: float
    longest_step: float

    def __str__(self) -> str:
        mib = self.records * self.size / MIB
        return (
            f"{self.records} records of {self.size // KIB} KiB: {mib / self.seconds:.0f} MiB/s, "
            f"{self.records / self.seconds:.0f} records/s, "
            f"CPU {self.cpu / mib * 1000:.2f} ms a MiB, "
            f"{self.cpu / self.records * 1e6:.0f} µs a record, "
            f"longest step {self.longest_step * 1000:.1f} ms"
        )


async def copied(source: Side, target: Side, count: int, size: int) -> Figures:
    """Copy all that `source` has."""
    replica = ShardReplica(
        SHARD, SOURCE, "", PairLeases(SOURCE, 1, 0.0), Strength(1, 1), lambda *_: None,
        ShardLog(Seq(count), Epoch(1)), {},
    )  # fmt: skip
    answers = HistorySource(source.journal, source.index, lambda _: replica, lambda _: PoolId(0))
    done = asyncio.Event()

    async def call(
        _node: NodeId, message: Request[Reply], _body: bytes, _timeout_s: float
    ) -> tuple[Reply, bytes]:
        asked = decode_message(encode_message(message))
        answer: Message
        body: list[memoryview] = []
        if isinstance(asked, ReadHistory):
            answer = await answers.read_history(asked)
        elif isinstance(asked, ReadDigests):
            digest = source.index.digests.now(SHARD)
            answer = DigestsRead([DigestRead(SHARD, Seq(count), digest, 0)])
        else:
            assert isinstance(asked, ReadRecords)
            answer, body = await answers.read_records(asked)
        return reply_to(message, decode_message(encode_message(answer))), b"".join(body)

    copier = HistoryCopier(target.journal, target.index, call, lambda _: PoolId(0), lambda _: None)
    target.index.digests.stand_at(SHARD, Seq(count))
    watch = asyncio.create_task(_longest_step(done))
    began, cpu = time.perf_counter(), time.process_time()
    copier.begin(UntilCopied(done), SHARD, 0, Seq(1), (SOURCE,))
    await done.wait()
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    await copier.close()
    return Figures(count, size, seconds, used, await watch)


class UntilCopied:
    """Wants it once."""

    def __init__(self, done: asyncio.Event) -> None:
        self._done = done

    def wants_copy(self, _shard: ShardId, _start: Seq) -> bool:
        return not self._done.is_set()

    def on_copied(
        self, _shard: ShardId, _start: Seq, _as_of: Seq, _request_ids: list[tuple[bytes, Seq]]
    ) -> None:
        self._done.set()


async def _longest_step(done: asyncio.Event) -> float:
    """How long the event loop was away at most."""
    longest, before = 0.0, time.perf_counter()
    while not done.is_set():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    return longest


async def measured(directory: Path, count: int, size: int) -> None:
    """Into an empty node, and again where nothing lacks."""
    operations: list[Operation] = [
        PutPiece(number.to_bytes(16, "big"), 0, BUCKET, b"key")
        if size >= MIB
        else put_object(BUCKET, b"key-%d" % number, ObjectRow(size, "0" * 32, 0))
        for number in range(count)
    ]
    source, target = Side(directory / "source"), Side(directory / "target")
    try:
        began = time.perf_counter()
        await source.write(operations, bytes(size))
        written = count * size / MIB / (time.perf_counter() - began)
        print(f"writing it at the source: {written:.0f} MiB/s")
        print("copied:", await copied(source, target, count, size))
        print("compared:", await copied(source, target, count, size))
    finally:
        await source.close()
        await target.close()
        shutil.rmtree(directory)


def _fail(error: Exception) -> None:
    raise error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="an absent one, on the disk to measure")
    parser.add_argument("--mib", type=int, default=512)
    arguments = parser.parse_args()
    for size in (MIB, 4 * KIB):
        count = arguments.mib * MIB // size // (1 if size == MIB else 4)
        asyncio.run(measured(arguments.directory, count, size))


if __name__ == "__main__":
    main()
