"""Two nodes with a shard each: one has all of its history, the other copies it while both go on."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from functools import reduce
from operator import xor
from pathlib import Path

import msgspec
from tests.harness.simulated_disk import SimulatedDisk
from tests.unit.history.copied_work import (
    DEPTH,
    SHARD,
    Ordered,
    RandomWork,
    pool_of_bucket,
)
from tests.unit.index.twin_index import TwinIndex

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.limits import KIB
from octad.storage_node.history.history_copier import HistoryCopier
from octad.storage_node.history.history_messages import ReadHistory, ReadRecords
from octad.storage_node.history.history_source import HistorySource
from octad.storage_node.history.history_writer import installed_copy
from octad.storage_node.index.history_format import marks_range
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.index.index_format import (
    POSITION_KEY,
    ROW_TABLES,
    SHARD_ORDER,
    SHARD_ORDER_END,
    SHARD_STATES,
    decode_ordered,
    decode_shard_state,
    decode_shard_state_key,
    encode_position,
    shard_state_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.shard_digest import FORMAT, row_hash
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.record_format import (
    Identity,
    Position,
    Record,
    RecordKind,
    start_of,
)
from octad.storage_node.journal.several_records import Several
from octad.storage_node.journal.shard_state import ShardDigest, ShardState
from octad.storage_node.operations.index_behind_copy import add_behind_copy
from octad.storage_node.operations.index_changes import (
    IndexChanges,
    LogStart,
    decode_log_start,
    decode_operation,
    encode_operation,
)
from octad.storage_node.rebuild.index_rebuild import rebuild
from octad.storage_node.replication.digest_messages import ReadDigests
from octad.storage_node.replication.host.index_applier import state_entry
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Apply
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_log import Entry, ShardLog
from octad.storage_node.rpc.messages import (
    Message,
    Reply,
    Request,
    decode_message,
    encode_message,
    reply_to,
)
from octad.storage_node.rpc.rpc_errors import INTERNAL, PeerUnavailable, RemoteError, RpcRefusal
from octad.storage_node.upkeep.compactor import Compactor, check_segments
from octad.storage_node.upkeep.shard_counter import ShardCounter

DIRECTORY = Path("/data/journal")
SEGMENT_BYTES = 16 * KIB
SOURCE, RECEIVER = NodeId(1), NodeId(2)
Held = dict[bytes, tuple[Seq, Epoch, bytes]]


class Node:
    """Journal, index, replicas and the copying of one node; all that is committed is applied."""

    def __init__(self, node: NodeId, disk: SimulatedDisk, index: TwinIndex) -> None:
        self.node, self.disk, self.index = node, disk, index
        self.failures: list[Exception] = []
        identity = self.identity = Identity("0123abcd", node, f"{node:032x}")
        self.journal = Journal.open(DIRECTORY, identity, disk, SEGMENT_BYTES)
        self.leases = PairLeases(node, 1, 0.0)
        self.replicas: dict[ShardId, ShardReplica] = {}
        check_segments(self.journal, index)
        self._recover()
        self.counter = ShardCounter(self.journal, index, self.replicas, pool_of_bucket)
        self.source = HistorySource(self.journal, index, self.replicas.get, pool_of_bucket)
        self.compactor = Compactor(self.journal, index, self._is_dirty, self.failures.append)
        self.compactor.finish_earlier_work()

    def _recover(self) -> None:
        self.unsettled: deque[Entry] = deque()
        for key, value in self.index.scan(SHARD_STATES, past(SHARD_STATES)):
            shard, state = decode_shard_state_key(key), decode_shard_state(value)
            replica = self.replica(shard, ShardLog(state.applied, state.applied_epoch))
            copy = installed_copy(self.index, shard, state.start)
            as_of = state.copied_as_of
            if copy is not None and state.complete_to is not None:
                as_of = copy.as_of
            replica.restore(
                state.start, state.start_epoch, state.complete_to, as_of, DEPTH, Epoch(1)
            )
        for location, record in self.journal.replay(self.index.position()):
            self._replay(self.replica(record.shard), record)
            if record.kind is not RecordKind.LOG_START:
                replica = self.replica(record.shard)
                if replica.log.end >= record.seq > replica.log.applied:
                    replica.log.at(record.seq).location = location
        self.index.follow(self.journal)
        self.journal.start(lambda _: None, self.failures.append)
        held = [entry for replica in self.replicas.values() for entry in replica.log.entries]
        self.unsettled.extend(sorted(held, key=_place))
        for replica in self.replicas.values():
            for action in replica.recovered():
                assert isinstance(action, Apply)
                self._apply(replica, action.entries)
            self._write(IndexChanges(self.index.get), replica)

    def _replay(self, replica: ShardReplica, record: Record) -> None:
        if record.kind is RecordKind.LOG_START:
            complete_to = decode_log_start(bytes(record.metadata)).complete_to
            for action in replica.recover_start(
                record.seq, record.epoch, record.commit, complete_to
            ):
                assert isinstance(action, Apply)
                self._apply(replica, action.entries, told=False)
            self.index.write([state_entry(replica, self.index.digests)])
            return
        metadata = bytes(record.metadata)
        operation = decode_operation(record.kind, metadata)
        entry = Ordered(record.epoch, record.seq, operation, bytes(record.data)).entry()
        replica.recover(entry, record.commit)

    def replica(self, shard: ShardId, log: ShardLog | None = None) -> ShardReplica:
        found = self.replicas.get(shard)
        if found is None:
            kept = log or ShardLog(Seq(0), Epoch(0))
            found = self.replicas[shard] = ShardReplica(
                shard, self.node, "", self.leases, Strength(1, 1), lambda *_: None, kept, {}
            )
            found.splitter.restore(DEPTH)
        return found

    def take(self, shard: ShardId, ordered: Ordered) -> None:
        """Append an entry; it is not committed yet."""
        log, entry = self.replica(shard).log, ordered.entry()
        log.append(entry)
        appended = self.journal.append(
            entry.kind,
            shard,
            entry.epoch,
            entry.seq,
            log.commit,
            entry.request_id,
            entry.metadata,
            ordered.data,
            entry.operation if isinstance(entry.operation, Several) else None,
        )
        entry.location = appended.location
        self.unsettled.append(entry)

    def commit(self, shard: ShardId, upto: Seq) -> None:
        """Apply what is here of it, as far as it is durable."""
        replica = self.replica(shard)
        log = replica.log
        while log.commit < min(upto, log.end):
            location = log.at(Seq(log.commit + 1)).location
            assert location is not None
            if start_of(location) >= self.journal.durable_to:
                return
            self._apply(replica, log.commit_to(Seq(log.commit + 1)))

    def start_log(self, shard: ShardId, start: Seq, epoch: Epoch) -> None:
        """What is behind `start` comes as entries, what is before has to be copied."""
        replica = self.replica(shard)
        log, commit = replica.log, replica.log.commit
        complete_to = log.applied if replica.complete_to is None else replica.complete_to
        replica.history.restarted(complete_to)
        log.restart_at(start, epoch)
        metadata, nobody = encode_operation(LogStart(complete_to)), bytes(16)
        kind = RecordKind.LOG_START
        self.journal.append(kind, shard, epoch, start, commit, nobody, metadata, b"")
        self.index.write([state_entry(replica, self.index.digests)])

    def _apply(
        self, replica: ShardReplica, entries: tuple[Entry, ...], *, told: bool = True
    ) -> None:
        changes = IndexChanges(self.index.get, self.index.digests)
        for entry in entries:
            assert entry.location is not None
            if replica.complete_to is None:
                changes.apply(
                    entry.operation, entry.location, replica.shard, entry.epoch, entry.seq
                )
            else:
                add_behind_copy(
                    changes,
                    replica.shard,
                    entry.operation,
                    entry.location,
                    entry.epoch,
                    entry.seq,
                    self.index.get,
                )
        if told:
            replica.on_applied(entries[-1].seq, 0.0)
        self._write(changes, replica)

    def _write(self, changes: IndexChanges, replica: ShardReplica) -> None:
        puts, deletes = changes.split()
        puts.append(state_entry(replica, self.index.digests))
        while self.unsettled and self.unsettled[0].settled:
            self.unsettled.popleft()
        first = self.unsettled[0].location if self.unsettled else None
        place = self.journal.position() if first is None else start_of(first)
        puts.append((POSITION_KEY, encode_position(place)))
        self.index.write(puts, deletes)

    def _is_dirty(self, shard: ShardId, key: bytes) -> bool:
        return shard in self.replicas and self.replicas[shard].log.changes_row(key)

    def held(self, shard: ShardId | None = None) -> Held:
        """Every row that can be read, by its key; of one shard, by what its record says."""
        found: Held = {}
        for table in ROW_TABLES:
            for key, value in self.index.scan(bytes([table]), bytes([table + 1])):
                row = decode_ordered(value)
                record = self.journal.read(row.location)
                assert (record.seq, record.epoch) == (row.seq, row.epoch)
                if shard in (None, record.shard):
                    found[key] = (row.seq, row.epoch, bytes(record.data))
        return found

    def check(self) -> None:
        """Rows, their order and the counts agree."""
        rows = set(self.held())
        order = [key[9:] for key, _ in self.index.scan(SHARD_ORDER, SHARD_ORDER_END)]
        assert sorted(rows) == sorted(order)
        counted = self.index.counted()
        for segment, use in counted.segments.items():
            assert self.index.ledger.segments[segment].live == use.live
        for shard in self.replicas:
            known = self.index.digests.now(shard)
            assert known in (None, self.counted(shard))
        assert not self.failures

    def counted(self, shard: ShardId) -> ShardDigest:
        """What the rows amount to whose records say that they are of the shard."""
        hashes = [row_hash(key, self.index.get(key) or b"") for key in self.held(shard)]
        return ShardDigest(FORMAT, len(hashes), reduce(xor, hashes, 0))

    def marks(self) -> list[bytes]:
        return [key for key, _ in self.index.scan(*marks_range(SHARD))]

    async def durable(self) -> None:
        await self.journal.durable(self.journal.position())


class Story:
    """A source that is complete, a receiver that is not, and calls from one to the other."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.work = RandomWork(rng)
        self.log: list[Ordered] = []
        self.epoch = Epoch(1)
        self.source = Node(SOURCE, SimulatedDisk(rng), TwinIndex())
        self.receiver = Node(RECEIVER, SimulatedDisk(rng), TwinIndex())
        self.copier: HistoryCopier | None = None
        self.counting: list[asyncio.Task[None]] = []
        self.calls_left: int | None = None  # Until the receiver crashes.
        self.crashed = asyncio.Event()
        self.busy = 0.5  # How often something happens while a call is under way.
        self.calls = self.records = 0

    # -- the shard's history -------------------------------------------------------------------

    def order(self, count: int) -> None:
        """The primary appends, and commits, since the receiver is asked as well."""
        for _ in range(count):
            if self.rng.random() < 0.05:
                self.epoch = Epoch(self.epoch + 1)
            operation, data = self.work.next()
            self.log.append(Ordered(self.epoch, Seq(len(self.log) + 1), operation, data))

    def feed(self, node: Node, upto: int) -> None:
        end = node.replica(SHARD).log.end
        for ordered in self.log[end:upto]:
            node.take(SHARD, ordered)

    def catch_up(self, node: Node, upto: int | None = None) -> None:
        upto = len(self.log) if upto is None else upto
        self.feed(node, upto)
        node.commit(SHARD, Seq(upto))

    async def settle(self, node: Node, upto: int | None = None) -> None:
        """Everything up to there is applied."""
        self.catch_up(node, upto)
        await node.durable()
        self.catch_up(node, upto)

    def begin_log(self, start: int) -> None:
        self.receiver.start_log(SHARD, Seq(start), self.log[start - 1].epoch if start else Epoch(0))

    # -- the copy ------------------------------------------------------------------------------

    def begin_copy(self) -> None:
        receiver = self.receiver
        self.copier = HistoryCopier(
            receiver.journal,
            receiver.index,
            self._call,
            pool_of_bucket,
            receiver.counter.ask,
        )
        self.copier.start([])
        nodes = (self.source, receiver)
        self.counting = [asyncio.create_task(node.counter.run()) for node in nodes]
        replica = receiver.replica(SHARD)
        if replica.complete_to is not None and replica.history.copied_as_of is None:
            self.copier.begin(self, SHARD, DEPTH, replica.log.start, (SOURCE,))

    def wants_copy(self, shard: ShardId, start: Seq) -> bool:
        replica = self.receiver.replicas[shard]
        return replica.complete_to is not None and replica.log.start == start

    def on_copied(
        self, shard: ShardId, start: Seq, as_of: Seq, ids: list[tuple[bytes, Seq]]
    ) -> None:
        replica = self.receiver.replica(shard)
        replica.on_copied(start, as_of, ids, 0.0)
        self.receiver.index.write([state_entry(replica, self.receiver.index.digests)])

    async def _call(
        self, node: NodeId, message: Request[Reply], _body: bytes, _timeout_s: float
    ) -> tuple[Reply, bytes]:
        rng = self.rng
        self.calls += 1
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                self.crashed.set()
                await asyncio.sleep(60)
        self.happen()
        if rng.random() < 0.1 * self.busy:
            raise PeerUnavailable(node, "the connection was lost", sent=True)
        asked = decode_message(encode_message(message))
        try:
            if isinstance(asked, ReadHistory):
                answer: Message = await self.source.source.read_history(asked)
                body: list[memoryview] = []
            elif isinstance(asked, ReadDigests):
                answer, body = (await self.source.counter.answer(asked))[0], []
            else:
                assert isinstance(asked, ReadRecords)
                answer, body = await self.source.source.read_records(asked)
                self.records += len(body)
        except RpcRefusal as error:
            raise RemoteError(node, error.code, error.text) from error
        except IndexDamage as error:  # Of the source: its node answers so.
            raise RemoteError(node, INTERNAL, "IndexDamage") from error
        self.happen()
        await asyncio.sleep(0)
        return reply_to(message, decode_message(encode_message(answer))), b"".join(body)

    def happen(self) -> None:
        """Whatever may happen at the two nodes while a copy goes on."""
        rng, receiver = self.rng, self.receiver
        if rng.random() < self.busy:
            self.order(rng.randint(0, 3))
            self.catch_up(self.source, rng.randint(0, len(self.log)))
        if rng.random() < self.busy:
            self.feed(receiver, rng.randint(0, len(self.log)))
            receiver.commit(SHARD, Seq(rng.randint(0, self.source.replica(SHARD).log.applied)))
        if rng.random() < 0.1:
            receiver.index.flush()

    async def copied(self) -> bool:
        """Until the receiver is complete; False when it crashed before."""
        while self.receiver.replica(SHARD).complete_to is not None:
            if self.crashed.is_set():
                return False
            self.happen()
            if self.receiver.replica(SHARD).history.copied_as_of is not None:
                self.busy = 0.0
                await self.settle(self.source)
                await self.settle(self.receiver)
            await asyncio.sleep(0.001)
        return True

    async def _end_copy(self) -> None:
        assert self.copier is not None
        await self.copier.close()
        for task in self.counting:
            task.cancel()
        await asyncio.gather(*self.counting, return_exceptions=True)

    async def crash(self) -> None:
        """The receiver is gone and comes back, with what its disk kept."""
        await self._end_copy()
        receiver = self.receiver
        power_cut = self.rng.random() < 0.5
        receiver.disk.off = True
        await receiver.journal.close()
        await asyncio.sleep(0)
        disk = receiver.disk.after_power_cut() if power_cut else receiver.disk.after_kill()
        self.receiver = Node(RECEIVER, disk, receiver.index.after_crash(self.rng))
        self.crashed.clear()
        self.calls_left = None

    async def rebuild(self) -> None:
        """The receiver stops, loses its index, and starts with one made from its journal."""
        await self._end_copy()
        await self.receiver.journal.close()
        disk, index = self.receiver.disk.after_kill(), TwinIndex()
        rebuild(disk, DIRECTORY, self.receiver.identity, index)
        self.receiver = Node(RECEIVER, disk, index)

    async def close(self) -> None:
        if self.copier is not None:
            await self._end_copy()
        for node in (self.source, self.receiver):
            await node.journal.close()


def _place(entry: Entry) -> Position:
    assert entry.location is not None
    return start_of(entry.location)


def state_of(node: Node) -> ShardState:
    """Of the shard, as its index says, but for what a rebuild does not find out."""
    value = node.index.get(shard_state_key(SHARD))
    assert value is not None
    state = decode_shard_state(value)
    unknown = {"digest": None, "usage_known": False}
    return msgspec.structs.replace(state, view_epoch=Epoch(1), depth=DEPTH, **unknown)
