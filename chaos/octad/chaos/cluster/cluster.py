"""A cluster under test: nodes, a coordinator and a store, each a process of its own behind a proxy.

    node N        listens on 127.0.1.N, is reached by the others on 127.0.2.N (same RPC port)
    store         listens on 127.0.1.201, is reached on 127.0.2.201
    coordinator   listens on 127.0.1.202

Where nothing is to come between them, each is reached where it listens.
Clients talk to a node's own S3 address. No one restarts what dies but who asks for it here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from octad.chaos.cluster.control_processes import READY
from octad.chaos.cluster.free_ports import free_port
from octad.chaos.cluster.network import UNKNOWN, Network
from octad.chaos.cluster.process import ClusterProcess, ProcessFailed
from octad.chaos.cluster.socket_owners import owner_of
from octad.client.cluster.join_token import encode_join_token
from octad.client.runtime.address import Address
from octad.client.s3.sigv4 import Credentials
from octad.coordinator.recovery.create_cluster import new_join_token
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.open_store import StoreAddress, open_store
from octad.sharding.ids import NodeId, node_name
from octad.sharding.map.shard_map import ShardConfiguration, decode_configuration
from octad.storage_node.cli.supervision import SUPERVISOR_VARIABLE

STORE, COORDINATOR = "store", "coordinator"
OCTAD = (sys.executable, "-m", "octad")
CONTROL = (sys.executable, "-m", "octad.chaos.cluster.control_processes")
START_S_MAX = 40.0
S3_PORT, RPC_PORT, ADMIN_PORT, STORE_PORT, COORDINATOR_PORT, ETCD_PEER_PORT = range(
    6
)  # After the first.
STORE_NUMBER, STORE_HOST, COORDINATOR_HOST = 201, "127.0.1.201", "127.0.1.202"


@dataclass(frozen=True, slots=True)
class Shape:
    """The parts of a cluster. `etcd`: the path of an etcd to run; None for octad's own store."""

    nodes: int = 3
    replicas: int = 3
    etcd: str | None = None
    proxies: bool = True


class Cluster:
    """`await start()`; `await stop()` leaves no process behind. Files are in `directory`."""

    def __init__(self, directory: Path, shape: Shape) -> None:
        self.directory = directory
        self.shape = shape
        self.credentials = Credentials("octad-chaos", "octad-chaos-secret")
        self.token = new_join_token()
        hosts = [STORE_HOST, self._reached_at(STORE_NUMBER), COORDINATOR_HOST]
        hosts += [at for n in self.numbers for at in (f"127.0.1.{n}", self._reached_at(n))]
        self._first_port = free_port(range(ETCD_PEER_PORT + 1), hosts)
        self.network = Network(self._name_of)
        self._wiped: set[int] = set()
        self.store = self._store_process()
        self.coordinator = self._coordinator_process()
        self.nodes = {number: self._node_process(number) for number in self.numbers}
        self._reading = open_store(StoreAddress(self._store_kind, (self.store_url,)), self.token)
        self._keys = StoreKeys(self.token.cluster)

    @property
    def numbers(self) -> range:
        """The nodes' places, from 1."""
        return range(1, self.shape.nodes + 1)

    def endpoint(self, number: int) -> str:
        """A node's address for clients."""
        return f"http://{self._address(f'127.0.1.{number}', S3_PORT)}"

    @property
    def store_url(self) -> str:
        return f"http://{self._store_address}"

    @property
    def coordinator_url(self) -> str:
        return f"http://{self._address(COORDINATOR_HOST, COORDINATOR_PORT)}"

    def data(self, number: int) -> Path:
        return self.directory / f"n{number}"

    async def start(self) -> None:
        """Returns once every node serves; raises ProcessFailed."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        if self.shape.proxies:
            await self._add_proxies()
        await self.start_store()
        await self.start_coordinator()
        for process in self.nodes.values():
            process.start()
        for number in self.numbers:
            await self.node_is_ready(number)

    async def _add_proxies(self) -> None:
        at = self._address(self._reached_at(STORE_NUMBER), STORE_PORT)
        await self.network.add(STORE, at, self._store_address)
        for number in self.numbers:
            for port in (RPC_PORT, S3_PORT):  # The latter for who looks whether it answers.
                await self.network.add(
                    node_name(NodeId(number)),
                    self._address(self._reached_at(number), port),
                    self._address(f"127.0.1.{number}", port),
                )

    async def start_store(self) -> None:
        self.store.start()
        says = "ready to serve client requests" if self.shape.etcd else READY
        await self._until_it_says(self.store, says)

    async def start_coordinator(self) -> None:
        """Start the coordinator, again if it gave up because the store did not answer."""
        for attempt in range(10):
            self.coordinator.kill()
            self.coordinator.start()
            try:
                await self._until_it_says(self.coordinator, READY)
                return
            except ProcessFailed:
                if attempt == 9:
                    raise
                await asyncio.sleep(0.5)

    async def start_node(self, number: int) -> None:
        """Returns once it serves; raises ProcessFailed."""
        self.nodes[number].start()
        await self.node_is_ready(number)

    async def node_is_ready(self, number: int) -> None:
        """Returns once it serves; raises ProcessFailed."""
        await self._until_it_says(self.nodes[number], READY)

    def wipe(self, number: int) -> None:
        """A dead node's data is gone; what starts there next is a new node."""
        assert not self.nodes[number].pid, "it runs"
        for entry in self.data(number).iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self._wiped.add(number)
        self.nodes[number] = self._node_process(number)

    async def stop(self) -> None:
        """SIGKILL all of it."""
        for process in (*self.nodes.values(), self.coordinator, self.store):
            process.kill()
        await self.network.close()
        await self._reading.close()

    async def configurations(self) -> list[ShardConfiguration]:
        """The shard map, from the store itself. Raises StoreUnavailable."""
        found = await self._reading.range(self._keys.shards)
        return [decode_configuration(entry.value) for entry in found.entries]

    async def live_disks(self) -> set[tuple[NodeId, str]]:
        """Node and incarnation of who is registered and runs: a registration outlives its process.

        Raises StoreUnavailable.
        """
        found = await self._reading.range(self._keys.nodes)
        records = [msgspec.json.decode(entry.value, type=NodeRecord) for entry in found.entries]
        running = {
            str(self._address(self._reached_at(number), RPC_PORT))
            for number, process in self.nodes.items()
            if process.pid
        }
        return {
            (record.id, record.incarnation) for record in records if record.rpc_address in running
        }

    async def shards_below_strength(self) -> int:
        """Shards without a full set of full members on live disks."""
        configurations, disks = await self.configurations(), await self.live_disks()
        return sum(
            not (
                len(configuration.members) == self.shape.replicas
                and not configuration.learners
                and all(
                    m.base == 0 and (m.node, m.incarnation) in disks for m in configuration.members
                )
            )
            for configuration in configurations
        )

    # -- its processes -------------------------------------------------------------------------

    async def _until_it_says(self, process: ClusterProcess, text: str) -> None:
        """Wait for the process to print `text`, while the network runs; raises ProcessFailed."""
        await asyncio.to_thread(process.wait_until_it_says, text, START_S_MAX)

    def _name_of(self, local: Address, remote: Address) -> str:
        processes = {node_name(NodeId(number)): p.pid for number, p in self.nodes.items() if p.pid}
        if self.coordinator.pid:
            processes[COORDINATOR] = self.coordinator.pid
        return owner_of(local, remote, processes) or UNKNOWN

    @property
    def _store_kind(self) -> Literal["http", "etcd"]:
        return "etcd" if self.shape.etcd else "http"

    @property
    def _store_address(self) -> Address:
        return self._address(STORE_HOST, STORE_PORT)

    def _reached_at(self, number: int) -> str:
        """Its address for the other processes."""
        return f"127.0.{2 if self.shape.proxies else 1}.{number}"

    def _address(self, host: str, port: int) -> Address:
        return Address(host, self._first_port + port)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "OCTAD_JOIN_TOKEN": encode_join_token(self.token),
            "OCTAD_ACCESS_KEY": self.credentials.access_key,
            "OCTAD_SECRET_KEY": self.credentials.secret_key,
            SUPERVISOR_VARIABLE: str(os.getpid()),
        }

    def _process(self, name: str, *command: str) -> ClusterProcess:
        log = self.directory / f"{name}.log"
        return ClusterProcess(command, log, environment=self._environment())

    def _store_process(self) -> ClusterProcess:
        if self.shape.etcd is not None:
            return self._process(STORE, *self._etcd_command(self.shape.etcd))
        file = str(self.directory / "store.sqlite")
        return self._process(STORE, *CONTROL, "store", file, str(self._store_address))

    def _etcd_command(self, etcd: str) -> list[str]:
        peer = f"http://{self._address(STORE_HOST, ETCD_PEER_PORT)}"
        return [
            etcd,
            "--name=m0",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self.store_url}",
            f"--advertise-client-urls={self.store_url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=m0={peer}",
        ]

    def _coordinator_process(self) -> ClusterProcess:
        return self._process(
            *(COORDINATOR, *CONTROL, "coordinator", self._store_kind),
            f"http://{self._address(self._reached_at(STORE_NUMBER), STORE_PORT)}",
            str(self._address(COORDINATOR_HOST, COORDINATOR_PORT)),
            *(str(self.shape.replicas), str(self.shape.nodes)),
        )

    def _node_process(self, number: int) -> ClusterProcess:
        return self._process(
            *(node_name(NodeId(number)), *OCTAD, "node", "--data", str(self.data(number))),
            *("--listen", str(self._address(f"127.0.1.{number}", S3_PORT))),
            *("--rpc-port", str(self._first_port + RPC_PORT)),
            *("--admin-listen", str(self._address(f"127.0.1.{number}", ADMIN_PORT))),
            *("--advertise", self._reached_at(number), "--zone", f"zone-{number}"),
            *("--coordinator", self.coordinator_url),
            *(() if number in self._wiped else ("--id", str(number))),
        )
