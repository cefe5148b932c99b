"""The configuration store: values change by compare-and-swap under a fence, slowly or late.

A transaction takes a while to arrive and its answer a while to come back; each may be lost, and the
transaction may land long after its sender has given up. Configurations are kept as bytes: who runs
a newer version writes a field into them that no one else knows, and no one may lose it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.sharding.ids import NodeId, ShardId
from octad.sharding.map.shard_map import (
    ShardConfiguration,
    decode_configuration,
    encode_configuration,
)
from octad.storage_node.replication.replica_actions import Swap

if TYPE_CHECKING:
    from tests.simulation.model.simulated_node import Process
    from tests.simulation.model.world import World

GIVE_UP_S = 1.0
NEWER_FIELD = "newer"


class Store:
    """See the module."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.configurations: dict[ShardId, ShardConfiguration] = {}
        self.stored: dict[ShardId, bytes] = {}
        self.fences: dict[NodeId, tuple[int, int]] = {}
        self.history: dict[ShardId, list[ShardConfiguration]] = {}
        self.down = False
        self.cut: set[NodeId] = set()
        self.late = 0.0  # Probability that a transaction lands late.
        self.late_s = (0.0, 6.0)  # How late.
        self.lagging = 0.0  # Probability that a watch event comes late.
        self.lossy = 0.0  # Probability that one is lost: the watcher lists all again later.
        self.slow_s = 0.0  # How long everything takes at most, beyond the usual.

    def reachable(self, process: Process) -> bool:
        return not self.down and process.id not in self.cut

    # -- what a node asks ----------------------------------------------------------------------

    def submit(self, process: Process, shard: ShardId, swap: Swap) -> None:
        """Compare and swap; the node learns of the outcome, or gives up waiting for it."""
        random = self.world.random
        waiting = [True]
        fence = (process.leases.boot, process.fence)
        delay = self._delay()
        if random.random() < self.late:
            delay = random.uniform(*self.late_s)
            self.world.faults["transaction late"] += 1
        if process.id in self.cut and random.random() < 0.7:
            delay = -1.0  # It never leaves the node.
        if delay > 0:
            self.world.after(delay, self._land, process, shard, swap, fence, waiting)
        self.world.after(GIVE_UP_S, self._give_up, process, shard, swap, waiting)

    def _land(
        self,
        process: Process,
        shard: ShardId,
        swap: Swap,
        fence: tuple[int, int],
        waiting: list[bool],
    ) -> None:
        if self.down:
            return
        succeeded = (
            self.configurations[shard] == swap.expected and self.fences.get(process.id) == fence
        )
        if swap.sibling is not None and swap.sibling in self.configurations:
            succeeded = False
        if succeeded:
            self.change(shard, swap.proposed, process.newer)
            if swap.sibling is not None:
                self.world.splits += 1
                self.change(swap.sibling, swap.proposed, process.newer)
        if self.reachable(process):
            configuration = self.configurations[shard]
            self.world.after(
                self._delay(), self._answer, process, shard, swap, configuration, waiting
            )

    def _delay(self) -> float:
        random = self.world.random.random
        return 0.001 + random() * 0.004 + (random() * self.slow_s if self.slow_s else 0.0)

    def _answer(
        self,
        process: Process,
        shard: ShardId,
        swap: Swap,
        configuration: ShardConfiguration,
        waiting: list[bool],
    ) -> None:
        if waiting[0] and process.running:
            waiting[0] = False
            process.when_awake(process.swap_outcome, shard, swap, configuration)

    def _give_up(self, process: Process, shard: ShardId, swap: Swap, waiting: list[bool]) -> None:
        """Unknown outcome: fence off whatever is under way, then read (rule R8)."""
        if waiting[0] and process.running:
            waiting[0] = False
            process.fence += 1
            self.rewrite_fence(process, lambda: self._resolve(process, shard, swap))

    def _resolve(self, process: Process, shard: ShardId, swap: Swap) -> None:
        self.read(process, lambda: process.swap_outcome(shard, swap, self.configurations[shard]))

    def rewrite_fence(self, process: Process, then: object) -> None:
        """Until it succeeds; a newer value of the same boot may overtake an older one."""
        if not process.running:
            return
        if not self.reachable(process) or process.is_paused():
            self.world.after(0.2, self.rewrite_fence, process, then)
            return
        self.fences[process.id] = (process.leases.boot, process.fence)
        self.world.after(0.002, process.when_awake, then)

    def read(self, process: Process, then: object) -> None:
        """Linearizable: `then` runs at the moment of the read, or later with what it read."""
        if not process.running:
            return
        if not self.reachable(process):
            self.world.after(0.2, self.read, process, then)
            return
        process.when_awake(then)

    # -- what everyone sees -------------------------------------------------------------------

    def create(self, shard: ShardId, configuration: ShardConfiguration) -> None:
        """As the coordinator does, before there is anyone to hear of it."""
        self.configurations[shard], self.stored[shard] = (
            configuration,
            encode_configuration(configuration),
        )

    def change(
        self,
        shard: ShardId,
        configuration: ShardConfiguration,
        newer: bool = False,
        *,
        forced: bool = False,
    ) -> None:
        """The configuration is written; watchers hear of it sooner or later, or of a later one."""
        before = self.configurations.get(shard)
        if before is not None and not forced:
            self.world.check_promoted(shard, before, configuration)
        self.configurations[shard] = configuration
        self._write(shard, configuration, newer)
        self.history.setdefault(shard, []).append(configuration)
        self.world.tell(f"store: shard {shard} {show(configuration)}")
        for process in self.world.processes():
            delay = 0.001 + self.world.random.random() * 0.01
            if self.world.random.random() < self.lagging:
                delay = self.world.random.random() * 4.0
                self.world.faults["watch event late"] += 1
            if self.lossy and self.world.random.random() < self.lossy:
                self.world.after(1.0 + delay, self.read, process, process.list_rows)
                self.world.faults["watch event lost"] += 1
            else:
                self.world.after(delay, self._watch_event, process, shard, configuration)

    def _write(self, shard: ShardId, configuration: ShardConfiguration, newer: bool) -> None:
        before = self.stored.get(shard)
        after = (
            encode_configuration(configuration)
            if before is None
            else with_unknown_fields(before, configuration)
        )
        if newer:
            fields = msgspec.json.decode(after)
            fields[NEWER_FIELD] = configuration.epoch
            after = msgspec.json.encode(fields)
        if before is not None and NEWER_FIELD.encode() in before:
            assert NEWER_FIELD.encode() in after, "a field of a newer version is lost"
        assert decode_configuration(after) == configuration
        self.stored[shard] = after

    def _watch_event(
        self, process: Process, shard: ShardId, configuration: ShardConfiguration
    ) -> None:
        if not process.running:
            return
        if not self.reachable(process):
            self.world.after(0.3, self._watch_event, process, shard, configuration)
            return
        process.when_awake(process.see_configuration, shard, configuration)


def show(configuration: ShardConfiguration) -> str:
    """A configuration in a line of the story."""
    members = ",".join(
        f"n{member.node}" + (f"+{member.base}" if member.base else "")
        for member in configuration.members
    )
    learners = ",".join(f"n{learner.node}" for learner in configuration.learners)
    former = ",".join(f"n{former.node}≤{former.upto}" for former in configuration.last_full)
    leader = f"e{configuration.epoch} primary n{configuration.primary}"
    return f"{leader} [{members}] learners [{learners}] elr [{former}]"
