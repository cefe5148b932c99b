"""Runs seeds: a phase of faults, then healing, after which everything must be whole again."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.simulation.cluster.checks.end_state import not_whole
from tests.simulation.cluster.faults.faults import KINDS, KINDS_OF_LOSS, LOSES, Faults
from tests.simulation.cluster.machines.older_nodes import make_some_older, versions_of
from tests.simulation.cluster.world import STEPS_MAX, Violation, World
from tests.simulation.virtual.boundary import simulated_machine
from tests.simulation.virtual.timeline import Timeline

from octad.sharding.limits import REQUEST_IDS_S
from octad.storage_node.replication import request_window
from octad.storage_node.replication.request_window import REQUEST_IDS_MAX
from octad.storage_node.s3.protocol import multipart
from octad.storage_node.upkeep import engine_upkeep
from octad.storage_node.upkeep.extent_upkeep import WAITS_VARIABLE

VERSION = 2  # Of what a seed stands for; raised when kinds of faults or clients are others.
BEGIN_S = 8.0  # Until the cluster serves, at the latest.
FAULTS_S = 12.0
FAULTS_WITH_LOSS_S = 30.0  # What is lost counts as alive for ten seconds.
LOSS_EVERY = 8
SERVED_AGAIN_S = 3.0  # With clients.
HEALING_S = 30.0  # At most.
HEALING_FROM_LOSS_S = 90.0  # The same: disks are emptied one after the other, and each joins again.
LOOK_S = 0.5
READ_AGAIN = 10
CLIENTS = 3
USED = 0.55  # Of the kinds of faults, in a run.
USUAL = (REQUEST_IDS_MAX, REQUEST_IDS_S)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a run is made of. To shrink it, take something away."""

    nodes: int
    replicas: int
    clients: int
    kinds: tuple[str, ...]  # Of faults.
    faults_s: float = FAULTS_S  # For so long.

    def without(self, kind: str) -> Shape:
        return replace(self, kinds=tuple(each for each in self.kinds if each != kind))


def shape_of(seed: int) -> Shape:
    """Some kinds of faults often, most not at all (swarm testing)."""
    random = Random(f"shape {seed}")
    replicas = random.choice([2, 3, 3])
    nodes = replicas + random.choice([0, 1, 1, 2])
    if seed % LOSS_EVERY == LOSS_EVERY - 1:
        kinds = tuple(kind for kind in KINDS_OF_LOSS if kind == LOSES or random.random() < USED)
        return Shape(nodes, replicas, CLIENTS, kinds, FAULTS_WITH_LOSS_S)
    kinds = tuple(kind for kind in KINDS if random.random() < USED)
    return Shape(nodes, replicas, CLIENTS, kinds)


class Failed(AssertionError):
    """A run has failed; `story` is what happened."""

    def __init__(self, seed: int, what: str, story: list[str]) -> None:
        super().__init__(f"seed {seed}: {what}")
        self.story = story


def run_seed(seed: int) -> World:
    """The whole run of a seed; raises Failed."""
    return run_shape(seed, shape_of(seed))


def run_shape(seed: int, shape: Shape, story: Callable[[World], None] = lambda _: None) -> World:
    """Faults, healing, checks; raises Failed. `story` plans what else is to happen."""
    timeline = Timeline(seed, STEPS_MAX)
    log = _Log(timeline)
    logging.getLogger("octad").addHandler(log)
    with simulated_machine(timeline), scaled(Random(f"scale {seed}")):
        world = World(timeline, nodes=shape.nodes, replicas=shape.replicas, story=log.story)
        try:
            if "upgrade" in shape.kinds:
                make_some_older(world)
            story(world)
            with versions_of(world):
                _run(world, shape)
        except Exception as error:  # An assertion of a node counts as much as a Violation.
            what = timeline.failures[0] if timeline.failures else f"{type(error).__name__}: {error}"
            raise Failed(seed, what, log.story) from error
        finally:
            logging.getLogger("octad").removeHandler(log)
        return world


def attempt(seed: int, shape: Shape) -> Failed | None:
    """How it fails, if it does."""
    try:
        run_shape(seed, shape)
    except Failed as failed:
        return failed
    return None


@contextmanager
def scaled(random: Random) -> Iterator[None]:
    """What comes after hours, or with millions of objects, comes in a run of seconds, too."""
    most, seconds = random.choice([USUAL, USUAL, (6, REQUEST_IDS_S)])
    instead: list[tuple[Any, str, Any]] = [
        (engine_upkeep, "INDEX_FLUSH_AFTER_RECORDS", random.choice([20, 60, 1000])),
        (request_window, "REQUEST_IDS_MAX", most),
        (request_window, "REQUEST_IDS_S", seconds),
        (multipart, "PART_BYTES_MIN", 1),
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


def _run(world: World, shape: Shape) -> None:
    timeline = world.timeline
    timeline.run_while(lambda: not world.serves(), BEGIN_S)
    first = world.any_serving(world.random)
    if first is None or not world.serves():
        world.fail("the cluster does not begin to serve")
    assert first is not None
    made = first.loop.spawn(world.clients.make_bucket(first), "the bucket")
    made_of_s3, of_log = world.s3_clients.make_bucket(), world.log_clients
    timeline.run_while(lambda: not (made.done() and made_of_s3.done()), BEGIN_S)
    if of_log is not None:
        timeline.run_while(_is_running(of_log.begin()), BEGIN_S)
        of_log.start()
    began = timeline.time
    faults = Faults(world, shape.kinds)
    world.clients.start(shape.clients)
    if LOSES not in shape.kinds:  # They know of no loss.
        world.s3_clients.start(shape.clients)
    timeline.run_until(began + shape.faults_s)
    _require_no_failure(world)
    faults.heal()
    timeline.run_until(timeline.time + SERVED_AGAIN_S)
    world.clients.stopped = world.s3_clients.clients.stopped = True
    if of_log is not None:
        of_log.stopped = True
    end = timeline.time + (HEALING_FROM_LOSS_S if LOSES in shape.kinds else HEALING_S)
    while (problem := not_whole(world)) is not None:
        if timeline.time > end:
            world.fail(problem)
        timeline.run_until(timeline.time + LOOK_S)
        _require_no_failure(world)
    for _ in range(READ_AGAIN):  # Not every node may answer every read by itself at once.
        timeline.run_while(world.clients.read_everything(), HEALING_S)
        timeline.run_while(_is_running(world.s3_clients.read_objects()), HEALING_S)
        if not world.damage.left():
            break
        timeline.run_until(timeline.time + LOOK_S)
    else:
        world.fail(f"damage is left: {world.damage.left()}")
    timeline.run_while(_is_running(world.s3_clients.read_everything()), HEALING_S)
    if of_log is not None:
        reading = of_log.read_everything()
        timeline.run_while(_is_running(reading), HEALING_S)
        if not reading.done():
            world.fail("the log cannot be read to its end")
    world.clients.check_histories()
    world.s3_clients.check()
    _require_no_failure(world)


def _is_running(task: asyncio.Task[Any]) -> Callable[[], bool]:
    return lambda: not task.done()


def _require_no_failure(world: World) -> None:
    if world.timeline.failures:
        raise Violation(world.timeline.failures[0])


class _Log(logging.Handler):
    """What nodes say is part of the story; what they call a bug is one."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(logging.INFO)
        self.timeline = timeline
        self.story: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        loop = self.timeline.current
        host = "-" if loop is None else loop.host
        said = self.format(record) if record.exc_info else record.getMessage()
        self.story.append(f"{self.timeline.time:9.4f} {host}: {said}")
        if record.exc_info:
            self.timeline.failures.append(said.splitlines()[-1])


def summary(world: World) -> Counter[str]:
    """What a seed's run did, in counts that can be added up."""
    clients, s3, invariants = world.clients, world.s3_clients.clients, world.invariants
    counts = Counter(
        {
            "steps": world.timeline.steps,
            "operations answered": clients.answered,
            "operations of unknown outcome": clients.unknown,
            "conditions refused": clients.refused,
            "tries through another front door": clients.retried,
            "lists": clients.lists,
            "entries of several deletions": invariants.joint_deletions,
            "histories undecided": clients.undecided + s3.keys.undecided,
            "configurations": invariants.changes,
            "splits": invariants.splits,
            "shards recovered by force": world.operator.recoveries,
            "disks that came back": world.operator.returned,
            "damaged journals": world.damaged_journals,
            "damaged records repaired": world.damage.repaired,
            "transactions that landed late": world.store.landed_late,
        }
    )
    counts.update({f"S3: {what}": times for what, times in s3.counts.items()})
    counts.update({f"fault: {kind}": times for kind, times in world.faults.items()})
    return counts
