"""Locks and leaders: one process at a time, and a fencing token for what it does.

A lock is held by a session, so no longer than that lives: of a process that is paused for longer
than its time to live, the next one has the lock. The token is what keeps the two apart: it grows
from holder to holder, and what the lock protects refuses one that is lower than one it has seen. A
leader is whoever holds a lock; its `value` says to everyone where it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

from octad.client.cluster.coordinator_calls import CoordinatorsUnreachable
from octad.client.cluster.service_token import ServiceToken
from octad.client.membership.lock_records import (
    LOCK_KIND,
    LockHolder,
    WatchedQueue,
    check_lock,
    session_label,
)
from octad.client.membership.registering import open_session
from octad.client.membership.session import Session
from octad.client.membership.watching import watch_keys

LOCK_TTL_S_DEFAULT = 10.0
_AGAIN_S = 0.5
_ASK_S_MIN = 2.0

log = logging.getLogger(__name__)


class Lock:
    """A lock that was given to this process, with the fencing `token` of that."""

    def __init__(self, session: Session, session_id: str, name: str, token: int) -> None:
        self.name = name
        self.token = token
        self._session = session
        self._session_id = session_id

    @property
    def is_held(self) -> bool:
        """Whether it certainly is still held, by this machine's clock and the last renewal."""
        return self._session.lives(self._session_id)

    async def lost(self, before_s: float = 0.0) -> None:
        """Returns when another process may hold it: what it protects has to have stopped by then.

        With `before_s` it returns as much earlier, should no renewal have been answered by then.
        """
        await self._session.ended(self._session_id, before_s)


@asynccontextmanager
async def lock(
    name: str,
    *,
    coordinator: str,
    token: str | ServiceToken,
    value: str = "",
    ttl_s: float = LOCK_TTL_S_DEFAULT,
    wait_s: float | None = None,
    authority_file: str | None = None,
) -> AsyncIterator[Lock]:
    """Hold `name` for the time of the block, in a session of its own; the queue is first come.

    `coordinator`: URLs separated by commas; `authority_file`: whom to trust with https
    (AWS_CA_BUNDLE). `value` is shown to whoever asks who holds it. Raises
    TimeoutError when it is another's for `wait_s`, BadLock, CallRefused, CoordinatorsUnreachable.
    """
    check_lock(name, value)
    opening = open_session(coordinator, token, ttl_s=ttl_s, authority_file=authority_file)
    async with opening as session:
        async with asyncio.timeout(wait_s):
            held = await _wait_for(session, name, value)
        yield held


@asynccontextmanager
async def hold(
    session: Session, name: str, *, value: str = "", wait_s: float | None = None
) -> AsyncIterator[Lock]:
    """The same in a session that is open: it may hold many locks, and loses all of them at once."""
    check_lock(name, value)
    try:
        async with asyncio.timeout(wait_s):
            held = await _wait_for(session, name, value)
        yield held
    finally:
        await session.let_go(name)


async def watch_lock(
    name: str, *, coordinator: str, authority_file: str | None = None
) -> AsyncGenerator[LockHolder | None, None]:
    """Who holds a lock, now and whenever it becomes another's; None: no one.

    Only the first contact raises CoordinatorsUnreachable.
    """
    check_lock(name)
    queue, told = WatchedQueue(), False
    watching = watch_keys(
        f"{LOCK_KIND}{name}/", coordinator=coordinator, authority_file=authority_file
    )
    async with aclosing(watching) as documents:
        async for document in documents:
            before = queue.holder
            queue.take(document)
            if queue.holder != before or not told:
                told = True
                yield queue.holder


async def _wait_for(session: Session, name: str, value: str) -> Lock:
    """Stands in the queue until it is the first; again, if it has lost its place.

    It asks now and then, too, at whichever coordinator answers: the one that it watches may be
    frozen, which a watch is slow to notice.
    """
    met = False
    while True:
        try:
            session_id, answer = await session.enter(name, value)
        except CoordinatorsUnreachable as error:
            if not met:
                raise
            log.warning("waiting for lock %s: %s", name, error)
            await asyncio.sleep(_AGAIN_S)
            continue
        met = True
        token = answer.token
        if token is None:
            label = session_label(session_id)
            with suppress(TimeoutError, CoordinatorsUnreachable):
                async with asyncio.timeout(max(session.ttl_s, _ASK_S_MIN)):
                    token = await _turn_of(label, session, name, answer.revision)
        if token is not None and session.lives(session_id):
            return Lock(session, session_id, name, token)


async def _turn_of(label: str, session: Session, name: str, revision: int) -> int | None:
    """The token when it is its turn; None when it has left the queue since `revision`."""
    queue = WatchedQueue()
    watching = watch_keys(
        f"{LOCK_KIND}{name}/", coordinator=session.urls, authority_file=session.authority_file
    )
    async with aclosing(watching) as documents:
        async for document in documents:
            queue.take(document)
            if document.revision < revision:  # Its entry may be an earlier one of its own.
                continue
            holder = queue.holder
            if holder is not None and holder.session == label:
                return holder.token
            if label not in queue:
                return None
    raise AssertionError("unreachable: a watch has no end")
