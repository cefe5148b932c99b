"""One process of a node on a simulated machine: the node that ships, from its start to its end.

What `octad node` does around a node (open the data directory, join, begin again after a failure) is
told here in a few lines; the node itself is `Node`, with the machine's disk, threads, index, store
and network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from tests.simulation.cluster.machines.older_nodes import NodeOfVersion
from tests.simulation.virtual.threads import SIMULATED_THREADS
from tests.simulation.virtual.virtual_loop import VirtualLoop

from octad.client.runtime.address import Address
from octad.sharding.limits import KIB
from octad.storage_node.index.index import IndexDamage, IndexDamaged
from octad.storage_node.journal.data_directory import DataDirectory, new_incarnation
from octad.storage_node.journal.journal_errors import IndexBehind, JournalDamage
from octad.storage_node.node.node import Node
from octad.storage_node.node.node_doors import STOP_GRACE_S, Doors
from octad.storage_node.node.node_engine import Engine
from octad.storage_node.node.node_objects import Objects
from octad.storage_node.node.node_replication import Replication
from octad.storage_node.node.open_file_shares import OpenFileShares
from octad.storage_node.node.this_node import Machine, ThisNode
from octad.storage_node.objects.cluster_objects import ClusterObjects
from octad.storage_node.rebuild import index_repair
from octad.storage_node.rebuild.filling_anew import BeginsAnew
from octad.storage_node.rebuild.index_repair import RebuildFailed

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.machine import SimulatedMachine
    from tests.simulation.cluster.world import World

SEGMENT_BYTES = 128 * KIB
OPEN_FILES = 4096


class SimulatedDoors(Doors):
    """No listener: the simulation's clients are in the process."""

    def __init__(
        self,
        this: ThisNode,
        engine: Engine,
        replication: Replication,
        objects: Objects,
        shares: OpenFileShares,
        **figures: Any,
    ) -> None:
        super().__init__(this, engine, replication, objects, shares, **figures)
        self.this = this
        self.engine = engine
        self.replication = replication
        self.objects = objects
        self.handler = self._front._answerer
        self.requests: Mapping[asyncio.Task[Any], object] = {}  # Of clients, under way.

    async def start_admin(self, cleanup: AsyncExitStack) -> Address:
        return self.this.config.admin

    async def start_log(self, cleanup: AsyncExitStack) -> Address:
        return self.this.config.log

    async def start(self) -> None:
        """Clients call `objects`, or the handler; who looks whether it is reached finds a port."""
        listen = self.this.config.listen
        await asyncio.get_running_loop().create_server(asyncio.Protocol, listen.host, listen.port)

    async def stop(self) -> None:
        """Requests have a moment to end, and are cancelled then, as at the door that ships."""
        if self.requests:
            await asyncio.wait(list(self.requests), timeout=STOP_GRACE_S)
        late = list(self.requests)
        for request in late:
            request.cancel()
        if late:
            await asyncio.wait(late)


class NodeProcess:
    """See the module. It begins at once; `parts` are there once the node has been made."""

    def __init__(self, world: World, machine: SimulatedMachine, loop: VirtualLoop) -> None:
        self.world = world
        self.machine = machine
        self.format_level = machine.format_level
        self.loop = loop
        self.node: Node | None = None
        self.parts: SimulatedDoors | None = None
        self.is_serving = False
        self.ended_by: Exception | None = None
        self.answers: dict[asyncio.Task[Any], Callable[[str, Any], None]] = {}
        self._stop: asyncio.Event | None = None
        loop.begin(self._run(), f"process of {machine.host}")

    def __repr__(self) -> str:
        return f"n{self.machine.node_id}"

    @property
    def objects(self) -> ClusterObjects:
        assert self.parts is not None
        return self.parts.objects.store

    def stop(self) -> None:
        """As SIGTERM: it ends by itself, in order."""
        if self._stop is not None:
            self.call_soon(self._stop.set)

    def call_soon(self, what: Callable[..., object], *args: object) -> None:
        """In the process, if there still is one."""
        if not self.loop.is_dead:
            self.loop.call_soon(what, *args)

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        try:
            async with AsyncExitStack() as cleanup:
                await self._serve(cleanup, self._stop)
        except (IndexBehind, IndexDamaged, IndexDamage) as error:
            self.ended_by = error
            self.world.tell(f"{self} is to begin with another index: {error}")
            index_repair.mark(self.machine.disk, self.machine.index_files.current, str(error))
        except (JournalDamage, RebuildFailed, BeginsAnew) as error:
            self.ended_by = error
            self.world.loses_its_disk(self)
        except Exception as error:
            self.ended_by = error
        if not self.loop.is_dead:
            await self._end_requests()
            self._check_tasks()
            self.world.process_ended(self)

    async def _end_requests(self) -> None:
        """As a door does with those that are left, and with whatever they have begun."""
        for task in (left := list(self.answers)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _check_tasks(self) -> None:
        """No task outlives its owner: all have ended with the node."""
        own = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not own]
        if left:
            names = sorted(repr(task.get_coro()) for task in left)
            self.world.fail(f"{self} has ended, and its tasks go on: {names}")

    async def _serve(self, cleanup: AsyncExitStack, stop: asyncio.Event) -> None:
        machine, world = self.machine, self.world
        config = machine.config
        directory = DataDirectory.open(config.data, config.token.cluster, disk=machine.disk)
        cleanup.callback(directory.close)
        known = directory.identity
        incarnation = known.incarnation if known is not None else new_incarnation()
        await machine.index_files.repair()
        request = machine.join_request(directory, incarnation, self.format_level)
        joined = await world.join(self.loop, request)
        identity = known or directory.initialize(config.token.cluster, joined.node, incarnation)
        machine.node_id, machine.incarnation = identity.node, identity.incarnation
        store = world.store.client(self.loop)
        resources = Machine(
            disk=machine.disk,
            threads=SIMULATED_THREADS,
            segment_bytes=SEGMENT_BYTES,
            open_index=machine.index_files.open,
            rebuild_index=machine.index_files.rebuild,
            open_store=lambda _address, _token: store,
            open_files=lambda: OPEN_FILES,
            keep_heap=_keep_nothing,
        )
        of = config, identity, joined, directory, resources, SimulatedDoors
        self.node = node = NodeOfVersion(*of)
        node.known = self.format_level
        assert isinstance(node._doors, SimulatedDoors)
        self.parts = node._doors
        self.parts.requests = self.answers
        world.invariants.watch(self)
        await node.start(cleanup)
        self.is_serving = True
        stopped = asyncio.create_task(stop.wait())
        either: list[asyncio.Future[Any]] = [node.failure, stopped]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        self.is_serving = False
        stopped.cancel()
        if node.failure.done():
            raise node.failure.result()


async def _keep_nothing() -> None:
    """The simulation's memory is its own."""
