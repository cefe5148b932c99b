"""One shard with extents, its collector and its sweep, without journal, network or time."""

from __future__ import annotations

from collections import deque
from typing import cast

from tests.unit.index.twin_index import TwinIndex
from tests.unit.upkeep.extent_oracle import ExtentOracle, ExtentScript, Step
from tests.unit.upkeep.test_dead_extents import named_in, pieces_in, queued_in

from octad.client.runtime.steady_clock import now
from octad.coordinator.store.interface import StoreUnavailable
from octad.sharding.ids import Epoch, NodeId, PoolId, Seq, ShardId, shard_id
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap
from octad.storage_node.index.index_format import encode_value, shard_state_key
from octad.storage_node.journal.record_format import Location, SegmentId
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.operations.index_changes import IndexChanges, Operation
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.writes import Write
from octad.storage_node.rpc.messages import Message
from octad.storage_node.shards.extent_messages import (
    FindUnnamed,
    FindWritten,
    UnnamedFound,
    WrittenFound,
)
from octad.storage_node.shards.object_store import Unavailable
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.upkeep.door_reads import DoorReads
from octad.storage_node.upkeep.extent_collector import ExtentCollector
from octad.storage_node.upkeep.extent_names import ExtentNames
from octad.storage_node.upkeep.orphan_sweep import OrphanSweep

POOL = PoolId(0)
SHARD = shard_id(POOL, 0)
WRITER = NodeId(0)
HERE = Location(SegmentId(1), 4096, 100)
EXTENT_AGE_S = 100.0
REFUSED, UNKNOWN = 1, 2  # How a proposal may fail: not at all, or after it was done.


class ExtentSite:
    """Host and client of the collector at once: what it proposes is applied, or fails as told."""

    def __init__(self, pin_s: float = 0.0) -> None:
        self.script = ExtentScript()
        self.index = TwinIndex()
        self.serving = True
        self.dirty: set[bytes] = set()
        self.under_way: set[bytes] = set()
        self.removed: set[NodeId] = set()
        self.writer_answers = True
        self.failures: deque[int] = deque()
        self.store_answers = True
        configuration = ShardConfiguration(Epoch(1), 0, WRITER, (Member(WRITER, "incarnation"),))
        self.map = ShardMap({POOL: Pool(POOL, 3, 0)}, {SHARD: configuration})
        self._pin_s = pin_s
        self.full: set[NodeId] = set()
        self.oldest_read_s: dict[NodeId, float | None] = {WRITER: 0.0}  # What each front door says.
        self.node = WRITER
        self._applied = 0
        self.names = ExtentNames(cast("ShardHost", self), self.index)
        self.restart()

    @property
    def oracle(self) -> ExtentOracle:
        return self.script.oracle

    def restart(self) -> None:
        """Another primary, or the same after a crash: nothing is remembered but the index."""
        host, client = cast("ShardHost", self), cast("ShardClient", self)
        door_reads = DoorReads(client.call, self._doors, self._pin_s)
        self.collector = ExtentCollector(
            host, self.index, client, lambda: bytes(16), door_reads, lambda: self.full
        )
        self.sweep = OrphanSweep(
            host,
            self.index,
            client,
            lambda: bytes(16),
            self.removed.__contains__,
            now_s=lambda: EXTENT_AGE_S,
            grace_s=EXTENT_AGE_S / 2,
        )

    def step(self, step: Step) -> None:
        """What clients do."""
        self.script.step(step)
        self._catch_up()

    def do(self, operation: Operation) -> None:
        self.script.do(operation)
        self._catch_up()

    async def collect(self) -> None:
        """One round of the collector, as `run` makes it."""
        self.collector.mark(now())
        await self.collector.collect()

    def check(self) -> None:
        """The index is what the oracle says, and nothing that is named has lost a piece."""
        assert named_in(self.index) == self.oracle.named()
        assert queued_in(self.index) == self.oracle.queue
        assert pieces_in(self.index) == self.oracle.pieces
        assert self.oracle.named() <= {extent for extent, _ in self.oracle.pieces}
        assert self.index.counted().live_bytes() == self.index.ledger.live_bytes()

    def _catch_up(self) -> None:
        changes = IndexChanges(self.index.get)
        for operation in self.script.operations[self._applied :]:
            self._applied += 1
            changes.apply(operation, HERE, SHARD, Epoch(1), Seq(self._applied))
        puts, deletes = changes.split()
        state = ShardState(Seq(self._applied), Epoch(1), Epoch(1))
        puts.append((shard_state_key(SHARD), encode_value(state)))
        self.index.write(puts, deletes, changes.before)

    # -- what the collector asks of a host and of a client -------------------------------------

    def serves(self, _shard: ShardId) -> bool:
        return self.serving

    def covers(self, _shard: ShardId, _hash: int) -> bool:
        return True

    def settled(self, _shard: ShardId, key: bytes) -> bool:
        return self.serving and key not in self.dirty

    async def propose(self, pool: PoolId, write: Write) -> None:
        assert self.map.shard_of_hash(pool, write.hash) == SHARD
        failure = self.failures.popleft() if self.failures else 0
        if failure == REFUSED:
            raise Unavailable("refused")
        self.do(write.operation)
        if failure == UNKNOWN:
            raise Unavailable("the answer was lost")

    async def ask_primary(self, _shard: ShardId, message: Message) -> tuple[Message, bytes]:
        assert isinstance(message, FindUnnamed)
        found = self.names.unnamed(message.shard, message.extents)
        if found is None:
            raise Unavailable("not served")
        return UnnamedFound(found), b""

    async def call(
        self, node: NodeId, message: Message, _body: bytes, _timeout_s: float
    ) -> tuple[Message, bytes]:
        assert isinstance(message, FindWritten)
        if not self.writer_answers:
            raise Unavailable("away")
        written = [each for each in message.extents if each in self.under_way]
        return WrittenFound(written, self.oldest_read_s[node]), b""

    async def _doors(self) -> list[NodeId]:
        if not self.store_answers:
            raise StoreUnavailable("the store")
        return list(self.oldest_read_s)
