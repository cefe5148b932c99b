"""A cluster to lose a node of: three nodes, coordinator and store, a process each, on 127.0.0.1.

Nobody restarts what dies, and nobody records its death: that is the slower way for the others to
learn of it, and the one that a machine without a supervisor has.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tests.harness.cluster_process import free_port_block

from octad.chaos.cluster.control_processes import READY
from octad.chaos.cluster.process import ClusterProcess
from octad.client.cluster.join_token import encode_join_token
from octad.coordinator.recovery.create_cluster import new_join_token
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.open_store import StoreAddress, open_store
from octad.sharding.ids import NodeId
from octad.sharding.map.shard_map import decode_configuration
from octad.storage_node.cli.supervision import SUPERVISOR_VARIABLE

NODES = REPLICAS = 3
START_S_MAX = 40.0
HOST = "127.0.0.1"
ACCESS_KEY, SECRET_KEY = "octad-bench", "octad-bench-secret"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Strength:
    """How far the shards are, by configuration: a full member holds all of history, verified.

    `members` counts members of any kind on the disks that live now.
    """

    shards: int
    members: int
    full: int

    @property
    def whole(self) -> bool:
        return self.full == REPLICAS * self.shards


class Site:
    """`await start()`; `await stop()` leaves no process behind."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._first_port = free_port_block(3 * NODES + 2)
        self._token = new_join_token()
        self._keys = StoreKeys(self._token.cluster)
        store = f"{HOST}:{self._first_port + 3 * NODES}"
        control = "octad.chaos.cluster.control_processes"
        self.coordinator_address = f"{HOST}:{self._first_port + 3 * NODES + 1}"
        file = str(directory / "store.sqlite")
        self._store = self._process("store", "-m", control, "store", file, store)
        self._coordinator = self._process(
            *("coordinator", "-m", control, "coordinator", "http", f"http://{store}"),
            *(self.coordinator_address, str(REPLICAS), str(NODES)),
        )
        self._nodes = [self._node(number, known=True) for number in range(1, NODES + 1)]
        self._reading = open_store(StoreAddress("http", (f"http://{store}",)), self._token)

    async def start(self) -> None:
        """Returns once every node serves."""
        for process in (self._store, self._coordinator):
            process.start()
            await process.wait_until_it_says(READY, START_S_MAX)
        for process in self._nodes:
            process.start()
        for process in self._nodes:
            await process.wait_until_it_says(READY, START_S_MAX)

    async def stop(self) -> None:
        for process in (*self._nodes, self._coordinator, self._store):
            process.kill()
        await self._reading.close()

    def lose_last(self) -> None:
        """SIGKILL the last node and delete what it had; another one is started in its place."""
        self._nodes[-1].kill()
        shutil.rmtree(self._directory / f"n{NODES}")
        self._nodes[-1] = self._node(NODES, known=False)
        self._nodes[-1].start()

    async def last_is_ready(self) -> None:
        await self._nodes[-1].wait_until_it_says(READY, START_S_MAX)

    async def strength(self) -> Strength:
        """What the configuration store says."""
        configurations = [
            decode_configuration(e.value)
            for e in (await self._reading.range(self._keys.shards)).entries
        ]
        found = (await self._reading.range(self._keys.nodes)).entries
        live = {record.incarnation for record in map(_as_node, (each.value for each in found))}
        members = [
            m
            for configuration in configurations
            for m in configuration.members
            if m.incarnation in live
        ]
        return Strength(
            len(configurations), len(members), sum(member.base == 0 for member in members)
        )

    @property
    def endpoints(self) -> list[str]:
        return [f"{HOST}:{self._first_port + 3 * number}" for number in range(NODES)]

    @property
    def sources(self) -> list[Path]:
        """The journals of the nodes that are never lost."""
        return [self._directory / f"n{n}" / "journal" for n in range(1, NODES)]

    @property
    def pids(self) -> list[int]:
        return [each.pid for each in (*self._nodes, self._coordinator, self._store) if each.pid]

    @property
    def node_pids(self) -> list[int]:
        return [each.pid for each in self._nodes if each.pid]

    def _node(self, number: int, *, known: bool) -> ClusterProcess:
        name = f"n{number}"
        port = self._first_port + 3 * (number - 1)
        command = [
            *("-m", "octad", "node", "--data", str(self._directory / name)),
            *("--listen", f"{HOST}:{port}", "--rpc-port", str(port + 1)),
            *("--admin-listen", f"{HOST}:{port + 2}", "--zone", f"zone-{number}"),
            *("--coordinator", f"http://{self.coordinator_address}"),
        ]
        if known:
            command += ["--id", str(NodeId(number))]
        return self._process(name, *command)

    def _process(self, name: str, *command: str) -> ClusterProcess:
        environment = {
            "OCTAD_JOIN_TOKEN": encode_join_token(self._token),
            "OCTAD_ACCESS_KEY": ACCESS_KEY,
            "OCTAD_SECRET_KEY": SECRET_KEY,
            SUPERVISOR_VARIABLE: str(os.getpid()),
        }
        return ClusterProcess(name, command, self._directory / f"{name}.log", environment)


def _as_node(value: bytes) -> NodeRecord:
    return msgspec.json.decode(value, type=NodeRecord)


def cpu_s(pid: int) -> float:
    """User and system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
