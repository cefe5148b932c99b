"""Shared by all parts of a node: its identity, its options, its machine, the store, and its end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

from octad.client.cluster.join_token import JoinToken
from octad.client.runtime.address import Address
from octad.client.runtime.background_task import stop_all
from octad.client.runtime.open_files import open_files_limit
from octad.coordinator.membership.join_client import JoinAnswer
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import ConfigStore
from octad.coordinator.store.mirror import Mirror
from octad.coordinator.store.open_store import StoreAddress, open_store
from octad.coordinator.tls.certificate import Certificate
from octad.sharding.ids import node_name
from octad.sharding.limits import SEGMENT_BYTES
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.journal.commit_thread import REAL_THREADS, Threads
from octad.storage_node.journal.data_directory import DataDirectory
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Identity, Position
from octad.storage_node.memory.heap import HeapKeeper
from octad.storage_node.node.node_failures import is_foreseen, said_of
from octad.storage_node.rebuild.index_repair import rebuild_beside
from octad.storage_node.rpc.peer_tls import TlsContexts

BOOT_BYTES = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """An operator's options of a node. S3 and RPC are on `listen.host`."""

    data: Path
    listen: Address
    rpc_port: int
    admin: Address
    log: Address
    all_through_aiohttp: bool  # No protocol of our own before it.
    body_budget_bytes: int
    sigv2_urls: bool
    domains: tuple[str, ...]
    blocks_public: bool  # New buckets block public access until someone allows it.
    strict_aws: bool  # No append, and no condition on a write that AWS does not take.
    advertise_host: str
    coordinator_urls: str
    coordinator_authority: str | None  # Whom to trust, where they are https.
    token: JoinToken
    zone: str
    weight: float
    access_log: Path | None  # The log of S3 requests; None: there is none.
    certificate: Certificate | None  # For S3 clients; None: without TLS.
    log_certificate: Certificate | None  # For clients of the log.
    tls: TlsContexts | None  # Between nodes.
    nodes_on_disk: int  # Nodes that share the disk, this one included.


async def _keep_heap() -> None:
    await HeapKeeper().run()


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node takes from its machine. A simulation puts its own there."""

    disk: Disk = field(default_factory=Disk)
    threads: Threads = REAL_THREADS
    segment_bytes: int = SEGMENT_BYTES
    open_index: Callable[[Path, int], CountedIndex] = CountedIndex
    rebuild_index: Callable[[Path, Callable[[], Position]], Awaitable[Path]] = rebuild_beside
    open_store: Callable[[StoreAddress, JoinToken], ConfigStore] = open_store
    open_files: Callable[[], int] = open_files_limit
    keep_heap: Callable[[], Coroutine[object, object, None]] = _keep_heap


class ThisNode:
    """One run of a node. Make it inside the running loop."""

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        joined: JoinAnswer,
        directory: DataDirectory,
        machine: Machine,
    ) -> None:
        self.machine = machine
        self.config = config
        self.identity = identity
        self.id = identity.node
        self.directory = directory
        self.region = joined.region
        self.boot = os.urandom(BOOT_BYTES)
        self.store: ConfigStore = machine.open_store(joined.store, config.token)
        self.keys = StoreKeys(config.token.cluster)
        self.mirror = Mirror(self.store, self.keys.prefix)
        self.failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._requests = itertools.count(1)
        self._tasks: dict[asyncio.Task[None], None] = {}

    def next_request_id(self) -> bytes:
        """One that no other request has: of this boot, numbered."""
        return self.boot + next(self._requests).to_bytes(8, "big")

    def fail(self, error: Exception) -> None:
        """The node cannot go on; the first reason counts."""
        if not self.failure.done():
            # Its end may take a while.
            why, trace = said_of(error), None if is_foreseen(error) else error
            log.error("%s cannot go on: %s", node_name(self.id), why, exc_info=trace)
            self.failure.set_result(error)

    def run(self, work: Coroutine[object, object, None], name: str | None = None) -> None:
        """Beside everything else, until it ends or `stop_running`."""
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def stop_running(self) -> None:
        """Cancel what runs, and wait until it has ended."""
        await stop_all(self._tasks)
