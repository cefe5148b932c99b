"""Sessions in the queues of locks: what `lock_queue.py` decides, written to the store."""

from __future__ import annotations

import asyncio

import msgspec

from octad.client.membership.lock_records import (
    LockAnswer,
    LockRecord,
    LockRequest,
    UnlockRequest,
    check_lock,
)
from octad.coordinator.locks.lock_queue import entering, leaving, queue_in
from octad.coordinator.membership.session_writes import LateWrite
from octad.coordinator.membership.sessions import SessionGone, Sessions
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import ConfigStore, Listing, StoreUnavailable
from octad.coordinator.store.mirror import Mirror

LOCK_QUEUE_MAX = 1_000  # Each answer and each change reads a queue as a whole.
LOCK_ENTRIES_MAX = 10_000  # Of all locks: every coordinator and node has them in memory.
_ATTEMPTS = 5


class LocksFull(Exception):
    """So many stand in line already that no one else may."""


class LockQueues:
    """Writes `locks/`. All methods raise StoreUnavailable."""

    def __init__(
        self, store: ConfigStore, keys: StoreKeys, sessions: Sessions, mirror: Mirror
    ) -> None:
        self._store = store
        self._keys = keys
        self._sessions = sessions
        self._mirror = mirror

    async def enter(self, lock: str, request: LockRequest) -> LockAnswer:
        """Returns once the session stands in the queue; it keeps the place that it has.

        Raises BadLock, LocksFull, LateWrite, SessionGone.
        """
        check_lock(lock, request.value)
        lease = self._sessions.lease_of(request.session)
        key = self._keys.lock(lock, lease)
        for _ in range(_ATTEMPTS):
            session, queue = await asyncio.gather(
                self._sessions.see(lease), self._store.range(self._keys.queue_of(lock))
            )
            done = session.is_done(request.number)
            if any(entry.key == key for entry in queue.entries):
                return _answer(f"{lease:x}", queue)
            if done:
                raise LateWrite(f"write {request.number} of the session was another one")
            self._check_room(lock, queue)
            record = LockRecord(request.value, await self._generation())
            change = entering(session, key, record, request.number)
            if await self._sessions.carry_out(session, change) is not None:
                return _answer(f"{lease:x}", await self._store.range(self._keys.queue_of(lock)))
        raise StoreUnavailable(f"the session keeps writing something else than lock {lock}")

    async def leave(self, lock: str, request: UnlockRequest) -> None:
        """Returns once the session is not in the queue; raises BadLock, LateWrite, SessionGone."""
        check_lock(lock)
        lease = self._sessions.lease_of(request.session)
        for _ in range(_ATTEMPTS):
            session = await self._sessions.see(lease)
            if session.is_done(request.number):
                return
            change = leaving(session, self._keys.lock(lock, lease), request.number)
            if await self._sessions.carry_out(session, change) is not None:
                return
        raise StoreUnavailable(f"the session keeps writing something else than lock {lock}")

    async def _generation(self) -> int:
        entry = await self._store.get(self._keys.generation)
        return 0 if entry is None else msgspec.json.decode(entry.value, type=int)

    def _check_room(self, lock: str, queue: Listing) -> None:
        """Those who come at the same moment may be let in together: the bounds are not exact."""
        if len(queue.entries) >= LOCK_QUEUE_MAX:
            raise LocksFull(f"{len(queue.entries)} sessions wait for lock {lock} already")
        if len(self._mirror.of(self._keys.locks)) >= LOCK_ENTRIES_MAX:
            raise LocksFull(f"{LOCK_ENTRIES_MAX} sessions hold locks or wait for one already")


def _answer(session: str, queue: Listing) -> LockAnswer:
    entries = queue_in(queue.entries)
    sessions = [entry.session for entry in entries]
    if session not in sessions:
        raise SessionGone("the session has ended: its place in the queue is lost")
    ahead = sessions.index(session)
    token = entries[0].holder.token if ahead == 0 else None
    return LockAnswer(token=token, ahead=ahead, revision=queue.revision)
