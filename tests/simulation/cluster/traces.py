"""Directed traces: stories that random faults hardly ever tell, with whole nodes.

Each is played in a cluster in which nothing else goes wrong, while clients do what they always do;
it ends well, and with the bug planted that it is for, it raises Failed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from tests.simulation.cluster.clients.object_clients import BUCKET
from tests.simulation.cluster.machines.node_process import NodeProcess
from tests.simulation.cluster.run import Shape, run_shape
from tests.simulation.cluster.world import World

from octad.sharding.limits import SDK_RETRY_AGE_S
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.journal.record_format import RECORD_HEADER_BYTES, Location, end_of
from octad.storage_node.journal.segment_file import segment_path
from octad.storage_node.operations.conditions import ANY_ETAG, Condition

BEGIN_S, LOOK_S, END_S = 3.0, 0.001, 10.0
BOOTS_AFTER_S = 0.05
AGAIN_S = 0.05
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


def request_is_tried_again_after_all_have_restarted(world: World) -> None:
    """It was done; what it did is undone by another one meanwhile, and must not come back."""
    key, request_id = b"again", b"again".ljust(16)
    Steps(world, key).run(
        [
            partial(_put, key=key, request_id=request_id, age_s=0.0),
            _flush_all,
            _restart_all,
            partial(_delete, key=key),
            partial(_put, key=key, request_id=request_id, age_s=SDK_RETRY_AGE_S),
            partial(_is_absent, key=key),
        ]
    )


class Steps:
    """One request after the other at any node, each until it is done; all before the end."""

    def __init__(self, world: World, name: bytes) -> None:
        self.world = world
        self.name = name

    def run(self, steps: Sequence[Callable[[NodeProcess], Coroutine[Any, Any, object]]]) -> None:
        left = list(steps)

        def ask() -> None:
            process = self.world.any_serving(self.world.random)
            if process is None or not self.world.serves():
                self.world.timeline.after(LOOK_S, ask)
            else:
                self.world.clients.ask(process, left[0](process), answer)

        def answer(outcome: str, _: object) -> None:
            if outcome == "refused":
                self.world.fail(f"{self.name!r}: {len(left)} steps before the end one is refused")
            if outcome == "done":
                self.world.tell(f"{self.name!r}: {len(left) - 1} steps are left")
                left.pop(0)
            if left:
                self.world.timeline.after(AGAIN_S, ask)

        def end() -> None:
            if left:
                self.world.fail(f"{self.name!r}: {len(left)} steps are left at the end")

        self.world.timeline.after(BEGIN_S, ask)
        self.world.timeline.after(END_S, end)


async def _put(process: NodeProcess, *, key: bytes, request_id: bytes, age_s: float) -> None:
    objects, bucket = process.objects, await process.objects.get_bucket(BUCKET)
    absent = Condition(none_match=(ANY_ETAG,))
    row = ObjectRow(len(key), key.decode(), 0)
    await objects.put_object(bucket, key, row, key, request_id, age_s, absent)


async def _delete(process: NodeProcess, *, key: bytes) -> None:
    bucket = await process.objects.get_bucket(BUCKET)
    await process.objects.delete_object(bucket, key, b"deletes " + key.ljust(8))


async def _is_absent(process: NodeProcess, *, key: bytes) -> None:
    if await process.objects.get_row(await process.objects.get_bucket(BUCKET), key) is not None:
        process.world.fail(f"{key!r} was written once more")


async def _flush_all(process: NodeProcess) -> None:
    """So that no replay meets what was done; it takes less than until the next step."""
    for each in process.world.processes():
        assert each.parts is not None
        each.loop.spawn(each.parts.engine.index.flush_in_thread(), "a flush")


async def _restart_all(process: NodeProcess) -> None:
    """In a moment: not while a request of this node runs."""
    process.world.timeline.after(LOOK_S, _kill_all, process.world)


def _kill_all(world: World) -> None:
    for each in world.processes():
        world.kill(each.machine, power=False)
        world.timeline.after(BOOTS_AFTER_S, world.boot, each.machine)


def play(trace: Trace, seed: int = 0) -> World:
    """Raises Failed."""
    return run_shape(seed, CALM, trace)


TRACES: dict[str, Trace] = {
    "a primary that has restarted asks no one": last_batch_of_a_primary_is_damaged,
    "request ids do not outlive a restart": request_is_tried_again_after_all_have_restarted,
}
"""By the planted bug that each finds."""
