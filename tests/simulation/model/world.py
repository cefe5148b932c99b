"""The simulated cluster: virtual time, network, nodes, and the invariants checked at every step.

One seed decides everything. `run_seed` is what the command line and the tests call.
"""

from __future__ import annotations

import heapq
from collections import Counter
from random import Random
from typing import Any

from tests.simulation.model.node_disk import NodeDisk
from tests.simulation.model.simulated_clients import Clients
from tests.simulation.model.simulated_front_doors import DEPTH, KEYS
from tests.simulation.model.simulated_node import Process
from tests.simulation.model.simulated_operator import Operator
from tests.simulation.model.simulated_store import Store

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.limits import CLOCK_DRIFT_MAX
from octad.sharding.map.shard_map import Member, ShardConfiguration
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_state import Strength
from octad.storage_node.replication.shard_log import Entry

STORY_LINES = 400
STEPS_MAX = 60_000  # A run takes about ten thousand.


class Violation(AssertionError):
    """An invariant does not hold: the message ends with the story so far."""


class World:
    """See the module."""

    def __init__(self, seed: int, *, nodes: int, replicas: int, shards: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.time = 0.0
        self.steps = 0
        self.story: list[str] = []
        self._heap: list[tuple[float, int, Any, tuple[Any, ...]]] = []
        self._number = 0
        self.strength = Strength(replicas, 2 if replicas == 3 else 1)
        self.nodes = [NodeId(number + 1) for number in range(nodes)]
        self._clocks = {
            node: (
                self.random.random() * 1000,
                1 + (self.random.random() * 2 - 1) * CLOCK_DRIFT_MAX,
            )
            for node in self.nodes
        }
        self.disks = {node: NodeDisk(f"n{node}/1", self.random) for node in self.nodes}
        self.registered = {node: self.disks[node].incarnation for node in self.nodes}
        self.alive = set(self.nodes)
        self.running: dict[NodeId, Process | None] = dict.fromkeys(self.nodes)
        self.plans: dict[ShardId, Plan] = {}
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        self.clogs: dict[tuple[NodeId, NodeId], float] = {}
        self.loss = self.duplication = 0.0
        self.upgrading = self.random.random() < 0.5  # Nodes restart with a newer version.
        self.faults: Counter[str] = Counter()
        self.splits = self.repaired = self.sync_errors = self.damaged_journals = 0
        self.store = Store(self)
        self.committed: dict[tuple[ShardId, Seq], tuple[Epoch, bytes]] = {}
        self.committed_upto: dict[ShardId, Seq] = {}  # By a primary: it may have answered.
        self.epochs: dict[tuple[Process, ShardId], Epoch] = {}
        self.led: dict[Process, tuple[int, dict[ShardId, Epoch]]] = {}  # At which tick.
        self.clients = Clients(self)
        self.operator = Operator(self)
        for number in range(shards):
            first = number % nodes
            chosen = [self.nodes[(first + place) % nodes] for place in range(replicas)]
            members = tuple(Member(node, self.registered[node]) for node in chosen)
            configuration = ShardConfiguration(Epoch(1), DEPTH, chosen[0], members)
            self.store.create(ShardId(number), configuration)
        for node in self.nodes:
            self.boot(node)

    # -- time ----------------------------------------------------------------------------------

    def at(self, time: float, what: Any, *args: Any) -> None:
        self._number += 1
        heapq.heappush(self._heap, (time, self._number, what, args))

    def after(self, delay: float, what: Any, *args: Any) -> None:
        self._number += 1
        heapq.heappush(self._heap, (self.time + delay, self._number, what, args))

    def run_until(self, end: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.time, _, what, args = heapq.heappop(heap)
            self.steps += 1
            what(*args)
            if self.steps > STEPS_MAX:
                self.fail(f"{STEPS_MAX} steps: messages go round in circles")
        self.time = end

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def clock(self, node: NodeId) -> float:
        """What `node`'s monotonic clock shows: any origin, and a little fast or slow."""
        offset, rate = self._clocks[node]
        return offset + rate * self.time

    # -- network -------------------------------------------------------------------------------

    def send(self, sender: NodeId, receiver: NodeId, message: tuple[Any, ...]) -> None:
        link = (sender, receiver)
        if link in self.cuts:
            return
        random = self.random.random
        if self.loss and random() < self.loss:
            return
        delay = 0.0002 + random() * 0.0015
        if self.clogs:
            delay += self.clogs.get(link, 0.0) * random()
        self.after(delay, self._deliver, link, message)
        if self.duplication and random() < self.duplication:
            self.after(delay + random() * 0.5, self._deliver, link, message)

    def _deliver(self, link: tuple[NodeId, NodeId], message: tuple[Any, ...]) -> None:
        process = self.running[link[1]]
        if process is None or link in self.cuts:
            return
        if process.paused_until > self.time:
            self.at(process.paused_until, self._deliver, link, message)
            return
        process.receive(link[0], message)

    # -- nodes ---------------------------------------------------------------------------------

    def processes(self) -> list[Process]:
        return [process for process in self.running.values() if process is not None]

    def boot(self, node: NodeId) -> None:
        self.tell(f"n{node} boots")
        if not self.disks[node].is_whole():
            self.damaged_journals += 1
            self.wipe(node)  # What it has lost, it does not know: another incarnation (rule R14).
        disk = self.disks[node]
        self.registered[node] = disk.incarnation
        self.alive.add(node)
        process = self.running[node] = Process(self, node, disk, self.next_number())
        process.start()

    def crash(self, node: NodeId) -> None:
        process = self.running[node]
        assert process is not None
        self.tell(f"n{node} crashes")
        process.running = False
        self.running[node] = None
        self.disks[node].crash()
        self.after(self.random.random(), self._notice_death, node)

    def is_newer(self, node: NodeId) -> bool:
        """Whether the node starts with the newer version; half of all restarts, if at all."""
        return self.upgrading and self.random.random() < 0.5

    def sync_failed(self, node: NodeId) -> None:
        """EIO: what was written may be there or not. The process ends and replays the journal."""
        self.sync_errors += 1
        self.disks[node].failing = False
        self.crash(node)
        self.after(self.random.random(), self._boot_again, node)

    def _boot_again(self, node: NodeId) -> None:
        if self.running[node] is None and node not in self.operator.away:
            self.boot(node)

    def _notice_death(self, node: NodeId) -> None:
        if self.running[node] is None:
            self.alive.discard(node)

    def wipe(self, node: NodeId) -> None:
        """Only of a node that is down."""
        number = int(self.disks[node].incarnation.split("/")[1]) + 1
        self.tell(f"n{node} is wiped")
        self.disks[node] = NodeDisk(f"n{node}/{number}", self.random)

    # -- invariants ----------------------------------------------------------------------------

    def check_committed(
        self, process: Process, replica: ShardReplica, entries: tuple[Entry, ...]
    ) -> None:
        """Equal committed prefixes; epochs of a node only grow."""
        shard = replica.shard
        if self.store.configurations[shard].recovered and not process.fenced:
            return  # It replays what an operator may have given up meanwhile.
        for entry in entries:
            name = (entry.epoch, entry.metadata)
            known = self.committed.setdefault((shard, entry.seq), name)
            if replica.leading:
                known_upto = self.committed_upto.get(shard, Seq(0))
                self.committed_upto[shard] = max(known_upto, entry.seq)
                self.check_durable(process, replica, entry)
                if not self.operator.recoveries:  # Which may give up that it was refused.
                    self.clients.check_not_refused(entry)
            if known != name:
                self.fail(f"n{process.id} commits another entry {entry.seq} of {shard}: "
                          f"epoch {entry.epoch}, not {known[0]}")  # fmt: skip
            if replica.leading:
                self.operator.on_committed(process, replica, entry)
        if replica.configuration is not None:
            known_epoch = self.epochs.get((process, shard), Epoch(0))
            if replica.configuration.epoch < known_epoch:
                self.fail(
                    f"n{process.id} went back to epoch {replica.configuration.epoch} of {shard}"
                )
            self.epochs[process, shard] = replica.configuration.epoch

    def check_durable(self, process: Process, replica: ShardReplica, entry: Entry) -> None:
        """What is committed, or acknowledged, is on the disk of every member that is left."""
        stored = self.store.configurations[replica.shard]
        if stored.recovered and replica.epoch < stored.epoch:
            return  # By acknowledgements of before: what they were of may be given up meanwhile.
        configurations = [replica.configuration, stored]
        for member in {
            member
            for configuration in configurations
            if configuration is not None
            for member in configuration.members
        }:
            disk = self.disks[member.node]
            if disk.incarnation != member.incarnation or member.base > entry.seq:
                continue
            if not disk.holds(replica.shard, entry.epoch, entry.seq):
                self.fail(f"{entry.seq} of {replica.shard} is committed by n{process.id} "
                          f"and n{member.node} may lose it")  # fmt: skip

    def check_promoted(
        self, shard: ShardId, before: ShardConfiguration, configuration: ShardConfiguration
    ) -> None:
        """Whoever becomes a full member has all of history on its disk, a recruit all to come."""
        for member in configuration.members:
            old = before.member(member.node)
            if old is None and 0 < member.base <= self.committed_upto.get(shard, 0):
                self.fail(f"n{member.node} is to have everything of {shard} from {member.base} on, "
                          f"and {self.committed_upto[shard]} is committed without it")  # fmt: skip
            if member.base or (old is not None and old.base == 0):
                continue
            disk = self.disks[member.node]
            state = disk.flushed.get(shard)
            complete = state is not None and (
                state.complete_to is None or state.copied_as_of is not None
            )
            if disk.incarnation == member.incarnation and not complete:
                self.fail(f"n{member.node} is a full member of {shard} and lacks history")

    def check_leases(self) -> None:
        """At most one primary of any key may answer reads at any moment, whatever its shard is."""
        leading: dict[int, list[tuple[Process, ShardReplica]]] = {}
        for process in self.running.values():
            if process is None:
                continue
            self._check_led_together(process)
            for replica in process.replicas.values():
                if replica.leading and replica.configuration is not None:
                    step = 1 << replica.configuration.depth
                    for hash_ in range(replica.shard, len(KEYS), step):
                        leading.setdefault(hash_, []).append((process, replica))
        for hash_, several in leading.items():
            if len(several) > 1:
                names = [
                    f"n{process.id} in shard {replica.shard}"
                    for process, replica in several
                    if replica.serves() and replica.has_lease(process.now())
                ]
                if len(names) > 1:
                    self.fail(f"{names} all have a valid primary lease of hash {hash_}")

    def _check_led_together(self, process: Process) -> None:
        """What a node says of all the shards that it leads at once is so of each (rule R3)."""
        leases, now = process.leases, process.now()
        led = [each for each in process.replicas.values() if each.leading]
        epochs = {replica.shard: replica.epoch for replica in led}
        tick, known = self.led.get(process, (leases.tick, epochs))
        if tick == leases.tick and known != epochs:
            self.fail(f"n{process.id} leads {epochs}, and has not noticed that it was {known}")
        self.led[process] = leases.tick, epochs
        if leases.holds_all(now):
            for replica in led:
                past_barrier = replica.log.commit >= replica.primary.barrier
                may_list = replica.begin_list(replica.epoch, now) is not None
                if past_barrier and not replica.rowless and not may_list:
                    self.fail(f"n{process.id} lists shard {replica.shard} only with all the others")

    def tell(self, what: str) -> None:
        self.story.append(f"{self.time:9.4f} {what}")

    def fail(self, what: str) -> None:
        raise Violation("\n".join([*self.story[-STORY_LINES:], f"{self.time:9.4f} {what}"]))
