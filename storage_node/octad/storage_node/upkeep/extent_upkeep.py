"""A node's background work on extents, and its answers to other nodes about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octad.client.runtime.background_task import run_together
from octad.sharding.ids import NodeId
from octad.sharding.limits import ORPHAN_GRACE_S, ORPHAN_SWEEP_PERIOD_S, READER_PIN_S
from octad.storage_node.index.index import Index
from octad.storage_node.objects.extents import ExtentsUnderWay
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.rpc.peer import Answer
from octad.storage_node.shards.extent_messages import (
    FindUnnamed,
    FindWritten,
    ReadRecord,
    UnnamedFound,
    WrittenFound,
)
from octad.storage_node.shards.object_store import Unavailable
from octad.storage_node.shards.running_reads import RunningReads
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.shards.shard_server import ShardServer
from octad.storage_node.upkeep.door_reads import DoorReads, Doors
from octad.storage_node.upkeep.extent_collector import ExtentCollector, FullNodes
from octad.storage_node.upkeep.extent_names import ExtentNames
from octad.storage_node.upkeep.orphan_sweep import OrphanSweep
from octad.storage_node.upkeep.record_repair import RecordRepair

EXTENT_PIN_S = 300.0  # A reader of a deleted object has as long as this to finish.

WAITS_VARIABLE = "OCTAD_TEST_WAITS_S"  # Tests cannot wait for hours: all of these, in seconds.


@dataclass(frozen=True, slots=True)
class Waits:
    """How long dead space waits for possible readers; see `limits.py`."""

    extent_pin_s: float = EXTENT_PIN_S
    reader_pin_s: float = READER_PIN_S
    orphan_grace_s: float = ORPHAN_GRACE_S
    sweep_period_s: float = ORPHAN_SWEEP_PERIOD_S


def waits_of(shortened: str | None) -> Waits:
    """The limits, or a test's values from the environment."""
    return Waits() if shortened is None else Waits(*[float(shortened)] * 4)


class ExtentUpkeep:
    """Registers its answers at `server`; `run` until cancelled."""

    def __init__(
        self,
        host: ShardHost,
        index: Index,
        client: ShardClient,
        server: ShardServer,
        under_way: ExtentsUnderWay,
        reads: RunningReads,
        repair: RecordRepair,
        next_request_id: Callable[[], bytes],
        is_removed: Callable[[NodeId], bool],
        doors: Doors,
        full: FullNodes,
        waits: Waits,
    ) -> None:
        self._names = ExtentNames(host, index)
        self._under_way = under_way
        self._reads = reads
        door_reads = DoorReads(client.call, doors, waits.extent_pin_s)
        self.collector = ExtentCollector(host, index, client, next_request_id, door_reads, full)
        self.sweep = OrphanSweep(
            host,
            index,
            client,
            next_request_id,
            is_removed,
            grace_s=waits.orphan_grace_s,
            period_s=waits.sweep_period_s,
        )
        server.register(FindUnnamed, self._find_unnamed)
        server.register(FindWritten, self._find_written)
        server.register(ReadRecord, repair.answer)

    async def run(self) -> None:
        """Run for ever."""
        await run_together(self.collector.run(), self.sweep.run())

    async def _find_unnamed(self, message: FindUnnamed) -> Answer:
        found = self._names.unnamed(message.shard, message.extents)
        if found is None:
            raise Unavailable("the shard is not served here")
        return UnnamedFound(found), b""

    async def _find_written(self, message: FindWritten) -> Answer:
        written = [each for each in message.extents if each in self._under_way]
        return WrittenFound(written, self._reads.oldest_s()), b""
