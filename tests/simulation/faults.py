"""What goes wrong in a run, how often, and how all of it is healed. Decided by the world's seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.simulation.model.node_disk import is_damaged, key_hash
from tests.simulation.model.simulated_copies import is_readable
from tests.simulation.model.simulated_front_doors import DEPTH_MAX, KEYS, route
from tests.simulation.model.simulated_node import Process
from tests.simulation.model.world import World

from octad.sharding.ids import NodeId, ShardId
from octad.storage_node.replication.reconfiguration import Plan

LOSSES = 0.3  # The share of runs in which all copies of a shard may be lost.
DAMAGED_INDEXES = 0.25  # The share of runs in which indexes are damaged.


class Faults:
    """Each run has its own mixture: some kinds often, most not at all (swarm testing)."""

    def __init__(self, world: World) -> None:
        self.world = world
        random = world.random
        self.over = False
        kinds: list[tuple[Callable[[], None], float]] = [
            (self.crash, 1.0),
            (self.pause, 1.0),
            (self.wipe, 0.3),
            (self.cut_pair, 1.0),
            (self.cut_one_way, 0.7),
            (self.isolate, 0.6),
            (self.cut_from_store, 1.2),
            (self.store_down, 0.4),
            (self.clog, 0.6),
            (self.slow_disk, 0.4),
            (self.full_disk, 0.2),
            (self.sync_error, 0.3),
            (self.damage_journal, 0.3),
            (self.flip, 0.6),
            (self.plan, 1.0),
            (self.split, 1.2),
            (self.store_slow, 0.3),
            (self.flush, 1.0),
        ]
        self.kinds = [(kind, weight) for kind, weight in kinds if random.random() < 0.55]
        if Random(f"losses {world.seed}").random() < LOSSES:
            world.after(1.0, self.lose)
        self._index_random = Random(f"indexes {world.seed}")
        if self._index_random.random() < DAMAGED_INDEXES:
            world.after(1.0, self.damage_index)
        world.operator.start(self._others_are_whole)
        self.pause_s = random.choice([0.15, 0.6, 1.2])
        if random.random() < 0.4:
            world.loss = random.choice([0.01, 0.05])
        if random.random() < 0.4:
            world.duplication = random.choice([0.02, 0.1])
        if random.random() < 0.4:
            world.store.late = random.choice([0.1, 0.5])
        if random.random() < 0.4:
            world.store.lagging = random.choice([0.1, 0.5])
        if random.random() < 0.3:
            world.store.lossy = random.choice([0.1, 0.4])
        if self.kinds:
            world.after(0.5, self.next)

    def next(self) -> None:
        if self.over:
            return
        random = self.world.random
        kinds = [kind for kind, _ in self.kinds]
        kind = random.choices(kinds, [weight for _, weight in self.kinds])[0]
        self.world.faults[kind.__name__] += 1
        kind()
        self.world.after(random.random() * 2 * self.pause_s, self.next)

    def _for_a_while(self, what: Callable[[], None], longest: float = 5.0) -> None:
        random = self.world.random
        self.world.after(random.random() ** 2 * longest, what)

    def _any_running(self) -> NodeId | None:
        running = [process.id for process in self.world.processes()]
        return self.world.random.choice(running) if running else None

    # -- kinds ---------------------------------------------------------------------------------

    def crash(self) -> None:
        node = self._any_running()
        if node is not None:
            self.world.crash(node)
            self._for_a_while(lambda: self._boot(node))

    def _boot(self, node: NodeId) -> None:
        if self.world.running[node] is None and node not in self.world.operator.away:
            self.world.boot(node)

    def wipe(self) -> None:
        """A disk is lost; never the last that has everything, else nothing could be asked.

        Nor while another full member has damage: the one without may leave before it is repaired.
        """
        node = self._any_running()
        if node is None or not self._others_are_whole(node, damage_counts=True):
            return
        self.world.crash(node)
        self.world.wipe(node)
        self._for_a_while(lambda: self._boot(node))

    def lose(self) -> None:
        """All full copies of a shard are gone for good: an operator takes an older one."""
        if not self.over:
            if self.world.operator.lose():
                self.world.faults["lose"] += 1
            self.world.after(0.1, self.lose)

    def damage_index(self) -> None:
        """One is damaged, found, made anew from the journal; then the node goes on with that."""
        if self.over:
            return
        random, world = self._index_random, self.world
        process = world.running[random.choice(world.nodes)]
        if process is not None and process.fenced:
            process.when_awake(self._lose_rows, process)
        world.after(random.random() * 2.0, self.damage_index)

    def _lose_rows(self, process: Process) -> None:
        random, world = self._index_random, self.world
        if self.over or process.rowless:
            return
        world.faults["damage_index"] += 1
        world.tell(f"the index of n{process.id} is damaged")
        process.lose_rows()
        if random.random() < 0.5:
            world.after(random.random() * 3.0, process.when_awake, process.regain_rows)
        else:
            world.after(random.random() * 3.0, self._begin_with_new_index, process)

    def _begin_with_new_index(self, process: Process) -> None:
        if process.running:
            process.disk.flush()
            self.world.crash(process.id)
            self.world.after(0.05, self._boot, process.id)

    def _others_are_whole(self, node: NodeId, *, damage_counts: bool = False) -> bool:
        """Whether each shard has a full member besides `node` that can read all of it.

        Where `damage_counts`, all of them can. An operator who waits for that may wait for ever: no
        one repairs a copy that is void, or that a node kept of a shard which moved away.
        """
        world = self.world
        for shard, configuration in world.store.configurations.items():
            if any(
                replica.swaps.pending is not None
                for process in world.processes()
                if (replica := process.replicas.get(shard)) is not None
            ):
                return False
            full = [
                world.disks[member.node]
                for member in configuration.members
                if member.node != node
                and member.base == 0
                and world.disks[member.node].incarnation == member.incarnation
                and member.node not in world.operator.away
            ]
            sound = [disk for disk in full if disk.is_sound(shard, configuration.depth)]
            if not sound or world.store.late or (damage_counts and sound != full):
                return False
        return True

    def pause(self) -> None:
        process = self.world.running.get(self._any_running() or NodeId(0))
        if process is not None:
            length = self.world.random.random() ** 2 * 5.0
            process.paused_until = max(process.paused_until, self.world.time + length)
            self.world.tell(f"n{process.id} is paused for {length:.2f} s")

    def cut_pair(self) -> None:
        a, b = self.world.random.sample(self.world.nodes, 2)
        self._cut({(a, b), (b, a)})

    def cut_one_way(self) -> None:
        a, b = self.world.random.sample(self.world.nodes, 2)
        self._cut({(a, b)})

    def isolate(self) -> None:
        node = self.world.random.choice(self.world.nodes)
        others = [other for other in self.world.nodes if other != node]
        self._cut({(node, o) for o in others} | {(o, node) for o in others})

    def _cut(self, links: set[tuple[NodeId, NodeId]]) -> None:
        self.world.tell("cut: " + ", ".join(f"n{a}→n{b}" for a, b in sorted(links)))
        self.world.cuts |= links
        self._for_a_while(lambda: self._heal(links))

    def _heal(self, links: set[tuple[NodeId, NodeId]]) -> None:
        self.world.tell("healed: " + ", ".join(f"n{a}→n{b}" for a, b in sorted(links)))
        self.world.cuts -= links

    def cut_from_store(self) -> None:
        node = self.world.random.choice(self.world.nodes)
        self.world.tell(f"n{node} is cut off from the store")
        self.world.store.cut.add(node)
        self._for_a_while(lambda: self.world.store.cut.discard(node))

    def store_down(self) -> None:
        self.world.tell("the store is down")
        self.world.store.down = True
        self._for_a_while(self._store_up, 4.0)

    def _store_up(self) -> None:
        self.world.store.down = False

    def store_slow(self) -> None:
        self.world.store.slow_s = self.world.random.choice([0.3, 2.0])
        self._for_a_while(lambda: setattr(self.world.store, "slow_s", 0.0))

    def clog(self) -> None:
        a, b = self.world.random.sample(self.world.nodes, 2)
        self.world.clogs[a, b] = self.world.random.random() * 1.5
        self._for_a_while(lambda: self._unclog(a, b))

    def _unclog(self, a: NodeId, b: NodeId) -> None:
        self.world.clogs.pop((a, b), None)

    def slow_disk(self) -> None:
        disk = self.world.disks[self.world.random.choice(self.world.nodes)]
        disk.slow = self.world.random.choice([20.0, 300.0])
        self._for_a_while(lambda: setattr(disk, "slow", 1.0))

    def full_disk(self) -> None:
        disk = self.world.disks[self.world.random.choice(self.world.nodes)]
        disk.full = True
        self._for_a_while(lambda: setattr(disk, "full", False))

    def sync_error(self) -> None:
        self.world.disks[self.world.random.choice(self.world.nodes)].failing = True

    def damage_journal(self) -> None:
        """A synced record cannot be read any more, as the next restart finds out."""
        node = self._any_running()
        if node is None or not self._others_are_whole(node, damage_counts=True):
            return
        disk = self.world.disks[node]
        if disk.synced:
            self.world.tell(f"a record in the journal of n{node} is damaged")
            disk.damaged = disk.journal[self.world.random.randrange(disk.synced)]
            self.world.crash(node)
            self._for_a_while(lambda: self._boot(node))

    def flip(self) -> None:
        """Bytes of a value that other members have, too, and have on disk.

        A repair counts from the next flush of the index on: until then a crash brings the damage
        back, here as in a node, whose replay passes over repaired records.
        """
        world = self.world
        if world.operator.away:
            return
        node = world.random.choice(world.nodes)
        disk = world.disks[node]
        for key in world.random.sample(KEYS, 2):
            shard = route(world.store.configurations, key)
            row = disk.rows.get(key)
            if shard is None or row is None or row[1] is None or disk.is_flipped(key):
                continue
            full = [
                member.node
                for member in world.store.configurations[shard].members
                if not member.base
            ]
            others = [world.disks[other] for other in full if other != node]
            sound = [
                other.damaged is None
                and other.rows.get(key) == row
                and not is_damaged(other.flushed_rows.get(key))
                for other in others
            ]
            if sound and all(sound):
                world.tell(f"key {key!r} is damaged at n{node}")
                disk.flip(key)

    def flush(self) -> None:
        node = self._any_running()
        if node is not None:
            self.world.disks[node].flush()

    def plan(self) -> None:
        """Other members, or another primary, for a shard."""
        world = self.world
        shard = world.random.choice(list(world.store.configurations))
        members = world.random.sample(world.nodes, world.strength.replicas)
        configuration = world.store.configurations[shard]
        if any(configuration.has_given_up(node, world.registered[node]) for node in members):
            return
        depth = configuration.depth
        self._set_plan(shard, Plan(tuple(members), world.random.choice(members), depth))

    def split(self) -> None:
        """A shard in two, with whoever is in its configuration now."""
        world = self.world
        shard = world.random.choice(list(world.store.configurations))
        configuration = world.store.configurations[shard]
        members = tuple(member.node for member in configuration.members)
        if configuration.depth < DEPTH_MAX and len(members) == world.strength.replicas:
            self._set_plan(shard, Plan(members, configuration.primary, configuration.depth + 1))

    def _set_plan(self, shard: ShardId, plan: Plan) -> None:
        self.world.tell(f"plan for {shard}: {list(plan.members)}, primary n{plan.primary}, "
                        f"depth {plan.depth}")  # fmt: skip
        self.world.plans[shard] = plan
        for process in self.world.processes():
            if shard in process.replicas:
                process.replicas[shard].on_plan(plan)

    # -- the end -------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything works from now on."""
        world = self.world
        self.over = True
        world.tell("everything is healed")
        world.loss = world.duplication = 0.0
        world.store.late = world.store.lagging = world.store.lossy = world.store.slow_s = 0.0
        world.store.down = False
        world.store.cut.clear()
        world.cuts.clear()
        world.clogs.clear()
        world.plans.clear()
        for disk in world.disks.values():
            disk.full, disk.slow, disk.failing = False, 1.0, False
        for node in world.nodes:
            process = world.running[node]
            if process is None:
                self._boot(node)
                continue
            process.paused_until = world.time
            for replica in process.replicas.values():
                replica.on_plan(None)
        self._coordinate()

    def _coordinate(self) -> None:
        """As the coordinator would: shards with more members than they should have lose some."""
        world = self.world
        for shard, configuration in world.store.configurations.items():
            nodes = [member.node for member in configuration.members]
            if len(nodes) > world.strength.replicas and shard not in world.plans:
                nodes.remove(configuration.primary)
                members = (configuration.primary, *nodes[: world.strength.replicas - 1])
                self._set_plan(shard, Plan(members, configuration.primary, configuration.depth))
        for process in world.processes():
            for replica in process.replicas.values():
                for key in process.disk.rows:  # As a scrub would find it.
                    if replica.covers(key_hash(key)):
                        is_readable(process, replica, key)
        world.after(1.0, self._coordinate)
