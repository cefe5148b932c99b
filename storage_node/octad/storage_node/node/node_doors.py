"""A node's doors: S3 for clients, and a port for those who look after it.

The door for other nodes is the replication's, since shards are most of what they speak of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec

from octad.client.runtime.address import Address
from octad.coordinator.schema.access_keys import secret_of
from octad.coordinator.schema.bucket_settings import CLOSED, OPEN
from octad.coordinator.schema.records import AccessKeyRecord
from octad.coordinator.store.interface import KeyValue
from octad.storage_node.node.node_engine import Engine
from octad.storage_node.node.node_objects import Objects
from octad.storage_node.node.node_replication import Replication
from octad.storage_node.node.reports.admin_listener import AdminListener
from octad.storage_node.node.reports.node_metrics import NodeMetrics
from octad.storage_node.node.this_node import ThisNode
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
        connections_max: int,
        *,
        not_ready: Callable[[], str | None],
        engine_report: Callable[[], EngineReport | None],
        kept: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._this = this
        self._secrets: dict[str, tuple[str, str]] = {}
        config = this.config
        self._front = FrontDoor(
            objects.store,
            self._secrets.get,
            this.region,
            this.next_request_id,
            objects.budget,
            all_through_aiohttp=config.all_through_aiohttp,
            sigv2_urls=config.sigv2_urls,
            domains=config.domains,
            new_buckets=CLOSED if config.blocks_public else OPEN,
            strict_aws=config.strict_aws,
            connections_max=connections_max,
        )
        metrics = NodeMetrics(
            self._front,
            engine.journal,
            replication.peers,
            engine_report,
            replication.shard_counts,
            objects.budget,
        )
        self._admin = AdminListener(config.token, metrics, not_ready, kept)

    async def start_admin(self, cleanup: AsyncExitStack) -> Address:
        """Where others reach it."""
        config = self._this.config
        cleanup.push_async_callback(self._admin.stop)
        port = await self._admin.start(config.admin)
        wildcard = config.admin.is_wildcard
        return Address(config.advertise_host if wildcard else config.admin.host, port)

    async def start(self) -> None:
        """Take clients in; raises OSError where the address cannot be had."""
        listen = self._this.config.listen
        await self._front.start(listen.host, listen.port)

    async def stop(self) -> None:
        """Finish the clients' requests and take no more."""
        await self._front.stop(STOP_GRACE_S)

    def on_change(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw a key change; those of other kinds are passed over."""
        keys = self._this.keys
        if key.startswith(keys.access_keys):
            self._on_access_key(key.removeprefix(keys.access_keys), entry)

    def _on_access_key(self, access_key: str, entry: KeyValue | None) -> None:
        self._secrets.pop(access_key, None)
        if entry is not None:
            record = msgspec.json.decode(entry.value, type=AccessKeyRecord)
            if not record.disabled:
                secret = secret_of(self._this.config.token, record)
                self._secrets[access_key] = (secret, record.owner)
