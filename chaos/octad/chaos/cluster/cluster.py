"""A cluster under test: nodes, a coordinator and a store, each a process of its own behind a proxy.

Where they listen and are reached is in `addresses.py`, how they are started in `processes.py`.
Clients talk to a node's own S3 address. No one restarts what dies but who asks for it here.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec

from octad.chaos.cluster.addresses import Addresses, Shape
from octad.chaos.cluster.control_processes import READY
from octad.chaos.cluster.network import UNKNOWN, Network
from octad.chaos.cluster.process import ClusterProcess, ProcessFailed
from octad.chaos.cluster.processes import COORDINATOR, STORE, Processes
from octad.chaos.cluster.socket_owners import owner_of
from octad.client.runtime.address import Address
from octad.client.s3.sigv4 import Credentials
from octad.coordinator.recovery.create_cluster import new_join_token
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.open_store import open_store
from octad.sharding.ids import NodeId, node_name
from octad.sharding.map.shard_map import ShardConfiguration, decode_configuration

START_S_MAX = 40.0


class Cluster:
    """`await start()`; `await stop()` leaves no process behind. Files are in `directory`."""

    def __init__(self, directory: Path, shape: Shape) -> None:
        self.directory = directory
        self.shape = shape
        self.credentials = Credentials("octad-chaos", "octad-chaos-secret")
        self.token = new_join_token()
        self.addresses = Addresses(shape)
        self._processes = Processes(directory, shape, self.addresses, self.token, self.credentials)
        self.network = Network(self._name_of)
        self.store = self._processes.store()
        self.coordinator = self._processes.coordinator()
        self.nodes = {number: self._processes.node(number) for number in self.numbers}
        self._reading = open_store(self.addresses.store_for_clients, self.token)
        self._keys = StoreKeys(self.token.cluster)

    @property
    def numbers(self) -> range:
        """The nodes' places, from 1."""
        return self.shape.numbers

    def endpoint(self, number: int) -> str:
        """A node's address for clients."""
        return f"http://{self.addresses.s3(number)}"

    def data(self, number: int) -> Path:
        return self._processes.data(number)

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
        await self.network.add(STORE, self.addresses.store_reached, self.addresses.store)
        for number in self.numbers:
            for at, listener in self.addresses.links(number):
                await self.network.add(node_name(NodeId(number)), at, listener)

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
        self.nodes[number] = self._processes.node(number, is_new=True)

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
            str(self.addresses.rpc_reached(number))
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
