"""Appends to partitions, at the primary of their shard.

All batches for one shard that arrive in one tick make one entry (rule L14). They are decided one
after the other, each on top of those before it, and ordered without anything between (rule L1).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import Seq, ShardId, shard_name
from octad.storage_node.index.index import Index, IndexDamage
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.partition_rows import (
    NO_TOKEN,
    BatchRow,
    PartitionId,
    base_of,
    batch_key,
    decode_batch,
)
from octad.storage_node.journal.journal_errors import JournalFull
from octad.storage_node.log.held_rows import standing_token
from octad.storage_node.log.log_messages import (
    AppendToLog,
    BatchAsked,
    BatchesAppended,
    BatchOutcome,
)
from octad.storage_node.log.offset_search import first_batch
from octad.storage_node.log.partition_tail import Appending, Known, PartitionTail
from octad.storage_node.log.partition_tail import Refusal as TailRefusal
from octad.storage_node.log.partition_tails import PartitionTails, batches_in
from octad.storage_node.log.record_batch import (
    BATCH_BYTES_MAX,
    BatchHeader,
    patched,
    split_batches,
    timed,
)
from octad.storage_node.log.topic_settings import settings_of
from octad.storage_node.operations.conditions import Version
from octad.storage_node.operations.index_changes import Operation
from octad.storage_node.operations.partitions import (
    AppendBatch,
    KeepState,
    append_batches,
)
from octad.storage_node.replication.host.index_applier import WriteFailed
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import (
    AlreadyOrdered,
    NotPrimary,
    NotServing,
    OutcomeUnknown,
)
from octad.storage_node.replication.replica_state import ReadTicket
from octad.storage_node.replication.shard_log import NO_REQUEST, Entry
from octad.storage_node.replication.writes import write_of
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.shards.object_messages import CODES
from octad.storage_node.shards.object_store import (
    NoSuchBucket,
    NotServed,
    OutcomeForgotten,
    StoreError,
    Unavailable,
)
from octad.storage_node.shards.refusals import error_of_order
from octad.storage_node.shards.shard_service import ShardService

BATCHES_AT_ONCE_MAX: Final = 256  # In one entry.
_AROUND_BYTES: Final = 256  # What an entry has around each batch, at most.
BATCHES_UNKEPT_MAX: Final = 1_000  # Then a state row is due: so many rows a new tail reads.


class _Appended(msgspec.Struct, frozen=True, eq=False):
    """At `base`, now or earlier. To be answered once `committed` ends (rule L9); None: it has."""

    base: int
    committed: asyncio.Future[Version] | None


class _Refused(msgspec.Struct, frozen=True, eq=False):
    """To be answered once `committed` ends, which is all that was seen (rule L2)."""

    code: TailRefusal
    next: int
    fence: int
    ticket: ReadTicket
    committed: asyncio.Future[Version] | None


_Decided: TypeAlias = _Appended | _Refused


class _Batch:
    """One that is gathered with others of its shard."""

    __slots__ = ("asked", "bytes", "decided", "fence", "header", "message", "partition")

    def __init__(
        self,
        partition: PartitionId,
        message: AppendToLog,
        asked: BatchAsked,
        header: BatchHeader,
        bytes_: memoryview,
        decided: asyncio.Future[_Decided],
    ) -> None:
        self.partition = partition
        self.message = message
        self.asked = asked
        self.header = header
        self.bytes = bytes_
        self.fence = NO_TOKEN  # That stands for its job when it is decided.
        self.decided = decided


class _NextEntry:
    """Batches that were decided and are ordered together, with what hangs on that."""

    __slots__ = ("batches", "later", "size")

    def __init__(self) -> None:
        self.batches: list[tuple[_Batch, AppendBatch]] = []
        # Decided on top of those: a duplicate, or a refusal with the log's next offset.
        self.later: list[tuple[_Batch, Known | tuple[TailRefusal, int]]] = []
        self.size = 0

    def has_room(self, size: int) -> bool:
        if not self.batches:
            return True
        return len(self.batches) < BATCHES_AT_ONCE_MAX and self.size + size <= BATCH_BYTES_MAX

    def has_request(self, request_id: bytes) -> bool:
        return any(batch.asked.request_id == request_id for batch, _ in self.batches)


class PartitionLeader:
    """See the module."""

    def __init__(
        self, host: ShardHost, index: Index, buckets: BucketDirectory, service: ShardService
    ) -> None:
        self._host = host
        self._index = index
        self._buckets = buckets
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._gathered: dict[ShardId, list[_Batch]] = {}
        self.tails = PartitionTails(index)
        self.appended_batches = self.appended_bytes = 0  # Ordered here since the start.
        self.refused: Counter[TailRefusal] = Counter()

    # -- appends -------------------------------------------------------------------------------

    async def append(self, message: AppendToLog, body: memoryview) -> Answer:
        """Each batch is decided by itself, together with the others of this tick."""
        shard, partition = message.shard, PartitionId(message.topic, message.partition)
        await self._buckets.require_active(message.topic)
        gathered = self._gathered.get(shard)
        if gathered is None:
            gathered = self._gathered[shard] = []
            self._loop.call_soon(self._order_gathered, shard)
        batches = [
            _Batch(partition, message, asked, header, each, self._loop.create_future())
            for asked, (header, each) in zip(message.batches, split_batches(body), strict=True)
        ]
        if settings_of(self._buckets.by_id.get(message.topic)).append_time:
            for batch in batches:
                batch.header, batch.bytes = timed(batch.header, batch.bytes, _now_ms())
        gathered += batches
        return BatchesAppended([await self._outcome(message, each) for each in batches]), b""

    async def _outcome(self, message: AppendToLog, batch: _Batch) -> BatchOutcome:
        shard, service = message.shard, self._service
        try:
            decided = await batch.decided
            if decided.committed is not None:
                await service.outcome(asyncio.shield(decided.committed))
            if isinstance(decided, _Appended):
                copies = service.require_copies(shard, message.topic, Unavailable)
                return BatchOutcome("", decided.base, copies=copies)
            if not self._host.read_holds(shard, decided.ticket):
                raise NotServed(f"shard {shard_name(shard)} is moving")
            return BatchOutcome(decided.code, next=decided.next, fence=decided.fence)
        except StoreError as error:
            return BatchOutcome(CODES[type(error)])

    def _order_gathered(self, shard: ShardId) -> None:
        batches = self._gathered.pop(shard)
        try:
            self._order_all(shard, batches)
        except Exception as error:
            _fail(batches, error)
            raise

    def _order_all(self, shard: ShardId, batches: list[_Batch]) -> None:
        replica = self._host.replicas.get(shard)
        try:
            if replica is None:
                raise NotServed(f"shard {shard_name(shard)} is not known here")
            replica.primary.require_serving()
        except (NotPrimary, NotServing, NotServed) as error:
            _fail(batches, NotServed(str(error)))
            return
        self.tails.shrink()
        entry = _NextEntry()
        for batch in batches:
            if not entry.has_room(batch.header.size + _AROUND_BYTES):
                self._order(replica, entry)
                entry = _NextEntry()
            try:
                self._decide(replica, entry, batch)
            except StoreError as error:
                _fail((batch,), error)
            except IndexDamage as damage:
                _fail((batch,), NotServed(str(damage)))
        self._order(replica, entry)

    def _decide(self, replica: ShardReplica, entry: _NextEntry, batch: _Batch) -> None:
        """Add it to `entry`."""
        partition, header, asked = batch.partition, batch.header, batch.asked
        if not self._host.covers(replica.shard, partition.hash):
            raise NotServed(f"shard {shard_name(replica.shard)} does not have this partition")
        if not self._buckets.is_active(partition.topic):
            raise NoSuchBucket(str(partition.topic))
        if asked.request_id:
            earlier = self._earlier(replica, batch)
            if earlier is not None:
                entry.later.append((batch, earlier))
                return
            if entry.has_request(asked.request_id):
                raise NotServed("another try of this append is being ordered")
        tail = self.tails.get(replica, partition)
        of_producer = header.producer, header.producer_epoch, header.sequence
        job, token = batch.message.job, batch.message.token
        if job:
            rows = PreparedRows(replica.shard, replica.log, self._index)
            batch.fence = standing_token(rows, partition, job)
        appending = Appending(header.records, *of_producer, asked.expect_offset, token, batch.fence)
        decision = tail.decide(appending)
        if isinstance(decision, Known):
            entry.later.append((batch, decision))
        elif isinstance(decision, TailRefusal):
            entry.later.append((batch, (decision, tail.next)))
        else:
            self._accept(replica, entry, batch, decision, tail)

    def _accept(
        self,
        replica: ShardReplica,
        entry: _NextEntry,
        batch: _Batch,
        base: int,
        tail: PartitionTail,
    ) -> None:
        header, partition = batch.header, batch.partition
        row = BatchRow(
            base + header.records - 1,
            header.max_timestamp,
            header.attributes,
            tail.term,
            header.producer,
            header.producer_epoch,
            header.sequence,
            batch.asked.request_id,
            size=header.size,
            total=tail.total + header.size,
            peak=max(tail.peak, header.max_timestamp),
        )
        tail.add(base, row, Seq(replica.log.end + 1), _now_ms())
        entry.batches.append((batch, AppendBatch(*partition, base, row)))
        entry.size += header.size + _AROUND_BYTES

    def _order(self, replica: ShardReplica, entry: _NextEntry) -> None:
        try:
            if entry.batches:
                self._append_entry(replica, entry)
        except StoreError as error:
            for batch, _ in entry.batches:
                self.tails.forget(replica.shard, batch.partition)
            _fail([batch for batch, _ in (*entry.batches, *entry.later)], error)
            return
        for batch, decision in entry.later:
            if isinstance(decision, Known):
                _decided(batch, _Appended(decision.base, self._commit(replica, decision.seq)))
                continue
            code, next_ = decision
            ticket = replica.primary.refusal_ticket((batch.partition.mark,), now())
            if ticket is None:
                _fail((batch,), NotServed(f"shard {shard_name(replica.shard)} has no lease"))
            else:
                committed = self._commit(replica, ticket.wait_for)
                self.refused[code] += 1
                _decided(batch, _Refused(code, next_, batch.fence, ticket, committed))

    def _commit(self, replica: ShardReplica, seq: Seq) -> asyncio.Future[Version] | None:
        """Ends when the entry at `seq`, which this reign has, is applied; None: it is."""
        log = replica.log
        if seq <= log.applied:
            return None
        committed = self._host.applier.wait_for(log.at(seq))
        committed.add_done_callback(_note)
        return committed

    def _append_entry(self, replica: ShardReplica, entry: _NextEntry) -> None:
        operation: Operation
        if len(entry.batches) == 1:
            ((batch, operation),) = entry.batches
            request_id, data = batch.asked.request_id or NO_REQUEST, _placed(batch, operation)
        else:
            request_id = NO_REQUEST
            operation, data = append_batches(
                (append, batch.asked.request_id or NO_REQUEST, _placed(batch, append))
                for batch, append in entry.batches
            )
        committed = self._propose(replica.shard, operation, data, request_id)
        self.appended_batches += len(entry.batches)
        for batch, append in entry.batches:
            self.appended_bytes += append.row.size
            _decided(batch, _Appended(append.base, committed))
        for partition in {batch.partition for batch, _ in entry.batches}:
            if self.tails.get(replica, partition).unkept >= BATCHES_UNKEPT_MAX:
                self.keep_state(replica, partition)

    def keep_state(self, replica: ShardReplica, partition: PartitionId) -> bool:
        """Order a state row, of the partition as it is prepared; whether that was done."""
        tail = self.tails.get(replica, partition)
        keep = KeepState(*partition, tail.state(_now_ms()))
        try:
            self._propose(replica.shard, keep)
        except StoreError:  # Then with a later batch, by a tail that has forgotten no producer.
            self.tails.forget(replica.shard, partition)
            return False
        tail.state_kept()
        return True

    def _propose(
        self,
        shard: ShardId,
        operation: Operation,
        data: bytes = b"",
        request_id: bytes = NO_REQUEST,
    ) -> asyncio.Future[Version]:
        """Raises StoreError: nothing was ordered."""
        try:
            committed = self._host.propose(shard, write_of(operation, request_id, data))
        except (WriteFailed, JournalFull) as error:
            raise error_of_order(error) from error
        committed.add_done_callback(_note)
        return committed

    async def order(self, shard: ShardId, operation: Operation) -> None:
        """Returns once it is applied. Raises StoreError."""
        await self._service.outcome(self._propose(shard, operation))

    # -- appends that expected an offset -------------------------------------------------------

    def _earlier(self, replica: ShardReplica, batch: _Batch) -> Known | None:
        """What an earlier try of the same append became, if it was ordered (rules L4, L6)."""
        request_id, partition = batch.asked.request_id, batch.partition
        try:
            replica.check_retry(request_id, batch.message.age_s, now())
        except AlreadyOrdered as known:
            base = self._base_in(known.entry, partition, request_id)
            if known.entry is None:
                base = self._base_at(replica, partition, known.seq, request_id)
            if base is None:
                raise OutcomeForgotten("it was appended, and trimmed since") from known
            return Known(base, known.seq)
        except OutcomeUnknown as error:
            raise OutcomeForgotten(str(error)) from error
        except (NotPrimary, NotServing) as error:
            raise NotServed(str(error)) from error
        return None

    def _base_in(
        self, entry: Entry | None, partition: PartitionId, request_id: bytes
    ) -> int | None:
        batches: Iterable[AppendBatch] = (
            () if entry is None else batches_in(entry.operation, partition)
        )
        return next((each.base for each in batches if each.row.request_id == request_id), None)

    def _base_at(
        self, replica: ShardReplica, partition: PartitionId, seq: Seq, request_id: bytes
    ) -> int | None:
        """Among the batches of the entry at `seq`, found by halves: seqs grow with the offsets."""
        end = self.tails.get(replica, partition).next
        found = first_batch(self._index, partition, end, lambda batch: batch.seq >= seq)
        start = end if found is None else found[0]
        for key, value in self._index.scan(batch_key(partition, start), past(partition.mark)):
            batch = decode_batch(value)
            if batch.seq != seq:
                break
            if batch.row.request_id == request_id:
                return base_of(key)
        return None


def _placed(batch: _Batch, append: AppendBatch) -> bytes:
    return patched(batch.header, batch.bytes, append.base, append.row.term)


def _decided(batch: _Batch, decided: _Decided) -> None:
    if not batch.decided.done():  # Its caller may have gone.
        batch.decided.set_result(decided)


def _fail(batches: Iterable[_Batch], error: Exception) -> None:
    for batch in batches:
        if not batch.decided.done():
            batch.decided.set_exception(error)


def _note(committed: asyncio.Future[Version]) -> None:
    """Not everyone who ordered waits for how it ends."""
    if not committed.cancelled():
        committed.exception()


def _now_ms() -> int:
    return int(time.time() * 1000)
