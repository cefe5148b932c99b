"""Runs seeds: a phase of faults, then healing, after which everything must be whole again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.simulation.faults import Faults
from tests.simulation.world import World

FAULTS_S = 14.0
HEALING_S = 14.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a seed's run did."""

    seed: int
    steps: int
    answered: int
    unknown: int
    refused: int
    local_reads: int
    epochs: int


def run_seed(seed: int) -> World:
    """The whole run; raises Violation."""
    shape = Random(f"shape {seed}")
    replicas = shape.choice([2, 3, 3])
    world = World(seed, nodes=replicas + shape.choice([0, 1, 1, 2]), replicas=replicas, shards=2)
    faults = Faults(world)
    world.clients.start(3)
    world.run_until(FAULTS_S)
    faults.heal()
    world.run_until(FAULTS_S + HEALING_S - 2.0)
    world.clients.stopped = True
    world.run_until(FAULTS_S + HEALING_S)
    check_whole(world)
    world.clients.check_histories()
    return world


def check_whole(world: World) -> None:
    """Liveness: every shard at full strength, served, and all copies equal."""
    for shard, row in world.store.rows.items():
        full = [member for member in row.members if member.base == 0]
        if len(full) != world.strength.replicas or len(row.members) != len(full):
            world.fail(f"shard {shard} is not at full strength: {row}")
        primary = world.running[row.primary]
        assert primary is not None
        replica = primary.replicas[shard]
        if not replica.serves() or not replica.has_lease(primary.now()):
            world.fail(f"shard {shard} is not served by n{row.primary}")
        for member in full:
            process = world.running[member.node]
            assert process is not None
            log = process.replicas[shard].log
            if log.commit != replica.log.commit:
                world.fail(f"n{member.node} has committed {log.commit} of {shard}, "
                           f"not {replica.log.commit}")  # fmt: skip
            rows = world.disks[member.node].index[shard].rows
            if rows != world.disks[row.primary].index[shard].rows:
                world.fail(f"n{member.node} and n{row.primary} differ in shard {shard}")


def summary(world: World) -> Summary:
    clients = world.clients
    return Summary(
        world.seed,
        world.steps,
        clients.answered,
        clients.unknown,
        clients.refused,
        clients.local_reads,
        sum(row.epoch for row in world.store.rows.values()),
    )
