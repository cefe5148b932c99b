"""The configuration store of a simulated cluster, and each process's client of it.

The keys are those of the store that ships (`Keyspace`, `LeaseClock`). Between it and a client
every call takes a while to arrive and its answer a while to come back; each may be lost, and a
transaction may land long after its sender has given up. Watches are late, break, and meet a
compaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from tests.simulation.virtual.timeline import Timeline
from tests.simulation.virtual.virtual_loop import VirtualLoop

from octad.coordinator.store.interface import (
    Compacted,
    Compare,
    EventBatch,
    KeyValue,
    LeaseExpired,
    LeaseId,
    Listing,
    Outcome,
    Revision,
    StoreOperation,
    StoreUnavailable,
)
from octad.coordinator.store.keyspace import Change, Keyspace
from octad.coordinator.store.lease_clock import LeaseClock
from octad.coordinator.store.transaction_rules import check_transaction

GIVE_UP_S = 1.0
WAY_S = (0.0005, 0.0025)
LATE_S = (0.0, 6.0)  # Of a transaction that lands late.
LEASE_CHECK_S = 0.25
PROGRESS_S = 1.0  # A watch says at least this often that it is alive.
NEVER_LEAVES = 0.7  # Of the calls of a process that is cut off.
LAG_S = 4.0

T = TypeVar("T")


class SimulatedStore:
    """See the module. `cut` has the hosts that do not reach it."""

    def __init__(self, timeline: Timeline, on_change: Callable[[Change], None]) -> None:
        self.timeline = timeline
        self.keyspace = Keyspace()
        self.down = False
        self.cut: set[str] = set()
        self.late = 0.0  # Probability that a transaction lands late.
        self.lagging = 0.0  # Probability that a watch event comes late.
        self.breaking = 0.0  # Probability that a watch ends with an error.
        self.slow_s = 0.0  # How long everything takes at most, beyond the usual.
        self.landed_late = 0
        self._on_change = on_change
        self._leases = LeaseClock({}, timeline.time)
        self._watching: dict[Callable[[], None], None] = {}
        self._check_leases()

    def client(self, loop: VirtualLoop) -> StoreClient:
        return StoreClient(self, loop)

    def is_reached_by(self, host: str) -> bool:
        return not self.down and host not in self.cut

    def way_s(self) -> float:
        random = self.timeline.random
        slow = random.random() * self.slow_s if self.slow_s else 0.0
        return random.uniform(*WAY_S) + slow

    # -- what it does, at one moment ---------------------------------------------------------------

    def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        staging = self.keyspace.stage(self._leases.lives)
        outcome = staging.transact(compares, operations)
        self._publish(staging.changes)
        return outcome

    def grant(self, ttl_s: float) -> LeaseId:
        lease = LeaseId(self.timeline.next_number())
        self._leases.grant(lease, ttl_s, self.timeline.time)
        return lease

    def renew(self, lease: LeaseId) -> None:
        if not self._leases.renew(lease, self.timeline.time):
            raise LeaseExpired(f"lease {lease} is gone")

    def revoke(self, lease: LeaseId) -> None:
        if self._leases.lives(lease):
            self._leases.end(lease)
            staging = self.keyspace.stage(self._leases.lives)
            staging.delete_keys_of(lease)
            self._publish(staging.changes)

    def compact(self) -> None:
        """Forget all but the present: who watches from further back has to list again."""
        self.keyspace.compact(self.keyspace.revision)

    def _check_leases(self) -> None:
        self.timeline.after(LEASE_CHECK_S, self._check_leases)
        for lease in self._leases.expired(self.timeline.time):
            if not self.down:
                self.revoke(lease)

    def _publish(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        self.keyspace.publish(changes)
        for change in changes:
            self._on_change(change)
        watching, self._watching = self._watching, {}
        for wake in watching:
            wake()

    def wake_once(self, wake: Callable[[], None]) -> None:
        """Call it at the next change."""
        self._watching[wake] = None


class StoreClient:
    """A `ConfigStore` for one process."""

    def __init__(self, store: SimulatedStore, loop: VirtualLoop) -> None:
        self._store = store
        self._loop = loop
        self._timeline = store.timeline
        self._closed = False

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        return await self._call(lambda: self._store.keyspace.range(prefix, revision))

    async def get(self, key: str) -> KeyValue | None:
        return await self._call(lambda: self._store.keyspace.get(key))

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        check_transaction(compares, operations)
        return await self._call(
            lambda: self._store.transact(compares, operations), may_be_late=bool(operations)
        )

    async def grant_lease(self, ttl_s: float) -> LeaseId:
        return await self._call(lambda: self._store.grant(ttl_s))

    async def keep_alive(self, lease: LeaseId) -> None:
        await self._call(lambda: self._store.renew(lease))

    async def revoke_lease(self, lease: LeaseId) -> None:
        await self._call(lambda: self._store.revoke(lease))

    async def versions(self) -> Mapping[str, str]:
        return {}

    async def close(self) -> None:
        self._closed = True

    async def _call(self, what: Callable[[], T], *, may_be_late: bool = False) -> T:
        """`what` at the store, and its answer; raises StoreUnavailable when that takes too long."""
        store, timeline, loop = self._store, self._timeline, self._loop
        answer: asyncio.Future[T] = loop.create_future()
        delay = store.way_s()
        if may_be_late and timeline.random.random() < store.late:
            delay = timeline.random.uniform(*LATE_S)
            store.landed_late += 1
        leaves = loop.host not in store.cut or timeline.random.random() >= NEVER_LEAVES
        if leaves:
            timeline.after(delay, self._land, what, answer)
        try:
            async with asyncio.timeout(GIVE_UP_S):
                return await answer
        except TimeoutError:
            raise StoreUnavailable("no answer of the configuration store") from None

    def _land(self, what: Callable[[], T], answer: asyncio.Future[T]) -> None:
        """At the store, whoever waits for it."""
        store = self._store
        if store.down:
            return
        result: T | None = None
        error: Exception | None = None
        try:
            result = what()
        except (Compacted, LeaseExpired) as raised:
            error = raised
        if store.is_reached_by(self._loop.host):
            self._timeline.after(store.way_s(), self._answer, answer, result, error)

    def _answer(self, answer: asyncio.Future[T], result: T, error: Exception | None) -> None:
        if not self._loop.is_dead:
            self._loop.call_soon(_settle, answer, result, error)

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[EventBatch, None]:
        """As the store's own clients do: in order, none lost, an error when it breaks."""
        store, random, seen = self._store, self._timeline.random, after
        heard_at = self._timeline.time
        while True:
            changed = asyncio.Event()
            if store.keyspace.revision == seen:
                store.wake_once(partial(self._wake, changed))
                await _wait(changed, PROGRESS_S)
            lag = random.random() * LAG_S if random.random() < store.lagging else 0.0
            await asyncio.sleep(store.way_s() + lag)
            if not store.is_reached_by(self._loop.host):
                if self._timeline.time - heard_at > 3 * PROGRESS_S:
                    raise StoreUnavailable("the watch fell silent")
                continue
            if random.random() < store.breaking:
                raise StoreUnavailable("the watch broke")
            batch = store.keyspace.events_after(prefix, seen)
            seen, heard_at = batch.revision, self._timeline.time
            yield batch

    def _wake(self, changed: asyncio.Event) -> None:
        if not self._loop.is_dead:
            self._loop.call_soon(changed.set)


def _settle(answer: asyncio.Future[T], result: T, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
