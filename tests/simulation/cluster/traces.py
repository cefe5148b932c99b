"""Directed traces: stories that random faults hardly ever tell, with whole nodes.

Each is played in a cluster in which nothing else goes wrong, while clients do what they always do;
it ends well, and with the bug planted that it is for, it raises Failed.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.cluster.machines.node_process import NodeProcess
from tests.simulation.cluster.run import Shape, run_shape
from tests.simulation.cluster.world import World

from octad.storage_node.journal.record_format import RECORD_HEADER_BYTES, Location, end_of
from octad.storage_node.journal.segment_file import segment_path

BEGIN_S, LOOK_S, END_S = 3.0, 0.001, 10.0
BOOTS_AFTER_S = 0.05
CALM = Shape(nodes=3, replicas=3, clients=3, kinds=())

Trace = Callable[[World], None]


def last_batch_of_a_primary_is_damaged(world: World) -> None:
    """A bit flips in what was just committed, and its process is killed before a mark proves it."""

    def look() -> None:
        for process in world.processes():
            place = _committed_at_the_end(process)
            if place is not None:
                machine = process.machine
                path = segment_path(machine.config.data / "journal", place.segment)
                world.tell(f"the last record of {process} is damaged, and it is killed")
                machine.disk.flip(path, place.offset + RECORD_HEADER_BYTES)
                world.kill(machine, power=False)
                world.timeline.after(BOOTS_AFTER_S, world.boot, machine)
                return
        assert world.timeline.time < END_S, "some primary has nothing behind its last commit"
        world.timeline.after(LOOK_S, look)

    world.timeline.after(BEGIN_S, look)


def _committed_at_the_end(process: NodeProcess) -> Location | None:
    """The record with which the journal ends, where that is of a shard led and committed here."""
    assert process.parts is not None
    journal, host = process.parts.engine.journal, process.parts.replication.host
    if journal.durable_to != journal.position() or journal._marked >= journal.position():
        return None
    for shard, replica in host.replicas.items():
        log = replica.log
        _, place = process.machine.entries.get((shard, log.end), (None, None))
        is_last = place is not None and end_of(place) == journal.position()
        if is_last and replica.leading and log.commit == log.end:
            return place
    return None


def play(trace: Trace, seed: int = 0) -> World:
    """Raises Failed."""
    return run_shape(seed, CALM, trace)


TRACES: dict[str, Trace] = {
    "a primary that has restarted asks no one": last_batch_of_a_primary_is_damaged,
}
"""By the planted bug that each finds."""
