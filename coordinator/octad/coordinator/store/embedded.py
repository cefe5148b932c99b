"""The configuration store in this process: keys in memory, every change first in a SQLite file.

Transactions that wait while one commit is on its way to the disk are evaluated together and share
the next one (group commit): a node's start makes hundreds of them. Reads are answered from memory,
where only what is on disk can be seen.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from octad.client.runtime.steady_clock import SteadyClock
from octad.coordinator.store.interface import (
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
from octad.coordinator.store.keyspace import Keyspace, Staging
from octad.coordinator.store.lease_clock import LeaseClock
from octad.coordinator.store.sqlite_log import LogEntry, SqliteLog
from octad.coordinator.store.transaction_rules import check_transaction
from octad.sharding.limits import MIB

STORE_HISTORY_REVISIONS_MAX = 10_000  # Retained by the embedded store for watches.
STORE_HISTORY_BYTES_MAX = 64 * MIB

LEASE_CHECK_S = 0.25
PROGRESS_S = 1.0  # A watch says at least this often that it is alive.
BATCH_TRANSACTIONS_MAX = 512  # Bounds what one commit holds in memory and how long it takes.
LEASE_ID_BITS = 62

Step = Callable[[Staging, LogEntry], Outcome]


@dataclass(slots=True)
class _Waiting:
    """A change that waits for its commit."""

    step: Step
    answer: asyncio.Future[Outcome]


class EmbeddedStore:
    """A `ConfigStore`; make it with `EmbeddedStore.open`."""

    def __init__(
        self,
        log: SqliteLog,
        keyspace: Keyspace,
        ttls: Mapping[LeaseId, float],
        thread: ThreadPoolExecutor,
        history_revisions_max: int,
    ) -> None:
        self._log = log
        self._keyspace = keyspace
        self._clock = SteadyClock()
        self._leases = LeaseClock(ttls, self._now())
        self._thread = thread
        self._history_revisions_max = history_revisions_max
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._published = asyncio.Event()  # Replaced at every publication, so that all wake up.
        self._failure: str | None = None
        self._writer = asyncio.create_task(self._write_loop(), name="config-store-writer")

    @classmethod
    async def open(
        cls, path: Path, history_revisions_max: int = STORE_HISTORY_REVISIONS_MAX
    ) -> EmbeddedStore:
        """Open or create the file; raises StoreFileUnusable."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="config-store")
        loop = asyncio.get_running_loop()
        try:
            log = await loop.run_in_executor(thread, SqliteLog, path)
            keyspace, ttls = await loop.run_in_executor(thread, log.load)
        except BaseException:
            thread.shutdown(wait=True)
            raise
        return cls(log, keyspace, ttls, thread, history_revisions_max)

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        self._check_usable()
        return self._keyspace.range(prefix, revision)

    async def get(self, key: str) -> KeyValue | None:
        self._check_usable()
        return self._keyspace.get(key)

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        check_transaction(compares, operations)
        return await self._change(lambda staging, _: staging.transact(compares, operations))

    async def grant_lease(self, ttl_s: float) -> LeaseId:
        lease = LeaseId(secrets.randbits(LEASE_ID_BITS) | 1)

        def grant(staging: Staging, entry: LogEntry) -> Outcome:
            entry.leases_granted[lease] = ttl_s
            return Outcome(True, staging.revision)

        await self._change(grant)
        return lease

    async def keep_alive(self, lease: LeaseId) -> None:
        self._check_usable()
        if not self._leases.renew(lease, self._now()):
            raise LeaseExpired(f"lease {lease} is gone")

    async def revoke_lease(self, lease: LeaseId) -> None:
        def revoke(staging: Staging, entry: LogEntry) -> Outcome:
            if self._lives(lease, entry):
                _end_lease(lease, staging, entry)
            return Outcome(True, staging.revision)

        await self._change(revoke)

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[EventBatch, None]:
        loop = asyncio.get_running_loop()
        seen, told_at = after, loop.time()
        while True:
            self._check_usable()
            published = self._published
            batch = self._keyspace.events_after(prefix, seen)
            seen = batch.revision
            if batch.events or loop.time() - told_at >= PROGRESS_S:
                yield batch
                told_at = loop.time()
            elif seen == self._keyspace.revision:
                await _wait(published, told_at + PROGRESS_S - loop.time())

    async def versions(self) -> Mapping[str, str]:
        return {}

    async def close(self) -> None:
        if self._writer.done() and self._failure == "closed":
            return
        self._fail("closed")
        self._wake.set()
        await self._writer
        await asyncio.get_running_loop().run_in_executor(self._thread, self._log.close)
        self._thread.shutdown(wait=True)

    async def _change(self, step: Step) -> Outcome:
        self._check_usable()
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(step, answer))
        self._wake.set()
        return await answer

    async def _write_loop(self) -> None:
        try:
            while self._failure is None:
                await _wait(self._wake, LEASE_CHECK_S)
                self._wake.clear()
                expired = self._leases.expired(self._now())
                while (self._waiting or expired) and self._failure is None:
                    await self._write_batch(expired)
                    expired = []
        finally:
            if self._failure is None:
                self._fail("its writer stopped")

    async def _write_batch(self, expired: Sequence[LeaseId]) -> None:
        """Evaluate what waits, make it durable, then visible, then answer."""
        entry = LogEntry()
        staging = self._keyspace.stage(lambda lease: self._lives(lease, entry))
        for lease in expired:
            _end_lease(lease, staging, entry)
        answers: list[tuple[asyncio.Future[Outcome], Outcome | Exception]] = []
        while self._waiting and len(answers) < BATCH_TRANSACTIONS_MAX:
            waiting = self._waiting.popleft()
            try:
                answers.append((waiting.answer, waiting.step(staging, entry)))
            except LeaseExpired as error:
                answers.append((waiting.answer, error))
        entry.changes = staging.changes
        if entry.changes or entry.leases_granted or entry.leases_ended:
            try:
                await self._commit(entry)
            except sqlite3.Error as error:
                unavailable = self._not_written(error)
                answers = [(future, unavailable) for future, _ in answers]
        for future, result in answers:
            _answer(future, result)

    async def _commit(self, entry: LogEntry) -> None:
        due = self._keyspace.compaction_due(self._history_revisions_max, STORE_HISTORY_BYTES_MAX)
        if due is not None:
            entry.compacted = due
            entry.obsolete = self._keyspace.obsolete_at(due)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._log.commit, entry)
        self._keyspace.publish(entry.changes)
        for lease, ttl_s in entry.leases_granted.items():
            self._leases.grant(lease, ttl_s, self._now())
        for lease in entry.leases_ended:
            self._leases.end(lease)
        if due is not None:
            self._keyspace.compact(due)
        self._wake_watches()

    def _lives(self, lease: LeaseId, entry: LogEntry) -> bool:
        """Whether `lease` lives after what `entry` has so far."""
        granted = self._leases.lives(lease) or lease in entry.leases_granted
        return granted and lease not in entry.leases_ended

    def _not_written(self, error: sqlite3.Error) -> StoreUnavailable:
        """A full disk may have room again; after any other failure the file is not trusted."""
        why = f"its file cannot be written: {error}"
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            self._fail(why)
        return StoreUnavailable(f"the configuration store: {why}")

    def _wake_watches(self) -> None:
        self._published.set()
        self._published = asyncio.Event()

    def _fail(self, why: str) -> None:
        """Close it; from now on every call and watch raises."""
        self._failure = why
        while self._waiting:
            _answer(self._waiting.popleft().answer, StoreUnavailable(why))
        self._wake_watches()

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise StoreUnavailable(f"the configuration store is unusable: {self._failure}")

    def _now(self) -> float:
        return self._clock.now_ms() / 1000


def _end_lease(lease: LeaseId, staging: Staging, entry: LogEntry) -> None:
    entry.leases_ended.add(lease)
    staging.delete_keys_of(lease)


def _answer(future: asyncio.Future[Outcome], result: Outcome | Exception) -> None:
    """The caller may have given up; its change remains nevertheless."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event` or the timeout."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await event.wait()
    except TimeoutError:
        return
