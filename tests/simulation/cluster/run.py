"""Runs seeds: a phase of faults, then healing, after which everything must be whole again."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from tests.simulation.cluster.end_state import not_whole
from tests.simulation.cluster.faults import Faults
from tests.simulation.cluster.world import STEPS_MAX, Violation, World
from tests.simulation.virtual.boundary import simulated_machine
from tests.simulation.virtual.timeline import Timeline

from octad.sharding.limits import REQUEST_IDS_S
from octad.storage_node.replication import request_window
from octad.storage_node.replication.request_window import REQUEST_IDS_MAX
from octad.storage_node.upkeep import engine_upkeep
from octad.storage_node.upkeep.extent_upkeep import WAITS_VARIABLE

BEGIN_S = 8.0  # Until the cluster serves, at the latest.
FAULTS_S = 12.0
SERVED_AGAIN_S = 3.0  # With clients.
HEALING_S = 30.0  # At most.
LOOK_S = 0.5
CLIENTS = 3
USUAL = (REQUEST_IDS_MAX, REQUEST_IDS_S)


def run_seed(seed: int) -> World:
    """The whole run; raises Violation."""
    shape = Random(f"shape {seed}")
    replicas = shape.choice([2, 3, 3])
    return run_world(seed, nodes=replicas + shape.choice([0, 1, 1, 2]), replicas=replicas)


def run_world(seed: int, *, nodes: int, replicas: int) -> World:
    """Faults, healing, checks; raises Violation."""
    timeline = Timeline(seed, STEPS_MAX)
    with simulated_machine(timeline), scaled(Random(f"scale {seed}")):
        world = World(timeline, nodes=nodes, replicas=replicas)
        log = _Log(world)
        logging.getLogger("octad").addHandler(log)
        try:
            _run(world)
        finally:
            logging.getLogger("octad").removeHandler(log)
        return world


@contextmanager
def scaled(random: Random) -> Iterator[None]:
    """What comes after hours, or with millions of objects, comes in a run of seconds, too."""
    most, seconds = random.choice([USUAL, USUAL, (6, REQUEST_IDS_S)])
    instead: list[tuple[Any, str, Any]] = [
        (engine_upkeep, "INDEX_FLUSH_AFTER_RECORDS", random.choice([40, 150, 1000])),
        (request_window, "REQUEST_IDS_MAX", most),
        (request_window, "REQUEST_IDS_S", seconds),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in instead]
    for owner, name, value in instead:
        setattr(owner, name, value)
    os.environ[WAITS_VARIABLE] = "2.0"
    try:
        yield
    finally:
        del os.environ[WAITS_VARIABLE]
        for owner, name, value in before:
            setattr(owner, name, value)


def _run(world: World) -> None:
    timeline = world.timeline
    timeline.run_while(lambda: not world.serves(), BEGIN_S)
    first = world.any_serving(world.random)
    if first is None or not world.serves():
        world.fail("the cluster does not begin to serve")
    assert first is not None
    made = first.loop.spawn(world.clients.make_bucket(first), "the bucket")
    timeline.run_while(lambda: not made.done(), BEGIN_S)
    began = timeline.time
    faults = Faults(world)
    world.clients.start(CLIENTS)
    timeline.run_until(began + FAULTS_S)
    _require_no_failure(world)
    faults.heal()
    timeline.run_until(timeline.time + SERVED_AGAIN_S)
    world.clients.stopped = True
    end = timeline.time + HEALING_S
    while (problem := not_whole(world)) is not None:
        if timeline.time > end:
            world.fail(problem)
        timeline.run_until(timeline.time + LOOK_S)
        _require_no_failure(world)
    timeline.run_while(world.clients.read_everything(), HEALING_S)
    if world.damage.left():
        world.fail(f"damage is left: {world.damage.left()}")
    world.clients.check_histories()
    _require_no_failure(world)


def _require_no_failure(world: World) -> None:
    if world.timeline.failures:
        raise Violation(world.timeline.failures[0])


class _Log(logging.Handler):
    """What nodes say is part of the story; what they call a bug is one."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        loop = self.world.timeline.current
        host = "-" if loop is None else loop.host
        self.world.tell(f"{host}: {record.getMessage()}")
        if record.exc_info:
            error = self.format(record)
            self.world.tell(error)
            self.world.timeline.failures.append(error.splitlines()[-1])


def summary(world: World) -> Counter[str]:
    """What a seed's run did, in counts that can be added up."""
    clients, invariants = world.clients, world.invariants
    counts = Counter(
        {
            "steps": world.timeline.steps,
            "operations answered": clients.answered,
            "operations of unknown outcome": clients.unknown,
            "conditions refused": clients.refused,
            "tries through another front door": clients.retried,
            "lists": clients.lists,
            "histories undecided": clients.undecided,
            "configurations": invariants.changes,
            "splits": invariants.splits,
            "damaged journals": world.damaged_journals,
            "damaged records repaired": world.damage.repaired,
            "transactions that landed late": world.store.landed_late,
        }
    )
    counts.update({f"fault: {kind}": times for kind, times in world.faults.items()})
    return counts
