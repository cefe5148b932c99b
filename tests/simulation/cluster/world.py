"""A cluster that is simulated: its machines, its network, its store and its coordinator."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from tests.simulation.cluster.checks.invariants import Invariants
from tests.simulation.cluster.clients.object_clients import Clients
from tests.simulation.cluster.clients.s3_clients import S3Clients
from tests.simulation.cluster.faults.damage import Damage
from tests.simulation.cluster.faults.operator import Operator
from tests.simulation.cluster.machines.config_store import SimulatedStore
from tests.simulation.cluster.machines.machine import SimulatedMachine
from tests.simulation.cluster.machines.node_process import NodeProcess
from tests.simulation.virtual.network import Network
from tests.simulation.virtual.timeline import Timeline
from tests.simulation.virtual.virtual_loop import Clock, VirtualLoop

from octad.client.cluster.join_token import JoinToken
from octad.client.s3.sigv4 import Credentials
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.membership.join_client import JoinAnswer
from octad.coordinator.recovery.create_cluster import create_cluster
from octad.coordinator.schema.join_messages import JoinRequest
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.server.coordinator_config import CoordinatorConfig
from octad.coordinator.store.interface import StoreUnavailable
from octad.coordinator.store.keyspace import Change
from octad.coordinator.store.open_store import StoreAddress
from octad.sharding.ids import NodeId
from octad.sharding.limits import CLOCK_DRIFT_MAX
from octad.sharding.map.shard_map import Member, ShardConfiguration
from octad.storage_node.cli.node_process import JOIN_RETRY_S
from octad.storage_node.dev.death_record import record_death

STEPS_MAX = 400_000  # A run takes some tens of thousands.
STORE_ADDRESS = StoreAddress("http", ("http://store",))
DEPTH = 1
COORDINATOR = "coordinator"
CREDENTIALS = Credentials("KEYOFTHECLIENTS", "secret" * 4)
BOOT_AGAIN_S = 1.0
STORE_AGAIN_S = 0.2
JOIN_S = 3.0

if TYPE_CHECKING:
    from tests.simulation.log.log_clients import LogClients

T = TypeVar("T")


class Violation(AssertionError):
    """An invariant does not hold."""


class World:
    """See the module."""

    def __init__(self, timeline: Timeline, *, nodes: int, replicas: int, story: list[str]) -> None:
        self.timeline = timeline
        self.random = timeline.random
        self.story = story
        self.faults: Counter[str] = Counter()
        self.replicas = replicas
        self.token = JoinToken("5eed5eed", Random(timeline.seed).randbytes(32))
        self.keys = StoreKeys(self.token.cluster)
        self.network = Network(timeline)
        self.store = SimulatedStore(timeline, self._on_change)
        self.clients = Clients(self)
        self.invariants = Invariants(self)
        self.damage = Damage(self)
        self.operator = Operator(self)
        self.damaged_journals = 0
        self.records_deaths = self.random.random() < 0.5
        self.machines = [SimulatedMachine(self, number + 1) for number in range(nodes)]
        self.coordinator: Coordinator | None = None
        self.supervisor_loop = self.new_loop("supervisor")
        self.s3_clients = S3Clients(self, CREDENTIALS)
        self.log_clients: LogClients | None = None  # Where a run has any.
        self.start_coordinator()
        for machine in self.machines:
            self.boot(machine)

    def new_loop(self, host: str) -> VirtualLoop:
        """For a process that begins now, on a machine whose clock has any origin and drifts."""
        origin = self.random.random() * 1000 - self.timeline.time
        rate = 1 + (self.random.random() * 2 - 1) * CLOCK_DRIFT_MAX
        return VirtualLoop(self.timeline, self.network, host, Clock(origin + 1000, rate))

    # -- nodes -------------------------------------------------------------------------------------

    def processes(self) -> list[NodeProcess]:
        """Those that run."""
        return [machine.process for machine in self.machines if machine.process is not None]

    def any_serving(self, random: Random) -> NodeProcess | None:
        serving = [process for process in self.processes() if process.is_serving]
        return random.choice(serving) if serving else None

    def serves(self) -> bool:
        """Whether every node runs, and every shard is served."""
        processes = self.processes()
        return bool(self.invariants.configurations) and all(
            process.is_serving and process.node is not None and process.node._not_ready() is None
            for process in processes
        )

    def is_at_full_strength(self) -> bool:
        """Whether every shard has as many full members as it should, each with its disk."""
        return all(
            len(self._full_members(each)) == self.replicas
            for each in self.invariants.configurations.values()
        )

    def _full_members(self, configuration: ShardConfiguration) -> list[Member]:
        """Those whose disk is there, and what it should be."""
        return [
            member
            for member in configuration.members
            if not member.base
            if self.machine_of(member.node, member.incarnation) is not None
            if (member.node, member.incarnation) not in self.damage.journals
        ]

    def others_are_whole(self, machine: SimulatedMachine) -> bool:
        """Whether every shard has a full member elsewhere, whose disk is what it should be."""
        return all(
            any(member.node != machine.node_id for member in self._full_members(configuration))
            for configuration in self.invariants.configurations.values()
        )

    def may_lose(self, machine: SimulatedMachine) -> bool:
        """Whether its disk can be spared: no other one may be damaged then, or gone."""
        spared = not self.damage.left() and not self.operator.is_at_work
        return spared and self.others_are_whole(machine)

    def machine_of(self, node: NodeId, incarnation: str) -> SimulatedMachine | None:
        """Where that disk is, if it is anywhere."""
        for machine in self.machines:
            if (machine.node_id, machine.incarnation) == (node, incarnation):
                return machine
        return None

    def boot(self, machine: SimulatedMachine) -> None:
        if machine.process is None:
            self.tell(f"{machine.host} boots")
            machine.process = NodeProcess(self, machine, self.new_loop(machine.host))

    def kill(self, machine: SimulatedMachine, *, power: bool) -> None:
        """The process ends at once, by a signal or with its machine."""
        process = machine.process
        assert process is not None
        self.tell(
            f"n{machine.node_id} at {machine.host} " + ("loses power" if power else "is killed")
        )
        process.loop.kill()
        self.network.process_ended(process.loop, silently=power)
        self._gone(process, power=power)

    def process_ended(self, process: NodeProcess) -> None:
        """By itself: it was stopped, or cannot go on. Its supervisor starts another one."""
        self.tell(f"{process} has ended" + (f": {process.ended_by!r}" if process.ended_by else ""))
        process.loop.kill()
        self.network.process_ended(process.loop, silently=False)
        self._gone(process, power=False)
        self.boot_later(process.machine, self.random.random() * BOOT_AGAIN_S)

    def loses_its_disk(self, process: NodeProcess) -> None:
        """Its journal is damaged: what it has lost, it does not know (rule R14)."""
        self.tell(f"{process} begins anew: {process.ended_by}")
        self.damaged_journals += 1
        process.machine.new_disk()

    def _gone(self, process: NodeProcess, *, power: bool) -> None:
        machine = process.machine
        process.is_serving = False
        machine.process = None
        machine.processes_are_gone(power=power)
        for on_end in list(process.answers.values()):
            on_end("unknown", None)

    def boot_later(self, machine: SimulatedMachine, delay: float) -> None:
        """Its supervisor may say first that the process before has ended."""
        if self.records_deaths and machine.node_id and self.random.random() < 0.5:
            store = self.store.client(self.supervisor_loop)
            work = record_death(store, self.keys, machine.node_id)
            recorded = self.supervisor_loop.spawn(work, "a death is recorded")
            recorded.add_done_callback(lambda _: self.timeline.after(delay, self.boot, machine))
        else:
            self.timeline.after(delay, self.boot, machine)

    # -- the coordinator ---------------------------------------------------------------------------

    def start_coordinator(self) -> None:
        self.coordinator = None
        self.coordinator_loop = self.new_loop(COORDINATOR)
        self.coordinator_loop.begin(self._coordinate(), COORDINATOR)

    def kill_coordinator(self) -> None:
        """Another one begins at once."""
        self.tell("the coordinator is killed")
        self.coordinator_loop.kill()
        self.start_coordinator()

    async def _coordinate(self) -> None:
        store = self.store.client(self.coordinator_loop)
        while True:
            try:
                key = CREDENTIALS.access_key, CREDENTIALS.secret_key
                await create_cluster(store, self.token, self.replicas, DEPTH, *key)
                break
            except StoreUnavailable:
                await asyncio.sleep(STORE_AGAIN_S)
        address, nodes = f"{COORDINATOR}:1", len(self.machines)
        config = CoordinatorConfig(
            self.token, STORE_ADDRESS, "embedded", address, "1.0", nodes_expected=nodes
        )
        coordinator = Coordinator(store, config)
        await coordinator.start()
        self.coordinator = coordinator

    async def join(self, loop: VirtualLoop, request: JoinRequest) -> JoinAnswer:
        """What the coordinator answers to a node that asks to be let in, until it does."""
        while True:
            coordinator, there = self.coordinator, self.coordinator_loop
            try:
                if coordinator is not None:
                    async with asyncio.timeout(JOIN_S):
                        joined = await self.elsewhere(loop, there, coordinator.join(request))
                    return JoinAnswer(joined.node, joined.region, joined.store)
            except (StoreUnavailable, TimeoutError):
                pass
            except JoinRefused as error:
                if not error.passes:
                    raise
            await asyncio.sleep(JOIN_RETRY_S)

    async def elsewhere(
        self, here: VirtualLoop, there: VirtualLoop, work: Coroutine[Any, Any, T]
    ) -> T:
        """`work` in another process; its answer comes after a while."""
        answer: asyncio.Future[T] = here.create_future()

        def done(task: asyncio.Task[T]) -> None:
            self.timeline.after(self.network.delay(), here.call_soon, _copy, task, answer)

        def begin() -> None:
            there.create_task(work).add_done_callback(done)

        self.timeline.after(self.network.delay(), there.call_soon, begin)
        return await answer

    # -- what is seen ------------------------------------------------------------------------------

    def _on_change(self, change: Change) -> None:
        self.invariants.on_change(change)

    def tell(self, what: str) -> None:
        self.story.append(f"{self.timeline.time:9.4f} {what}")

    def fail(self, what: str) -> None:
        """The run is over, also where the caller is inside of a node, which catches its bugs."""
        self.tell(what)
        self.timeline.failures.append(what)
        raise Violation(what)


def _copy(task: asyncio.Task[T], answer: asyncio.Future[T]) -> None:
    error = task.exception()
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
