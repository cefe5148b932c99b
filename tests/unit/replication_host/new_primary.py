"""A node that takes over a shard of two copies.

Its journal has what the old primary acknowledged; nothing of that is in its index yet. When it has
taken over up to the `last_ack`, it has its lease, its barrier is durable here, and that is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec
from tests.unit.replication_host.test_restart_of_a_host import (
    EPOCH,
    NODE,
    OTHER,
    Elsewhere,
    NoCluster,
    disk,
    host_on,
    not_yet,
    start,
)

from octad.client.runtime.steady_clock import now
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import BucketId, NodeId, PoolId, Seq, shard_id
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap
from octad.storage_node.cli.node_command import BODY_BUDGET_BYTES
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.rows import ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.journal import Journal
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.objects.cluster_objects import ClusterObjects
from octad.storage_node.operations.index_changes import (
    Operation,
    PutPart,
    create_upload,
    encode_operation,
    kind_of,
    put_object,
)
from octad.storage_node.replication.lease_messages import Beat
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Swap
from octad.storage_node.replication.replication_messages import Ack, Acks, Nacks
from octad.storage_node.rpc.messages import Message, Reply, Request, reply_to
from octad.storage_node.rpc.peer_connection import Buffer
from octad.storage_node.rpc.peers import Peers
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.shards.object_messages import Done
from octad.storage_node.shards.object_store import Bucket
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.shards.shard_server import ShardServer
from octad.storage_node.shards.shard_service import ShardService

POOL = Pool(PoolId(1), 2, 0)
SHARD = shard_id(POOL.id, 0)
KEYS = StoreKeys("cafe0123")
TIMEOUT_S = 20.0
BUCKET, KEY, UPLOAD = BucketId(1), b"key", b"an upload's id.."
OBJECT = put_object(BUCKET, KEY, ObjectRow(0, "etag", 0))
OPEN_UPLOAD = create_upload(BUCKET, KEY, UPLOAD, UploadRow(1, "owner"))
PART = PutPart(BUCKET, KEY, UPLOAD, 1, PartRow(1, "etag", 0))


class TwoNodes(NoCluster):
    """The other one answers beats, and has the same log."""

    def __init__(self) -> None:
        super().__init__()
        self.incarnations = {NODE: "one", OTHER: "two"}
        self.other = PairLeases(OTHER, 8, now() - 60)
        self.answer: Callable[[Message], None] = not_yet

    def send(self, node: NodeId, message: Message, body: bytes | memoryview = b"") -> bool:
        if isinstance(message, Beat):
            answer = self.other.on_beat(NODE, message, now())
            asyncio.get_running_loop().call_soon(self.answer, answer)
        elif isinstance(message, Nacks):
            said = [msgspec.structs.replace(nack, asks=False) for nack in message.nacks]
            asyncio.get_running_loop().call_soon(self.answer, Nacks(said))
        return True


class NewPrimary:
    """See the module."""

    def __init__(self, journal: Journal, index: CountedIndex, buckets: BucketDirectory) -> None:
        self.cluster = cluster = TwoNodes()
        cluster.answer = lambda answer: self.host.on_message(OTHER, answer, memoryview(b""))
        self.swaps: list[Swap] = []
        wanted = Elsewhere(submit=lambda _, swap: self.swaps.append(swap), begin=lambda *_: None)
        self.host = host_on(journal, index, cluster, elsewhere=wanted)
        self.host.recover()
        members = (Member(NODE, "one"), Member(OTHER, "two"))
        self.configurations = {SHARD: ShardConfiguration(EPOCH, 0, NODE, members)}
        pools = {POOL.id: POOL}
        service = ShardService(self.host, index, journal, buckets, pools)
        self.server = ShardServer(service)
        shard_map = ShardMap(pools, self.configurations)
        self.client = Client(NODE, service, self.server, cast(Peers, None), shard_map)
        self.buckets = buckets
        budget = BodyBudget(BODY_BUDGET_BYTES)
        self.store = ClusterObjects(self.client, service, buckets, pools, lambda: bytes(16), budget)

    @property
    def replica(self) -> ShardReplica:
        return self.host.replicas[SHARD]

    async def take_over(self) -> None:
        """Up to the last acknowledgement."""
        self.host.on_configuration(SHARD, self.configurations[SHARD])
        async with asyncio.timeout(TIMEOUT_S):
            while not self.swaps:  # The other log is asked for first (rule R23).
                await asyncio.sleep(0)
        (swap,) = self.swaps
        self.configurations[SHARD] = swap.proposed
        self.host.on_swap_outcome(SHARD, swap, swap.proposed)
        self.cluster.other.follow(SHARD, swap.proposed.epoch, NODE)
        log, barrier = self.replica.log, self.replica.primary.barrier
        async with asyncio.timeout(TIMEOUT_S):
            while not self.replica.has_lease(now()) or log.durable < barrier:
                await asyncio.sleep(0.01)
        assert not self.host.serves(SHARD)

    def last_ack(self, upto: Seq | None = None) -> None:
        """Of all that is prepared, or up to there."""
        ack = Ack(SHARD, self.replica.epoch, upto or self.replica.log.end, 0, True)
        self.host.on_message(OTHER, Acks([ack]), memoryview(b""))

    async def ask(self, message: Request[Reply]) -> Reply:
        """As one frame of another node."""
        answer, _ = await self.server.on_request(OTHER, message, memoryview(b""))
        return reply_to(message, answer)


class Client(ShardClient):
    """Something may come in at the node just before a request of some kind.

    The other node, which leads nothing, can be asked to close a bucket.
    """

    closed_at_other = False
    before: type[Message] | None = None
    comes_in: Callable[[], object] = staticmethod(not_yet)

    async def call(
        self,
        node: NodeId,
        message: Request[Reply],
        body: Buffer,
        timeout_s: float,
        about: int | None = None,
    ) -> tuple[Reply, Buffer]:
        if node == OTHER:
            self.closed_at_other = True
            return reply_to(message, Done()), b""  # To a CloseBucket.
        if type(message) is self.before:
            self.comes_in()
        return await super().call(node, message, body, timeout_s, about)


@asynccontextmanager
async def taking_over(
    directory: Path, acknowledged: Sequence[Operation]
) -> AsyncIterator[tuple[NewPrimary, Bucket]]:
    """It has, up to the last acknowledgement. The bucket has the id 1."""
    async with started(directory, acknowledged) as (primary, bucket):
        await primary.take_over()
        yield primary, bucket


@asynccontextmanager
async def started(
    directory: Path, acknowledged: Sequence[Operation]
) -> AsyncIterator[tuple[NewPrimary, Bucket]]:
    """The store's configuration names it, which it has not heard yet."""
    async with disk(directory) as (journal, _):
        start(journal)
        for number, operation in enumerate(acknowledged, 1):
            encoded = bytes([number]) * 16, encode_operation(operation), b""
            journal.append(kind_of(operation), SHARD, EPOCH, Seq(number), Seq(0), *encoded)
    async with AsyncExitStack() as at_the_end:
        store = await EmbeddedStore.open(directory / "store.sqlite")
        at_the_end.push_async_callback(store.close)
        mirror = Mirror(store, KEYS.prefix)
        await mirror.start()
        at_the_end.push_async_callback(mirror.stop)
        buckets = BucketDirectory(store, KEYS, mirror)
        mirror.subscribe(
            lambda k, entry: buckets.on_change(k, entry) if k.startswith(KEYS.buckets) else None
        )
        bucket = await buckets.create("bucket", "owner", POOL.id, "", strict=False)
        await buckets.refresh()
        journal, index = await at_the_end.enter_async_context(disk(directory))
        primary = NewPrimary(journal, index, buckets)
        at_the_end.callback(primary.host.close)
        yield primary, bucket
