"""Runs seeds: a phase of faults, then healing, after which everything must be whole again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from tests.simulation.faults import Faults
from tests.simulation.model.node_disk import Row
from tests.simulation.model.simulated_front_doors import DEPTH, PATIENCE_S
from tests.simulation.model.world import World

from octad.sharding.limits import REQUEST_IDS_S, RPC_TRANSIT_S_MAX
from octad.storage_node.replication import request_window
from octad.storage_node.replication.request_window import REQUEST_IDS_MAX

FAULTS_S = 14.0
HEALING_S = 14.0
USUAL = (REQUEST_IDS_MAX, REQUEST_IDS_S)
WINDOWS = (USUAL, USUAL, (6, REQUEST_IDS_S), (REQUEST_IDS_MAX, 2.2 * PATIENCE_S))


def run_seed(seed: int) -> World:
    """The whole run; raises Violation."""
    shape = Random(f"shape {seed}")
    replicas = shape.choice([2, 3, 3])
    nodes = replicas + shape.choice([0, 1, 1, 2])
    with request_ids_kept(*shape.choice(WINDOWS)):
        return run_world(World(seed, nodes=nodes, replicas=replicas, shards=1 << DEPTH))


@contextmanager
def request_ids_kept(most: int, seconds: float) -> Iterator[None]:
    """A window that late retries may miss: they are answered "unknown" (rule R16).

    Ages are here what they are when a request arrives: nothing is to be spared for its way.
    """
    kept = {"REQUEST_IDS_MAX": most, "REQUEST_IDS_S": seconds, "RPC_TRANSIT_S_MAX": 0.0}
    vars(request_window).update(kept)
    try:
        yield
    finally:
        kept = {"REQUEST_IDS_MAX": USUAL[0], "REQUEST_IDS_S": USUAL[1]}
        vars(request_window).update(kept, RPC_TRANSIT_S_MAX=RPC_TRANSIT_S_MAX)


def run_world(world: World) -> World:
    """Faults, healing, checks; raises Violation."""
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
    for shard, configuration in world.store.configurations.items():
        full = [member for member in configuration.members if member.base == 0]
        if len(full) != world.strength.replicas or len(configuration.members) != len(full):
            world.fail(f"shard {shard} is not at full strength: {configuration}")
        primary = world.running[configuration.primary]
        assert primary is not None
        replica = primary.replicas[shard]
        if not replica.serves() or not replica.has_lease(primary.now()):
            world.fail(f"shard {shard} is not served by n{configuration.primary}")
        for member in full:
            process = world.running[member.node]
            assert process is not None
            log = process.replicas[shard].log
            if log.commit != replica.log.commit:
                world.fail(f"n{member.node} has committed {log.commit} of {shard}, "
                           f"not {replica.log.commit}")  # fmt: skip
            rows = _present(world.disks[member.node].rows_of(shard, configuration.depth))
            if rows != _present(
                world.disks[configuration.primary].rows_of(shard, configuration.depth)
            ):
                world.fail(f"n{member.node} and n{configuration.primary} differ in shard {shard}")
            world.clients.read_everything(process, process.replicas[shard])


def _present(rows: dict[bytes, Row]) -> dict[bytes, Row]:
    return {key: row for key, row in rows.items() if row[1] is not None}


def summary(world: World) -> Counter[str]:
    """What a seed's run did, in counts that can be added up."""
    clients, store = world.clients, world.store
    counts = Counter(
        {
            "steps": world.steps,
            "operations answered": clients.answered,
            "operations of unknown outcome": clients.unknown,
            "conditions refused": clients.refused,
            "tries through another front door": clients.sdk_retries,
            "refusals that are entries": clients.refusals_ordered,
            "reads by one node alone": clients.local_reads,
            "lists": clients.lists,
            "appends": clients.appends,
            "requests misdirected after a split": clients.misdirected,
            "histories checked": len(clients.history),
            "histories undecided": clients.undecided,
            "configurations": sum(len(configurations) for configurations in store.history.values()),
            "splits": world.splits,
            "syncs that failed": world.sync_errors,
            "damaged journals": world.damaged_journals,
            "damaged values repaired": world.repaired,
            "shards recovered by force": world.operator.recoveries,
            "nodes back with void copies": world.operator.returned,
        }
    )
    counts.update({f"fault: {kind}": times for kind, times in world.faults.items()})
    return counts
