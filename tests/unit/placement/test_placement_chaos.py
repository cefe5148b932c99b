"""Nodes and leaders die and return, operators change their minds: in the end all is complete."""

from __future__ import annotations

import pytest
from tests.unit.placement.placement_cluster import KEYS, Faults, PlacementCluster

from octad.coordinator.placement.placement_commit import resumed, reverted, stopped
from octad.coordinator.placement.placement_requests import PlanRefused

NODES = 7
TURNS = 60


class Scenario:
    """One seed's story."""

    def __init__(self, seed: int) -> None:
        zones = {number: f"z{number % 4}" for number in range(1, NODES + 1)}
        faults = Faults(refuses=0.05, lags=0.3, leader_dies=0.1, stale_view=0.2)
        self.cluster = PlacementCluster(
            zones, replicas=2 + seed % 2, depth=3, seed=seed, later=[NODES], faults=faults
        )
        self.random = self.cluster.random
        self.down: set[int] = set()
        self.refused = 0

    def play(self) -> None:
        for _ in range(TURNS):
            self.act()
            for _ in range(self.random.randrange(6)):
                self.cluster.tick()
        for node in sorted(self.down):
            self.cluster.start(node)
        self.cluster.faults = Faults()
        self.cluster.now_s += 100.0
        self.cluster.run()
        self.cluster.ask("add", *(f"n{number}" for number in range(1, NODES + 1)))
        self.cluster.run()

    def act(self) -> None:
        try:
            getattr(self, self.random.choice(
                ["kill", "start", "add", "drain", "rebalance", "stop", "resume", "revert", "elect"]
            ))()  # fmt: skip
        except PlanRefused:
            self.refused += 1

    def kill(self) -> None:
        node = self.random.randrange(1, NODES + 1)
        configurations = self.cluster.view().cluster.configurations.values()
        last = any(
            m.node == node and len(configuration.members) == 1
            for configuration in configurations
            for m in configuration.members
        )
        if node not in self.down and len(self.down) < 2 and not last:
            self.cluster.kill(node)
            self.down.add(node)

    def start(self) -> None:
        if self.down:
            node = self.random.choice(sorted(self.down))
            self.down.remove(node)
            self.cluster.start(node)

    def add(self) -> None:
        self.cluster.ask("add", f"n{self.random.randrange(1, NODES + 1)}")

    def drain(self) -> None:
        node = self.random.randrange(1, NODES + 1)
        self.cluster.ask("drain", f"n{node}", fewer_zones=True)

    def rebalance(self) -> None:
        self.cluster.ask("rebalance", fewer_zones=True)

    def stop(self) -> None:
        self.cluster.tell(stopped(KEYS, self.cluster.view()))

    def resume(self) -> None:
        self.cluster.tell(resumed(KEYS, self.cluster.view()))

    def revert(self) -> None:
        self.cluster.tell(reverted(KEYS, self.cluster.view()))

    def elect(self) -> None:
        self.cluster.elect()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_every_shard_is_complete_and_where_it_should_be_in_the_end(
    seed: int,
) -> None:
    scenario = Scenario(seed)
    scenario.play()
    view = scenario.cluster.view()
    for shard in view.targets:
        target = view.target_of(shard)
        assert target is not None
        assert {m.node for m in view.cluster.configurations[shard].members} == set(target)
    held = scenario.cluster.held()
    assert set(held) == set(range(1, NODES + 1))
    assert max(held.values()) - min(held.values()) <= 2, "zones of two nodes and of one"


def test_the_same_seed_tells_the_same_story() -> None:
    first, second = Scenario(3), Scenario(3)
    first.play()
    second.play()
    keys = first.cluster.keyspace, second.cluster.keyspace
    assert keys[0].range("octad/").entries == keys[1].range("octad/").entries
