"""Directed traces: the shortest stories in which a rule is all that stands between us and a lie.

Random schedules meet these once in ten or a hundred thousand runs, so they are told by hand. Each
function plays one; with the rule in place it ends well, with the planted bug it raises Violation.
"""

from __future__ import annotations

from tests.simulation.linearizability import ANY, INFINITE, Done
from tests.simulation.simulated_clients import KEYS
from tests.simulation.simulated_node import Process
from tests.simulation.world import World

from octad.sharding.ids import NodeId, ShardId
from octad.storage_node.core.failover.reconfiguration import Plan
from octad.storage_node.core.failover.replica_state import Strength
from octad.storage_node.core.failover.shard_replica import ShardReplica

SHARD = ShardId(0)
KEY = KEYS[0]
A, B, C, D = NodeId(1), NodeId(2), NodeId(3), NodeId(4)


class Stage:
    """One shard on nodes A, B, C… with A as primary, and nothing that happens by itself."""

    def __init__(self, *, nodes: int = 4, replicas: int = 3, min_copies: int = 1) -> None:
        self.world = World(7, nodes=nodes, replicas=replicas, shards=1)
        self.world.strength = Strength(replicas, min_copies)
        for process in self.world.processes():
            for replica in process.replicas.values():
                replica.strength = self.world.strength
        self.world.run_until(1.0)

    def process(self, node: NodeId) -> Process:
        process = self.world.running[node]
        assert process is not None
        return process

    def replica(self, node: NodeId) -> ShardReplica:
        return self.process(node).replicas[SHARD]

    def run(self, seconds: float) -> None:
        self.world.run_until(self.world.time + seconds)

    def write(self, at: NodeId, value: str, if_match: str | None = ANY) -> Done:
        return self.world.clients.request(-1, self.process(at), SHARD, KEY, True, value, if_match)

    def written(self, at: NodeId, value: str) -> None:
        """The write is acknowledged."""
        done = self.write(at, value)
        self.run(0.1)
        assert done.returned != INFINITE, f"{value} is not acknowledged"

    def read(self, at: NodeId) -> Done | None:
        """By that node alone, if it believes that it may."""
        done = self.world.clients.read_at(self.process(at), self.replica(at), KEY)
        self.run(0.01)
        return done

    def cut(self, *links: tuple[NodeId, NodeId]) -> None:
        for a, b in links:
            self.world.cuts |= {(a, b), (b, a)}

    def mend(self, *links: tuple[NodeId, NodeId]) -> None:
        for a, b in links:
            self.world.cuts -= {(a, b), (b, a)}

    def cut_from_store(self, *nodes: NodeId) -> None:
        self.world.store.cut |= set(nodes)

    def check(self) -> None:
        self.world.check_leases()
        self.world.clients.check_histories()


def late_swap() -> None:
    """F3: C challenges, restarts, promises A again; then its transaction lands after all."""
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    for node in (A, B):
        stage.process(node).paused_until = stage.world.time + 2.0
    stage.world.store.late, stage.world.store.late_s = 1.0, (5.0, 6.0)
    while stage.replica(C).pending is None:
        stage.run(0.01)
        assert stage.world.time < 5, "C challenges"
    stage.world.store.late = 0.0
    stage.world.crash(C)
    stage.world.boot(C)
    stage.run(4.0)
    assert stage.world.store.rows[SHARD].primary == A, "A is primary, and C promises it so"
    stage.cut_from_store(A)
    for _ in range(30):
        stage.run(0.1)
        stage.check()


def read_lease_outlives_its_source() -> None:
    """F6: A and B talk, C is cut off from A, takes over and removes B, which is not told."""
    stage = Stage()
    stage.written(A, "v1")
    stage.world.alive = {D}  # The one spare.
    stage.replica(A).on_timer = lambda now: []  # type: ignore[method-assign]  # It is slow, too.
    stage.cut_from_store(A, B)
    stage.cut((A, C), (B, C), (A, D), (B, D))
    stage.run(3.8)
    assert stage.world.store.rows[SHARD].member(B) is None, "C has removed B"
    stage.written(C, "v2")
    stage.read(B)
    stage.check()


def swap_that_adds_a_member() -> None:
    """F7: A is alone and promotes B; the swap lands, A does not hear of it, B takes over."""
    stage = Stage(nodes=2, replicas=1)
    stage.written(A, "v1")
    plan = Plan((A, B), A, 0)
    stage.world.plans[SHARD] = plan
    stage.replica(A).on_plan(plan)
    while (swap := stage.replica(A).pending) is None or len(swap.proposed.members) < 2:
        stage.world.run_until(stage.world.time + 0.0005)
        assert stage.world.time < 10, "A promotes B"
    stage.cut_from_store(A)
    stage.run(0.006)
    assert len(stage.world.store.rows[SHARD].members) == 2, "the swap has landed"
    stage.cut((A, B))
    stage.run(2.5)
    assert stage.world.store.rows[SHARD].primary == B, "B has taken over"
    stage.written(B, "v2")
    stage.read(A)
    stage.check()


def challenge_after_a_hand_over() -> None:
    """F8: A hands over to B, which is not told; A never promised B anything."""
    stage = Stage(nodes=3)
    stage.written(A, "v1")
    stage.run(1.0)
    stage.cut_from_store(B)
    stage.world.cuts.add((A, B))
    plan = Plan((A, B, C), B, 0)
    stage.world.plans[SHARD] = plan
    stage.replica(A).on_plan(plan)
    while stage.world.store.rows[SHARD].primary != B:
        stage.run(0.01)
        assert stage.world.time < 5, "A hands over"
    done = stage.write(C, "v2")
    for _ in range(120):
        stage.run(0.01)
        stage.world.clients.read_at(stage.process(B), stage.replica(B), KEY)
        if done.returned != INFINITE:
            break
    stage.read(B)
    stage.check()


def acknowledgement_of_an_earlier_session() -> None:
    """F13: a learner catches up, is wiped of what it copied, and starts again further down."""
    stage = Stage(nodes=2, replicas=1)
    stage.written(A, "v1")
    plan = Plan((A, B), A, 0)
    stage.world.plans[SHARD] = plan
    stage.replica(A).on_plan(plan)
    while not stage.replica(A).sessions:
        stage.world.run_until(stage.world.time + 0.001)
    old = stage.replica(A).sessions[B]
    stage.world.crash(B)
    stage.world.boot(B)
    stage.cut((B, A))
    stage.world.cuts.discard((B, A))  # What B asks for arrives, nothing comes back.
    while stage.replica(A).sessions.get(B) == old:
        stage.run(0.01)
        assert stage.world.time < 10, "B joins again"
    end = stage.replica(A).log.end
    epoch = stage.world.store.rows[SHARD].epoch
    stage.process(A).receive(B, ("ack", SHARD, epoch, end, old, True))
    stage.run(1.0)
    stage.check()


def stale_tail_after_two_takeovers() -> None:
    """F16: C takes over with the shorter log and refuses a retry; B, with A's tail, is next."""
    stage = Stage(nodes=4)
    stage.written(A, "v1")
    stage.cut((A, C))
    stage.write(A, "v2")  # Its front door dies with A: nobody retries it.
    stage.run(0.02)
    retried = stage.write(D, "v3", "v2")
    stage.run(0.05)
    assert stage.replica(B).log.end > stage.replica(C).log.end, "B has A's tail, C has not"
    stage.world.crash(A)
    stage.process(B).paused_until = stage.world.time + 2.2
    stage.world.alive.clear()  # Nobody is recruited.
    stage.run(2.9)
    assert stage.world.store.rows[SHARD].primary == C, "C has taken over"
    stage.run(0.6)
    stage.world.crash(C)
    stage.run(4.0)
    assert retried.returned != INFINITE, "the retry is answered"
    stage.read(B)
    stage.check()


TRACES = {
    "swaps are not fenced": late_swap,
    "the read lease is not derived": read_lease_outlives_its_source,
    "no lease from proposed members": swap_that_adds_a_member,
    "no wait after a new row": challenge_after_a_hand_over,
    "a learner without sessions": acknowledgement_of_an_earlier_session,
    "no barrier": stale_tail_after_two_takeovers,
}
