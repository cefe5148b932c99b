"""Changing shards' configurations: the swaps that the replicas propose, many in one transaction.

Every swap also compares this node's fence key, which each boot and each unknown outcome rewrites,
so that a transaction that was under way before can not land after it (rules R8, R15 in
`docs/reference/replication.md`); where there is a plan, it compares that, too. Configurations that
the mirror shows are passed on to the shard host at once, but for those of a swap under way: they
wait until its outcome is known for certain.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

import msgspec

from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.client.runtime.background_task import start_background, stop_background
from octad.coordinator.placement.batched_swap import KeySwap as KeySwap
from octad.coordinator.placement.batched_swap import batches
from octad.coordinator.schema.placement_records import PlacementKeys
from octad.coordinator.schema.records import FenceRecord, StoreKeys
from octad.coordinator.store.interface import (
    Compare,
    ConfigStore,
    Delete,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
    ValueIs,
)
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import NodeId, ShardId, node_name
from octad.sharding.map.shard_map import ShardConfiguration, decode_configuration
from octad.storage_node.replication.host.cluster_facts import ClusterFacts
from octad.storage_node.replication.replica_actions import Swap
from octad.storage_node.replication.shard_ports import ShardEvents

RETRY_S = 0.2
TRIES = 2
Wanted = tuple[Swap, tuple[Compare, ...]]

log = logging.getLogger(__name__)


class FenceLost(Exception):
    """Someone else has written this node's fence key, or a restored store has lost it."""


class ConfigurationChanges:
    """Implements `Configurations`. Pass the mirror's changes to `on_change`, and `start` it."""

    def __init__(
        self,
        node: NodeId,
        boot: str,
        store: ConfigStore,
        keys: StoreKeys,
        mirror: Mirror,
        facts: ClusterFacts,
    ) -> None:
        self.configurations = facts.configurations
        self._dead = facts.dead
        self._node = node
        self._boot = boot
        self._store = store
        self._keys = keys
        self._placement_keys = PlacementKeys(keys)
        self._mirror = mirror
        self._shards: ShardEvents | None = None
        self._on_new_configuration: Callable[[ShardId], None] | None = None
        self._fence_counter = 0
        self._wanted: dict[ShardId, Wanted] = {}
        self._refetched: set[ShardId] = set()
        self._swapping: set[ShardId] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._refetching: asyncio.Task[None] | None = None

    async def start(
        self, shards: ShardEvents, on_new_configuration: Callable[[ShardId], None]
    ) -> None:
        """Fence off whatever an earlier boot had under way; then act on configurations."""
        self._shards, self._on_new_configuration = shards, on_new_configuration
        for shard in self.configurations:
            on_new_configuration(shard)
        await self._fence_until_done()
        for shard, configuration in self.configurations.items():
            shards.on_configuration(shard, configuration)
        self._tasks.append(start_background(self._swap_for_ever(), "configuration changes"))

    async def stop(self) -> None:
        """No more swaps from now on."""
        for task in self._tasks:
            await stop_background(task)
        if self._refetching is not None:
            await stop_background(self._refetching)

    # -- configurations ------------------------------------------------------------------------

    def on_change(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw a shard's configuration change."""
        if entry is None:
            return  # It is never deleted; a store that lost it is rebuilt from the nodes.
        shard, configuration = self._keys.shard_of_key(key), decode_configuration(entry.value)
        self._take(shard, configuration)
        if shard not in self._swapping and self._shards is not None:
            self._shards.on_configuration(shard, configuration)

    def _take(self, shard: ShardId, configuration: ShardConfiguration) -> None:
        self.configurations[shard] = configuration
        if self._on_new_configuration is not None:
            self._on_new_configuration(shard)

    def refetch(self, shard: ShardId) -> None:
        """Someone knows a newer configuration than the mirror has shown: read it, linearizably."""
        self._refetched.add(shard)
        if self._refetching is None or self._refetching.done():
            self._refetching = start_background(self._refetch(), "refetch")

    async def _refetch(self) -> None:
        while self._refetched:
            shards, self._refetched = self._refetched, set()
            try:
                await self._mirror.refresh()
            except StoreUnavailable as error:
                log.warning("the configuration store: %s", error)
                return  # The node that spoke of that epoch will do so again.
            for shard in shards - self._swapping:
                if self._shards is not None and shard in self.configurations:
                    self._shards.on_configuration(shard, self.configurations[shard])

    # -- swaps ---------------------------------------------------------------------------------

    def submit(self, shard: ShardId, swap: Swap) -> None:
        """A replica proposes a change of its configuration; the host is told the outcome.

        A node that leaves because its process is recorded as dead: no other may have begun since.
        """
        staying = {member.node for member in swap.proposed.members}
        leaving = [m.node for m in swap.expected.members if m.node not in staying]
        compares = [ValueIs(self._keys.fence(n), self._dead[n]) for n in leaving if n in self._dead]
        self._wanted[shard] = swap, tuple(compares)
        self._swapping.add(shard)
        self._wake.set()

    async def _swap_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                batch, self._wanted = self._wanted, {}
                try:
                    await self._swap(batch)
                except (StoreUnavailable, FenceLost) as error:
                    log.warning("changing the configurations of %d shards: %s", len(batch), error)
                    await self._fence_until_done()  # Whatever was under way can not land now.
                    self._tell_outcomes(batch)

    async def _swap(self, batch: dict[ShardId, Wanted]) -> None:
        """Try the swaps, and remove from `batch` those whose outcome the host has been told.

        A transaction that fails did nothing. Swaps of configurations that the mirror then shows
        changed are lost; the rest are tried once more, then left to the replicas to propose again.
        """
        fence = ValueIs(self._keys.fence(self._node), self._fence_value())
        for _ in range(TRIES):
            failed = False
            for part in self._transactions(fence, batch):
                compares = [compare for swap in part.values() for compare in swap.compares]
                puts = [put for swap in part.values() for put in swap.puts]
                if (await self._store.transact([fence, *compares], puts)).succeeded:
                    self._tell_won({shard: batch.pop(shard) for shard in part})
                else:
                    failed = True
            if not failed:
                break
            if not (await self._store.transact([fence], [])).succeeded:
                raise FenceLost("the fence key is another's")
            await self._mirror.refresh()
        self._tell_outcomes(batch)

    def _transactions(
        self, fence: Compare, batch: dict[ShardId, Wanted]
    ) -> list[dict[ShardId, KeySwap]]:
        """The swaps left in `batch`, in groups as large as the store takes."""
        shards: dict[str, ShardId] = {}
        swaps: list[KeySwap] = []
        for shard, (swap, also) in batch.items():
            entry = self._mirror.entries.get(self._keys.shard(shard))
            if entry is not None and decode_configuration(entry.value) == swap.expected:
                shards[entry.key] = shard
                swaps.append(self._key_swap(shard, swap, entry, also))
        return [{shards[swap.key]: swap for swap in part} for part in batches([fence], swaps)]

    def _key_swap(
        self, shard: ShardId, swap: Swap, entry: KeyValue, also: tuple[Compare, ...]
    ) -> KeySwap:
        """A split also writes the second half's configuration, which must not exist yet (R18)."""
        plan = self._mirror.entries.get(self._placement_keys.plan(shard))
        if plan is not None:
            also = (*also, ModRevisionIs(plan.key, plan.mod_revision))
        puts: tuple[Put, ...] = ()
        if swap.sibling is not None:
            half = self._keys.shard(swap.sibling)
            also = (*also, ModRevisionIs(half, Revision(0)))
            puts = (Put(half, with_unknown_fields(entry.value, swap.proposed)),)
        value = with_unknown_fields(entry.value, swap.proposed)
        return KeySwap(entry.key, entry.mod_revision, value, also, puts)

    def _tell_won(self, batch: dict[ShardId, Wanted]) -> None:
        assert self._shards is not None
        for what, count in Counter(change(swap) for swap, _ in batch.values()).items():
            log.info("%s in %d shards", what, count)
        self._swapping.difference_update(batch)
        for shard, (swap, _) in batch.items():
            for written in (shard, swap.sibling):
                known = None if written is None else self.configurations.get(written)
                if written is not None and (known is None or known.epoch < swap.proposed.epoch):
                    self._take(written, swap.proposed)
            self._shards.on_swap_outcome(shard, swap, self.configurations[shard])

    def _tell_outcomes(self, batch: dict[ShardId, Wanted]) -> None:
        """None of these can happen any more, unless the refreshed mirror shows that it has."""
        assert self._shards is not None
        self._swapping.difference_update(batch)
        for shard, (swap, _) in batch.items():
            self._shards.on_swap_outcome(shard, swap, self.configurations[shard])

    async def _fence_until_done(self) -> None:
        while True:
            self._fence_counter += 1
            try:
                fence = Put(self._keys.fence(self._node), self._fence_value())
                alive = Delete(self._keys.death(self._node))
                await self._store.transact([], [fence, alive])
                await self._mirror.refresh()
                return
            except StoreUnavailable as error:
                log.warning("the configuration store: %s", error)
                await asyncio.sleep(RETRY_S)

    def _fence_value(self) -> bytes:
        return msgspec.json.encode(FenceRecord(self._boot, self._fence_counter))


def change(swap: Swap) -> str:
    """What a swap does, for people."""
    before, after = swap.expected, swap.proposed
    was = {member.node for member in before.members}
    now = {member.node for member in after.members}
    learners = {learner.node for learner in after.learners}
    done = [f"{node_name(node)} is removed" for node in sorted(was - now)]
    done += [f"{node_name(node)} comes in" for node in sorted(now - was)]
    done += [f"{node_name(node)} learns" for node in sorted(learners - was - now)]
    lacking = {member.node for member in before.members if member.base}
    complete = {member.node for member in after.members if not member.base}
    done += [f"{node_name(node)} has all of history" for node in sorted(lacking & complete)]
    if swap.sibling is not None:
        done.append("a split")
    if before.primary != after.primary:
        done.append(f"{node_name(after.primary)} leads")
    return ", ".join(done) or "a new epoch"
