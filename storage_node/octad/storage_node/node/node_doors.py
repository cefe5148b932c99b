"""A node's doors: S3 and the log for clients, and a port for those who look after it.

The door for other nodes is the replication's, since shards are most of what they speak of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version

from octad.client.runtime.address import Address
from octad.coordinator.schema.bucket_settings import CLOSED, OPEN
from octad.coordinator.store.interface import KeyValue
from octad.storage_node.log.http.log_door import LogDoor
from octad.storage_node.node.known_keys import KnownKeys
from octad.storage_node.node.node_engine import Engine
from octad.storage_node.node.node_objects import Objects
from octad.storage_node.node.node_replication import Replication
from octad.storage_node.node.open_file_shares import OpenFileShares
from octad.storage_node.node.reports.admin_listener import AdminListener
from octad.storage_node.node.reports.log_metrics import log_metrics
from octad.storage_node.node.reports.node_metrics import NodeMetrics
from octad.storage_node.node.reports.trace_route import TraceRoute
from octad.storage_node.node.this_node import ThisNode
from octad.storage_node.s3.http.access_log import AccessLog
from octad.storage_node.s3.http.request_trace import RequestTraces
from octad.storage_node.s3.http.server import FrontDoor
from octad.storage_node.upkeep.engine_upkeep import EngineReport

STOP_GRACE_S = 10.0


class Doors:
    """See the module. `start_admin` first of all of a node, `start` last."""

    def __init__(
        self,
        this: ThisNode,
        engine: Engine,
        replication: Replication,
        objects: Objects,
        shares: OpenFileShares,
        *,
        not_ready: Callable[[], str | None],
        engine_report: Callable[[], EngineReport | None],
        snapshot: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._this = this
        self._log: AccessLog | None = None
        config = this.config
        self._known = KnownKeys(config.token)
        self._front = FrontDoor(
            objects.store,
            self._known.secrets.get,
            this.region,
            this.next_request_id,
            objects.budget,
            cluster=config.token.cluster,
            owner_of_id=self._known.owner_of_id,
            all_through_aiohttp=config.all_through_aiohttp,
            sigv2_urls=config.sigv2_urls,
            domains=config.domains,
            certificate=config.certificate,
            new_buckets=CLOSED if config.blocks_public else OPEN,
            strict_aws=config.strict_aws,
            connections_max=shares.clients,
        )
        self._log_door = LogDoor(
            objects.topics,
            self._known.secrets.get,
            this.region,
            objects.budget,
            version("octad"),
            config.log_certificate,
        )
        self._log_connections_max = shares.log
        metrics = NodeMetrics(
            self._front,
            engine.journal,
            replication.peers,
            engine_report,
            replication.shard_counts,
            objects.budget,
            config.certificate,
            partial(log_metrics, self._log_door, objects.log_leader, objects.log_reader),
        )
        trace = TraceRoute(
            config.token.cluster, RequestTraces(self._front.figures), self._known.signer, not_ready
        )
        self._admin = AdminListener(config.token, metrics, not_ready, snapshot, trace.answer)

    async def start_admin(self, cleanup: AsyncExitStack) -> Address:
        """Start the admin port; returns its address for others."""
        config = self._this.config
        cleanup.push_async_callback(self._admin.stop)
        return self._told(config.admin, await self._admin.start(config.admin))

    async def start_log(self, cleanup: AsyncExitStack) -> Address:
        """Listen for the log's clients, to be taken in at `start`; returns the address for others.

        Raises OSError where it cannot be had.
        """
        cleanup.push_async_callback(self._log_door.stop)
        listen = self._this.config.log
        port = await self._log_door.start(listen, self._log_connections_max)
        return self._told(listen, port)

    def _told(self, listen: Address, port: int) -> Address:
        host = self._this.config.advertise_host if listen.is_wildcard else listen.host
        return Address(host, port)

    async def start(self) -> None:
        """Take clients in; raises OSError where the address or the access log cannot be had."""
        if self._this.config.access_log is not None:
            self._log = self._front.figures.log = AccessLog(self._this.config.access_log)
        listen = self._this.config.listen
        await self._front.start(listen.host, listen.port)
        self._log_door.is_open = True

    async def stop(self) -> None:
        """Finish the clients' requests and take no more."""
        await self._log_door.stop()
        await self._front.stop(STOP_GRACE_S)
        if self._log is not None:
            await asyncio.to_thread(self._log.close)

    def on_change(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw a key change; those of other kinds are passed over."""
        keys = self._this.keys
        if key.startswith(keys.access_keys):
            self._known.on_change(key.removeprefix(keys.access_keys), entry)
