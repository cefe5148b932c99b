"""Runs of the simulated cluster with clients of the log, and bugs that may be planted in it.

python -m tests.simulation.log.log_runs FIRST COUNT
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from tests.simulation.cluster.run import Shape, run_shape
from tests.simulation.cluster.world import World
from tests.simulation.log.log_clients import LogClients

from octad.storage_node.index.partition_rows import decode_fence, fence_of, partition_key
from octad.storage_node.log import log_upkeep, partition_leader, partition_tails
from octad.storage_node.log.partition_changes import PartitionChanges
from octad.storage_node.log.partition_tail import Known, PartitionTail
from octad.storage_node.log.partition_tails import PartitionTails

KINDS = ("kill", "power_cut", "stop", "cut_pair", "reset", "isolate", "split", "flush", "wipe")
KILLS = ("kill", "power_cut", "cut_pair")
Patch = tuple[Any, str, Any]  # (owner, attribute, what stands there instead)


def run_log(seed: int, kinds: tuple[str, ...] | None = None) -> Counter[str]:
    """Some kinds of faults, most of the time; what the clients got done. Raises Failed."""
    random = Random(f"log {seed}")
    if kinds is None:
        kinds = tuple(kind for kind in KINDS if random.random() < 0.5)
    made: list[LogClients] = []

    def story(world: World) -> None:
        world.log_clients = LogClients(world)
        made.append(world.log_clients)

    often = [
        (partition_leader, "BATCHES_UNKEPT_MAX", random.choice([3, 10, 1000])),
        (partition_tails, "WEIGHT_MAX", random.choice([1, 4, 1000])),
        (log_upkeep, "LOOK_S", 0.5),
    ]
    with replaced(often):
        run_shape(seed, Shape(nodes=4, replicas=3, clients=0, kinds=kinds), story)
    return made[0].counts


@contextmanager
def replaced(patches: list[Patch]) -> Iterator[None]:
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in patches]
    for owner, name, instead in patches:
        setattr(owner, name, instead)
    try:
        yield
    finally:
        for owner, name, was in before:
            setattr(owner, name, was)


# -- planted bugs --------------------------------------------------------------------------------


def _without_what_is_prepared(
    tails: PartitionTails, replica: Any, partition: Any, first: int
) -> Any:
    log = replica.log
    return (each for each in _batches(tails, replica, partition, first) if each[2] <= log.applied)


_batches = PartitionTails._batches


def _no_producers(tail: PartitionTail, batch: Any) -> Known | None:
    return None


def _no_fence(*_: Any) -> int:
    return -1


def _as_applied(rows: Any, partition: Any, job: str) -> int:
    """The rows of the index, whatever is prepared."""
    found = rows._stored.get(partition_key(partition, fence_of(job)))
    return -1 if found is None else decode_fence(found).token


PLANTED: dict[str, list[Patch]] = {
    "a tail is made of applied rows alone": [
        (PartitionTails, "_batches", _without_what_is_prepared)
    ],
    "producers are not known again": [(PartitionTail, "_known", _no_producers)],
    "fences are not looked at": [(partition_leader, "standing_token", _no_fence)],
    "fences count when they are applied": [(partition_leader, "standing_token", _as_applied)],
    "trims pass pins": [(sys.modules[PartitionChanges.__module__], "pins", lambda *_: [])],
}


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):
        print(number, dict(run_log(number)), flush=True)
