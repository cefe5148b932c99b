"""One storage node: its assemblies put together, started in order and stopped in reverse.

    admin ─ engine ─ shards (replay), other nodes ─ mirror ─ registration ─ map ─ clients ─ upkeep

What each part does is in its own file; this one only knows which needs which.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from octad.client.runtime.address import Address
from octad.client.runtime.background_task import run_together
from octad.client.version import VERSION
from octad.coordinator.membership.join_client import JoinAnswer
from octad.coordinator.schema.records import NodeRecord
from octad.coordinator.store.interface import KeyValue
from octad.sharding import limits
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.journal.data_directory import DataDirectory
from octad.storage_node.journal.record_format import Identity
from octad.storage_node.node.membership import Membership
from octad.storage_node.node.node_doors import Doors
from octad.storage_node.node.node_engine import Engine
from octad.storage_node.node.node_objects import Objects
from octad.storage_node.node.node_replication import Replication
from octad.storage_node.node.open_file_shares import open_file_shares
from octad.storage_node.node.reports.shard_reporter import ShardReporter
from octad.storage_node.node.store_snapshot import StoreSnapshot
from octad.storage_node.node.this_node import Machine, NodeConfig, ThisNode
from octad.storage_node.operations.registry import FORMAT_LEVEL
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.upkeep.engine_upkeep import EngineReport

READY_POLL_S = 0.02
ANNOUNCED_S = 4 * limits.ANNOUNCE_DELAY_S  # Said after one, applied after another, and the way.


class Node:
    """A running node: `start`, then `ready`. `failure` ends when it cannot go on."""

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        joined: JoinAnswer,
        directory: DataDirectory,
        machine: Machine | None = None,
        doors: type[Doors] = Doors,
    ) -> None:
        machine = machine or Machine()
        self._this = this = ThisNode(config, identity, joined, directory, machine)
        self.id, self.failure = this.id, this.failure
        self._keeper = StoreSnapshot(directory.path, identity, this.mirror, machine.disk)
        shares = open_file_shares(machine.open_files())
        self._engine = Engine(this, shares)
        self._buckets = BucketDirectory(this.store, this.keys, this.mirror)
        self._replication = Replication(this, self._engine, self._buckets)
        self._objects = Objects(this, self._engine, self._replication, self._buckets)
        self._doors = doors(
            this,
            self._engine,
            self._replication,
            self._objects,
            shares,
            not_ready=self._not_ready,
            engine_report=self._engine_report,
            snapshot=self._keeper.content,
        )
        self._started = False
        self._draining: asyncio.Task[None] | None = None

    async def start(self, cleanup: AsyncExitStack) -> None:
        """Start all parts in order; `cleanup` stops the started ones in reverse."""
        this, replication, client = self._this, self._replication, self._objects.client
        cleanup.push_async_callback(this.store.close)
        admin = await self._doors.start_admin(cleanup)
        await self._engine.start(cleanup, self._keeper.format_level())
        await replication.start(cleanup, self._objects.server.on_request, client)
        cleanup.push_async_callback(this.mirror.stop)
        await this.mirror.start()
        cleanup.push_async_callback(self._keeper.close)
        self._keeper.start()
        this.mirror.subscribe(self._on_change)
        log = await self._doors.start_log(cleanup)
        membership = Membership(this.store, this.keys, self._record(admin, log), this.fail)
        cleanup.push_async_callback(membership.stop)
        await membership.start()
        await replication.act(cleanup, client)
        cleanup.push_async_callback(self.drain)
        await self._doors.start()
        cleanup.push_async_callback(this.stop_running)
        self._started = True
        this.run(self._keep_up())
        this.run(this.machine.keep_heap())
        this.run(self._reporter().run())
        this.run(replication.succession.anew.end())

    async def ready(self) -> None:
        """Returns once every shard is configured and those that this node leads are served.

        Returns also once `failure` is set: then none of it may be so.
        """
        while not self.failure.done() and not self._replication.is_ready():
            await asyncio.sleep(READY_POLL_S)

    async def drain(self) -> None:
        """Finish the clients' requests and take no more; other nodes are still answered."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        await asyncio.shield(self._draining)

    async def _drain(self) -> None:
        """Wait until the other members know the last commits: nothing is undecided then."""
        await self._doors.stop()
        await asyncio.sleep(ANNOUNCED_S)

    def _record(self, admin: Address, log: Address) -> NodeRecord:
        config = self._this.config
        return NodeRecord(
            id=self.id,
            incarnation=self._this.identity.incarnation,
            rpc_address=str(Address(config.advertise_host, config.rpc_port)),
            s3_address=str(Address(config.advertise_host, config.listen.port)),
            zone=config.zone,
            weight=config.weight,
            version=VERSION,
            boot=self._this.boot.hex(),
            admin_address=str(admin),
            format_level=FORMAT_LEVEL,
            s3_tls=config.certificate is not None,
            log_address=str(log),
            log_tls=config.log_certificate is not None,
        )

    def _reporter(self) -> ShardReporter:
        this, replication, objects = self._this, self._replication, self._objects
        return ShardReporter(
            this.id,
            this.boot.hex(),
            this.store,
            this.keys,
            replication.facts,
            replication.host,
            replication.comparer.verified,
            replication.copier.progress,
            objects.damage,
            objects.extent_upkeep.collector.waiting,
            replication.succession,
        )

    def _on_change(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw a key change: each kind has its part."""
        self._replication.on_change(key, entry)
        if key.startswith(self._this.keys.buckets):
            self._buckets.on_change(key, entry)
        elif key.startswith(self._this.keys.topics):
            self._objects.topic_names.on_change(key, entry)
        elif key.startswith(self._this.keys.usages):
            self._buckets.on_usage(key, entry)
        self._doors.on_change(key, entry)

    def _not_ready(self) -> str | None:
        if self.failure.done():
            return f"it cannot go on: {self.failure.result()}"
        if self._draining is not None:
            return "it is stopping"
        if not self._started:
            return "it is starting"
        return None if self._replication.is_ready() else "it waits for shards"

    def _engine_report(self) -> EngineReport | None:
        return self._objects.engine_upkeep.report() if self._started else None

    async def _keep_up(self) -> None:
        """The upkeep of objects and copies; it rests while there is no index."""
        replication = self._replication
        while True:
            counting = (replication.counter.run(), replication.comparer.run())
            try:
                await run_together(*self._objects.upkeep(), *counting)
            except IndexDamage:  # An abandoned index needs no upkeep.
                await replication.succession.intact.wait()
            except Exception as error:
                self._this.fail(error)
                return
