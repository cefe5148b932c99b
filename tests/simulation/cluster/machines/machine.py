"""A host with a disk; processes of its node come and go, and a new disk makes it another node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.simulated_rocksdb import SimulatedDatabases
from tests.simulation.cluster.machines.index_files import IndexFiles
from tests.simulation.virtual.machine_disk import MachineDisk

from octad.client.runtime.address import Address
from octad.coordinator.schema.join_messages import JoinRequest
from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.limits import BODY_BUDGET_BYTES_MIN
from octad.storage_node.index.history_format import (
    InstalledCopy,
    decode_installed_copy,
    installed_copy_key,
)
from octad.storage_node.index.index_format import decode_shard_state, shard_state_key
from octad.storage_node.journal.data_directory import DataDirectory
from octad.storage_node.journal.record_format import Location
from octad.storage_node.journal.segment_file import segment_path
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.node.this_node import NodeConfig
from octad.storage_node.operations.registry import FORMAT_LEVEL

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.node_process import NodeProcess
    from tests.simulation.cluster.world import World

RPC_PORT, S3_PORT, ADMIN_PORT, LOG_PORT = 7000, 9000, 9001, 9002


class SimulatedMachine:
    """See the module."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.host = f"10.0.0.{number}"
        self.process: NodeProcess | None = None
        self.format_level = FORMAT_LEVEL  # That its version knows.
        self.config = NodeConfig(
            data=Path(f"/{self.host}"),
            listen=Address(self.host, S3_PORT),
            rpc_port=RPC_PORT,
            admin=Address(self.host, ADMIN_PORT),
            log=Address(self.host, LOG_PORT),
            all_through_aiohttp=False,
            body_budget_bytes=BODY_BUDGET_BYTES_MIN,
            sigv2_urls=False,
            domains=(),
            blocks_public=True,
            strict_aws=False,
            advertise_host=self.host,
            coordinator_urls="",
            coordinator_authority=None,
            token=world.token,
            zone="",
            weight=1.0,
            access_log=None,
            certificate=None,
            log_certificate=None,
            tls=None,
            nodes_on_disk=1,
        )
        self.new_disk()

    def new_disk(self) -> None:
        """An empty one: what joins with it is another node."""
        random = self.world.timeline.random
        self.disk = MachineDisk(random)
        self.databases = self.disk.databases = SimulatedDatabases()
        self.index_files = IndexFiles(self)
        self.node_id, self.incarnation = NodeId(0), ""
        self.entries: dict[tuple[ShardId, Seq], tuple[Epoch, Location]] = {}  # Ever journaled.

    def processes_are_gone(self, *, power: bool) -> None:
        """What is on the disk after a kill, or a power cut."""
        self.disk = self.disk.after_power_cut() if power else self.disk.after_kill()
        self.disk.databases = self.databases
        self.databases.crash(self.world.timeline.random)

    def join_request(
        self, directory: DataDirectory, incarnation: str, format_level: int
    ) -> JoinRequest:
        known = directory.identity
        return JoinRequest(
            cluster=self.config.token.cluster,
            node=None if known is None else known.node,
            incarnation=incarnation,
            rpc_address=f"{self.host}:{RPC_PORT}",
            s3_address=f"{self.host}:{S3_PORT}",
            zone="",
            weight=1.0,
            version="1.0",
            format_level=format_level,
        )

    def is_sound(self) -> bool:
        """Whether its node serves, and reads its rows."""
        process = self.process
        if process is None or process.parts is None or not process.is_serving:
            return False
        return process.parts.engine.index.damage is None and not self.index_files.is_marked()

    # -- the truth ---------------------------------------------------------------------------------

    def flushed_state(self, shard: ShardId) -> ShardState | None:
        """What the index has durably of a shard."""
        value = self._flushed(shard_state_key(shard))
        return None if value is None else decode_shard_state(value)

    def flushed_copy(self, shard: ShardId) -> InstalledCopy | None:
        """The copy of a shard's history that is durably complete."""
        value = self._flushed(installed_copy_key(shard))
        return None if value is None else decode_installed_copy(value)

    def _flushed(self, key: bytes) -> bytes | None:
        files = self.databases.files.get(self.index_files.current)
        for table in reversed(files.tables if files is not None else ()):
            if key in table.entries:
                return table.entries[key]
        return None

    def is_durable(self, location: Location) -> bool:
        """Whether a power cut leaves that record."""
        path = segment_path(self.config.data / "journal", location.segment)
        return self.disk.is_durable(path, location.offset, location.length)
