"""What goes wrong in a run, how often, and how all of it is healed. Decided by the run's seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from octad.coordinator.placement.placement_requests import PlanRefused
from octad.coordinator.schema.placement_messages import PlanRequest
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.store.interface import StoreUnavailable
from octad.sharding.ids import node_name
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.operations.registry import FORMAT_LEVEL

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.machine import SimulatedMachine
    from tests.simulation.cluster.world import World

DEPTH_MAX = 3
REPLACED_AGAIN_S = 0.2

KINDS = {
    "kill": 1.0,
    "power_cut": 0.6,
    "all_lose_power": 0.1,
    "pause": 1.0,
    "stop": 0.5,
    "wipe": 0.25,
    "cut_pair": 1.0,
    "cut_one_way": 0.7,
    "isolate": 0.6,
    "reset": 0.5,
    "clog": 0.6,
    "cut_from_store": 1.0,
    "store_down": 0.4,
    "store_slow": 0.3,
    "store_late": 0.1,
    "store_lagging": 0.1,
    "store_breaking": 0.1,
    "store_compacts": 0.3,
    "kill_coordinator": 0.3,
    "slow_disk": 0.4,
    "full_disk": 0.2,
    "sync_error": 0.3,
    "flush": 0.6,
    "upgrade": 0.3,
    "damage_record": 1.0,
    "damage_journal": 0.2,
    "damage_index": 0.4,
    "no_more_files": 0.3,
    "no_memory": 0.3,
    "split": 0.6,
    "rebalance": 0.3,
    "drain": 0.3,
    "add": 0.3,
    "revert": 0.2,
    "replace_disks": 0.1,
}
"""How often each comes, beside the others of its run."""

LOSES = "lose_last_copy"
KINDS_OF_LOSS = {
    LOSES: 1.5,
    "kill": 1.0,
    "power_cut": 0.5,
    "stop": 0.5,
    "wipe": 0.3,
    "pause": 0.5,
    "flush": 0.6,
    "cut_pair": 0.5,
    "isolate": 0.3,
    "split": 0.2,
    "rebalance": 0.1,
}
"""Those of runs in which what was acknowledged may be lost, since whoever has it is."""


class Faults:
    """Of one run: of these `kinds`. Decided by a source of its own."""

    def __init__(self, world: World, kinds: Sequence[str]) -> None:
        self.world = world
        self.timeline = world.timeline
        self.random = Random(f"faults {world.timeline.seed}")
        self.over = False
        self.kinds = kinds
        self.weights = KINDS_OF_LOSS if LOSES in kinds else KINDS
        self._to_replace: list[SimulatedMachine] = []
        self.pause_s = self.random.choice([0.15, 0.6, 1.2])
        if kinds:
            self.timeline.after(0.5, self._next)

    def _next(self) -> None:
        if self.over:
            return
        kind = self.random.choices(self.kinds, [self.weights[kind] for kind in self.kinds])[0]
        self.world.faults[kind] += 1
        getattr(self, kind)()
        self.timeline.after(self.random.random() * 2 * self.pause_s, self._next)

    def _for_a_while(self, what: Callable[[], None], longest: float = 5.0) -> None:
        self.timeline.after(self.random.random() ** 2 * longest, what)

    def _any_running(self) -> SimulatedMachine | None:
        running = [process.machine for process in self.world.processes()]
        return self.random.choice(running) if running else None

    def _while_down_s(self) -> float:
        return self.random.random() ** 2 * 5.0

    # -- processes and machines ------------------------------------------------------------------

    def kill(self) -> None:
        if (machine := self._any_running()) is not None:
            self.world.kill(machine, power=False)
            self.world.boot_later(machine, self._while_down_s())

    def power_cut(self) -> None:
        if (machine := self._any_running()) is not None:
            self.world.kill(machine, power=True)
            self.world.boot_later(machine, self._while_down_s())

    def all_lose_power(self) -> None:
        for process in self.world.processes():
            self.world.kill(process.machine, power=True)
            self.world.boot_later(process.machine, self.random.random())

    def pause(self) -> None:
        if (machine := self._any_running()) is not None:
            assert machine.process is not None
            seconds = self.random.random() ** 2 * 5.0
            self.world.tell(f"{machine.process} is paused for {seconds:.2f} s")
            machine.process.loop.pause(seconds)

    def stop(self) -> None:
        if (machine := self._any_running()) is not None:
            assert machine.process is not None
            self.world.tell(f"{machine.process} is stopped")
            machine.process.stop()

    def wipe(self) -> None:
        """A disk is lost; never the last that has everything, else nothing could be asked."""
        machine = self._any_running()
        if machine is not None:
            self._wipe(machine)

    def _wipe(self, machine: SimulatedMachine) -> bool:
        """Returns whether its disk could be spared."""
        if not self.world.may_lose(machine):
            return False
        self.world.kill(machine, power=True)
        self.world.tell(f"{machine.host} gets a new disk")
        machine.new_disk()
        self.timeline.after(self._while_down_s(), self.world.boot, machine)
        return True

    def replace_disks(self) -> None:
        """Of all machines, one after the other, as soon as all is at full strength again."""
        if not self._to_replace:
            self.world.tell("all disks are to be replaced")
            self._to_replace = list(self.world.machines)
            self._replace_disks()

    def _replace_disks(self) -> None:
        if self.over or not self._to_replace:
            return
        machine = self._to_replace[0]
        running, whole = machine.process is not None, self.world.is_at_full_strength()
        if running and whole and self._wipe(machine):
            del self._to_replace[0]
            self.world.faults["disk_replaced"] += 1
        self.timeline.after(REPLACED_AGAIN_S, self._replace_disks)

    def lose_last_copy(self) -> None:
        """What is lost then, an operator recovers by force."""
        self.world.operator.lose()

    def upgrade(self) -> None:
        """A node of the version before starts again with the present one."""
        older = [each for each in self.world.machines if each.format_level < FORMAT_LEVEL]
        if older:
            self._upgrade(self.random.choice(older))

    def _upgrade(self, machine: SimulatedMachine) -> None:
        self.world.tell(f"{machine.host} is upgraded")
        machine.format_level = FORMAT_LEVEL
        if machine.process is not None:
            machine.process.stop()

    def kill_coordinator(self) -> None:
        self.world.kill_coordinator()

    # -- network ---------------------------------------------------------------------------------

    def cut_pair(self) -> None:
        a, b = self._two_hosts()
        self._cut({(a, b), (b, a)})

    def cut_one_way(self) -> None:
        self._cut({self._two_hosts()})

    def isolate(self) -> None:
        host = self._a_host()
        others = [machine.host for machine in self.world.machines if machine.host != host]
        self._cut({(host, each) for each in others} | {(each, host) for each in others})

    def _cut(self, links: set[tuple[str, str]]) -> None:
        network = self.world.network
        self.world.tell("cut: " + " ".join(f"{a}→{b}" for a, b in sorted(links)))
        network.cuts |= links
        self._for_a_while(lambda: network.cuts.difference_update(links))

    def reset(self) -> None:
        self.world.network.reset(*self._two_hosts())

    def clog(self) -> None:
        link, network = self._two_hosts(), self.world.network
        network.clogs[link] = self.random.random() * 1.5
        self._for_a_while(lambda: network.unclog(link))

    def _two_hosts(self) -> tuple[str, str]:
        a, b = self.random.sample(self.world.machines, 2)
        return a.host, b.host

    def _a_host(self) -> str:
        return self.random.choice(self.world.machines).host

    # -- the store -------------------------------------------------------------------------------

    def cut_from_store(self) -> None:
        host, store = self._a_host(), self.world.store
        self.world.tell(f"{host} is cut off from the store")
        store.cut.add(host)
        self._for_a_while(lambda: store.cut.discard(host))

    def store_down(self) -> None:
        self.world.tell("the store is down")
        self.world.store.down = True
        self._for_a_while(lambda: setattr(self.world.store, "down", False), 4.0)

    def store_slow(self) -> None:
        self.world.store.slow_s = self.random.choice([0.3, 2.0])
        self._for_a_while(lambda: setattr(self.world.store, "slow_s", 0.0))

    def store_late(self) -> None:
        """Transactions land late from now on."""
        self.world.store.late = self.random.choice([0.1, 0.5])

    def store_lagging(self) -> None:
        self.world.store.lagging = self.random.choice([0.1, 0.5])

    def store_breaking(self) -> None:
        self.world.store.breaking = self.random.choice([0.1, 0.4])

    def store_compacts(self) -> None:
        self.world.store.compact()

    # -- disks -----------------------------------------------------------------------------------

    def slow_disk(self) -> None:
        machine = self.random.choice(self.world.machines)
        machine.disk.slowness = self.random.choice([20.0, 300.0])
        self._for_a_while(lambda: setattr(machine.disk, "slowness", 1.0))

    def full_disk(self) -> None:
        machine = self.random.choice(self.world.machines)
        self.world.tell(f"the disk of {machine.host} is full")
        machine.disk.is_full = True
        self._for_a_while(lambda: setattr(machine.disk, "is_full", False))

    def sync_error(self) -> None:
        machine = self.random.choice(self.world.machines)
        self.world.tell(f"a sync at {machine.host} is to fail")
        machine.disk.fails_syncs = True

    def no_more_files(self) -> None:
        """The process has as many open as it may."""
        machine = self.random.choice(self.world.machines)
        self.world.tell(f"no more files can be opened at {machine.host}")
        machine.disk.refuses_to_open = True
        self._for_a_while(lambda: setattr(machine.disk, "refuses_to_open", False), 2.0)

    def no_memory(self) -> None:
        """Bodies have taken all that a node has for them."""
        process = self.world.any_serving(self.random)
        if process is None or process.parts is None:
            return
        self.world.tell(f"{process} has no memory for bodies")
        for gate in (process.parts.objects.budget.small, process.parts.objects.budget.large):
            free = gate.share.bytes_max - gate.share.used
            if free and gate.share.take(free):
                self._for_a_while(partial(process.call_soon, gate.give_back, free))

    def damage_record(self) -> None:
        self.world.damage.flip_record(self.random)

    def damage_journal(self) -> None:
        self.world.damage.damage_journal(self.random)

    def damage_index(self) -> None:
        self.world.damage.damage_index(self.random)

    def flush(self) -> None:
        """The index is flushed, as it is now and then."""
        machine = self._any_running()
        if machine is not None and machine.process is not None and machine.process.is_serving:
            assert machine.process.parts is not None
            index = machine.process.parts.engine.index
            if index.damage is None and index.failure is None:
                machine.process.loop.spawn(_flushed(index), "a flush")

    # -- administration --------------------------------------------------------------------------

    def split(self) -> None:
        """The pool's shards are split once more."""
        self.administrate("split", PlanRequest(pool=0))

    def rebalance(self) -> None:
        self.administrate("rebalance", PlanRequest())

    def drain(self) -> None:
        """A node is emptied; refused where the others are too few."""
        self.administrate("drain", PlanRequest(nodes=(self._a_node(),)))

    def add(self) -> None:
        """A node that was drained takes data again."""
        self.administrate("add", PlanRequest(nodes=(self._a_node(),)))

    def revert(self) -> None:
        """What is under way is taken back."""
        self.administrate("revert", PlanRequest())

    def _a_node(self) -> str:
        return node_name(self.random.choice(self.world.machines).node_id)

    def administrate(self, action: str, request: PlanRequest) -> None:
        """A verb of an operator, who does not care how it ends."""
        world, coordinator = self.world, self.world.coordinator
        depth = max((each.depth for each in world.invariants.configurations.values()), default=0)
        if coordinator is None or (action == "split" and depth >= DEPTH_MAX):
            return
        world.tell(f"an operator asks to {action}")
        world.coordinator_loop.spawn(self._ask(coordinator, action, request), action)

    async def _ask(self, coordinator: Coordinator, action: str, request: PlanRequest) -> None:
        try:
            await coordinator.placement.ask(action, request)
        except (PlanRefused, StoreUnavailable) as error:
            self.world.tell(f"{action} is refused: {error}")

    # -- the end ---------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything works from now on."""
        world, store = self.world, self.world.store
        self.over = True
        world.tell("everything is healed")
        store.late = store.lagging = store.breaking = store.slow_s = 0.0
        store.down = False
        store.cut.clear()
        world.network.cuts.clear()
        world.network.clogs.clear()
        for machine in world.machines:
            machine.disk.is_full, machine.disk.slowness = False, 1.0
            machine.disk.fails_syncs = machine.disk.refuses_to_open = False
            if machine.process is not None:
                machine.process.loop.paused_until = world.timeline.time
            if machine.format_level < FORMAT_LEVEL:
                self._upgrade(machine)


async def _flushed(index: CountedIndex) -> None:
    """What damage a flush meets, the index tells its node itself."""
    with suppress(IndexDamage):
        await index.flush_in_thread()
