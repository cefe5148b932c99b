"""A stage for directed traces: one shard on a few nodes, of which only what is told happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation.model.simulated_front_doors import KEYS
from tests.simulation.model.simulated_node import Process
from tests.simulation.model.world import World

from octad.chaos.check.linearizability import ANY, INFINITE, Done
from octad.sharding.ids import NodeId, ShardId
from octad.sharding.limits import BOOT_PATIENCE_S
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_state import Strength

SHARD, HALF = ShardId(0), ShardId(2)
KEY, OTHER_KEY = KEYS[0], KEYS[4]  # These are in one half after a split.
HALF_KEY = KEYS[2]  # This is in the other half.
A, B, C, D = NodeId(1), NodeId(2), NodeId(3), NodeId(4)


Message = tuple[Any, ...]


class Stage:
    """One shard on nodes A, B, C… with A as primary, and nothing that happens by itself."""

    def __init__(self, *, nodes: int = 4, replicas: int = 3, min_copies: int = 1) -> None:
        self.world = World(7, nodes=nodes, replicas=replicas, shards=1)
        self.world.strength = Strength(replicas, min_copies)
        for process in self.world.processes():
            for replica in process.replicas.values():
                replica.on_strength(self.world.strength)
        self.world.run_until(1.0)
        for process in self.world.processes():
            process.leases.booted_at -= BOOT_PATIENCE_S  # They are no beginners any more.

    def process(self, node: NodeId) -> Process:
        process = self.world.running[node]
        assert process is not None
        return process

    def replica(self, node: NodeId) -> ShardReplica:
        return self.process(node).replicas[SHARD]

    def run(self, seconds: float) -> None:
        self.world.run_until(self.world.time + seconds)

    def write(
        self, at: NodeId, value: str | None, if_match: str | None = ANY, key: bytes = KEY
    ) -> Done:
        return self.world.clients.request(-1, self.process(at), key, True, value, if_match)

    def written(self, at: NodeId, value: str | None, key: bytes = KEY) -> None:
        """The write is acknowledged."""
        done = self.write(at, value, key=key)
        self.run(0.1)
        assert done.returned != INFINITE, f"{value} is not acknowledged"

    def read(self, at: NodeId, key: bytes = KEY, shard: ShardId = SHARD) -> Done | None:
        """By that node alone, if it believes that it may."""
        process = self.process(at)
        if shard not in process.replicas:
            return None
        done = self.world.clients.read_at(process, process.replicas[shard], key)
        self.run(0.01)
        return done

    def plan(self, plan: Plan, shard: ShardId = SHARD) -> None:
        self.world.plans[shard] = plan
        for process in self.world.processes():
            if shard in process.replicas:
                process.replicas[shard].on_plan(plan)

    def until(self, what: Callable[[], bool], expected: str, step: float = 0.01) -> None:
        """Run until that is so, which is soon."""
        end = self.world.time + 10.0
        while not what():
            self.run(step)
            assert self.world.time < end, expected

    def keep(self, node: NodeId, kind: str, *, deliver: bool) -> list[tuple[NodeId, Message]]:
        """The messages of this kind that `node` gets from now on; it sees them only if told so."""
        process, kept = self.process(node), list[tuple[NodeId, Message]]()
        receive = process.receive

        def receive_or_keep(sender: NodeId, message: Message) -> None:
            if message[0] == kind:
                kept.append((sender, message))
            if message[0] != kind or deliver:
                receive(sender, message)

        process.receive = receive_or_keep  # type: ignore[method-assign]
        return kept

    def deliver(self, node: NodeId, kept: tuple[NodeId, Message]) -> None:
        """What was kept from it."""
        process = self.process(node)
        type(process).receive(process, *kept)

    def try_again(self, at: NodeId) -> None:
        """The last write, by its client, through another front door."""
        invocation = self.world.clients.last
        assert invocation is not None
        self.world.clients.try_at(self.process(at), invocation)

    def configuration(self, shard: ShardId = SHARD) -> ShardConfiguration:
        return self.world.store.configurations[shard]

    def is_full(self, node: NodeId) -> bool:
        member = self.configuration().member(node)
        return member is not None and member.base == 0

    def cut(self, *links: tuple[NodeId, NodeId]) -> None:
        for a, b in links:
            self.world.cuts |= {(a, b), (b, a)}

    def heal(self, *links: tuple[NodeId, NodeId]) -> None:
        for a, b in links:
            self.world.cuts -= {(a, b), (b, a)}

    def cut_from_store(self, *nodes: NodeId) -> None:
        self.world.store.cut |= set(nodes)

    def check(self) -> None:
        self.world.check_leases()
        self.world.clients.check_histories()
