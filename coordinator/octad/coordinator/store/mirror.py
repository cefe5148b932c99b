"""All keys of a prefix, kept current in memory by list and watch.

The mirror only moves forward: a change older than what it shows is dropped. When a watch ends, it
goes on from the last revision; when that is compacted, or the store came back with less than it
had, it lists again. Subscribers see each key's newest state in revision order, not every state
between: what happened while the mirror was cut off arrives as one difference. A follower sees every
change, in order, or is notified that some were missed.

So one mirror serves a whole process, and all that is read from it at a time is of one revision.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from octad.coordinator.store.interface import (
    Compacted,
    ConfigStore,
    EventBatch,
    KeyValue,
    Listing,
    Revision,
    StoreUnavailable,
)
from octad.coordinator.store.watching import watching

BACK_OFF_S_MIN = 0.05
BACK_OFF_S_MAX = 1.0
STOPPED = "the mirror has stopped"
NOTHING_BELOW = "\0"  # prefix + this is a prefix that no key has: a cheap way to read the revision.

Subscriber = Callable[[str, KeyValue | None], None]

logger = logging.getLogger(__name__)


class Follower(Protocol):
    """A subscriber that must see every change."""

    async def on_gap(self) -> Revision:
        """Begin anew; returns the revision to follow from, if not the mirror's own.

        At the start, and when what happened meanwhile is not known. May raise StoreUnavailable: it
        is called again.
        """

    def on_batch(self, batch: EventBatch) -> bool:
        """The next changes of all keys below the prefix; the mirror shows these, or more.

        Returns whether to continue; else everything is listed anew, and that is a gap.
        """


class Mirror:
    """One prefix of `store`. Use: `await start()`, read `entries`, `await stop()`.

    With `kinds`, longer prefixes none of which begins with another, it holds only those keys.
    """

    def __init__(self, store: ConfigStore, prefix: str, kinds: Sequence[str] = ()) -> None:
        self._store = store
        self._prefix = prefix
        self._entries: dict[str, KeyValue] = {}
        self._kinds: dict[str, dict[str, KeyValue]] = {kind: {} for kind in kinds}
        self._subscribers: list[tuple[Subscriber, tuple[str, ...]]] = []
        self._followers: list[Follower] = []
        self._watched = Revision(0)  # Followers have seen everything up to there.
        self._has_gap = True
        self._task: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._stopped = False
        self.entries: Mapping[str, KeyValue] = MappingProxyType(self._entries)
        self.revision = Revision(0)
        self.last_confirmed = float("-inf")  # By time.monotonic(): it was current then.

    async def start(self) -> None:
        """Returns once the first listing is in, however long the store takes."""
        assert self._task is None, "started twice"
        back_off_s = BACK_OFF_S_MIN
        while True:
            try:
                await self._begin()
                break
            except StoreUnavailable as error:
                back_off_s = await self._wait_before_retry(back_off_s, error)
        self._task = asyncio.create_task(self._follow(), name=f"mirror {self._prefix}")
        self._task.add_done_callback(self._report_death)

    async def stop(self) -> None:
        """Entries stay as they are; no more is read. Raises what a subscriber raised."""
        self._stopped = True
        tasks = [task for task in (self._task, self._refreshing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._task is not None and not self._task.cancelled():
            self._task.result()

    def subscribe(self, callback: Subscriber, *kinds: str) -> None:
        """`callback(key, newest state or None)` for present entries and for every change.

        It is called on the loop, when `entries` and `revision` show the full change. `kinds` are
        prefixes of the keys that it is called for; without any it is all.
        """
        wanted = kinds or (self._prefix,)
        self._subscribers.append((callback, wanted))
        for key, entry in list(self._entries.items()):
            if key.startswith(wanted):
                callback(key, entry)

    def follow(self, follower: Follower) -> None:
        """Tell it everything, from the start on: before that."""
        assert self._task is None, "it has missed something already"
        self._followers.append(follower)

    def of(self, kind: str) -> Mapping[str, KeyValue]:
        """The keys of one of the `kinds`."""
        return self._kinds[kind]

    async def refresh(self) -> None:
        """Returns once the mirror shows at least what a linearizable read made now would.

        Raises StoreUnavailable, also when it is stopped. Callers who wait share the reads.
        """
        begun = self._refreshing
        if begun is not None and not begun.done():
            await asyncio.wait([begun])  # Its read may be older than this call; the next is not.
        if self._stopped:
            raise StoreUnavailable(STOPPED)
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        refreshing = self._refreshing
        try:
            await asyncio.shield(refreshing)
        except asyncio.CancelledError:
            if refreshing.cancelled():  # By `stop`; no one has cancelled who waits for it.
                raise StoreUnavailable(STOPPED) from None
            raise

    async def reach(self, revision: Revision) -> Revision:
        """Refresh what may be older than `revision`; the result is at least that new.

        Raises StoreUnavailable.
        """
        if self.revision < revision:
            await self.refresh()
        return self.revision

    async def _refresh(self) -> None:
        asked_at, before = time.monotonic(), self.revision
        newest = (await self._store.range(self._prefix + NOTHING_BELOW)).revision
        if before <= newest <= self.revision:
            self.last_confirmed = max(self.last_confirmed, asked_at)
        else:
            await self._list()

    async def _begin(self) -> None:
        """List everything; raises StoreUnavailable."""
        await self._list()
        watched, self._has_gap = self.revision, False
        try:
            for follower in self._followers:
                watched = min(watched, await follower.on_gap())
        except StoreUnavailable:
            self._has_gap = True
            raise
        self._watched = watched

    async def _follow(self) -> None:
        back_off_s = BACK_OFF_S_MIN
        while True:
            try:
                if self._has_gap:
                    await self._begin()
                after = self._watched if self._followers else self.revision
                async with watching(self._store, self._prefix, after) as batches:
                    async for batch in batches:
                        self._take_batch(batch)
                        back_off_s = BACK_OFF_S_MIN
                        if self._has_gap:
                            break
                if not self._has_gap:
                    raise StoreUnavailable("the watch ended")
            except StoreUnavailable as error:
                back_off_s = await self._wait_before_retry(back_off_s, error)
            except Compacted as error:
                back_off_s = await self._wait_before_retry(back_off_s, error)
                self._has_gap = True

    async def _list(self) -> None:
        asked_at, before = time.monotonic(), self.revision
        listing = await self._listing()
        # Older than a watch that went on meanwhile: nothing new in it. Older than what was here
        # when it was asked for: the store lost its data and was filled again.
        if listing.revision >= self.revision:
            self._take_listing(listing)
        elif before == self.revision:
            self._take_listing(listing)
            self._has_gap = True
        self.last_confirmed = max(self.last_confirmed, asked_at)

    async def _listing(self) -> Listing:
        """All entries, as of one revision."""
        if not self._kinds:
            return await self._store.range(self._prefix)
        while True:
            revision = (await self._store.range(self._prefix + NOTHING_BELOW)).revision
            reads = [self._store.range(kind, revision) for kind in self._kinds]
            try:
                listings = await asyncio.gather(*reads)
            except Compacted:  # Just now; the newest revision never is.
                continue
            return Listing(revision, [entry for each in listings for entry in each.entries])

    def _take_listing(self, listing: Listing) -> None:
        now = {entry.key: entry for entry in listing.entries}
        gone = [key for key in self._entries if key not in now]
        changed = [entry for entry in listing.entries if self._entries.get(entry.key) != entry]
        changed.sort(key=lambda entry: entry.mod_revision)
        changes: list[tuple[str, KeyValue | None]] = [(key, None) for key in gone]
        changes.extend((entry.key, entry) for entry in changed)
        self.revision = listing.revision
        self._apply(changes)

    def _take_batch(self, batch: EventBatch) -> None:
        changes = [(e.key, e.entry) for e in batch.events if e.revision > self.revision]
        self.revision = max(self.revision, batch.revision)
        self._apply(changes)
        self.last_confirmed = time.monotonic()
        self._watched = max(self._watched, batch.revision)
        for follower in self._followers:
            if not follower.on_batch(batch):
                self._has_gap = True

    def _apply(self, changes: Sequence[tuple[str, KeyValue | None]]) -> None:
        kept = [change for change in changes if self._keep(*change)] if self._kinds else changes
        for key, entry in kept:
            if entry is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = entry
        for key, entry in kept:
            for callback, wanted in self._subscribers:
                if key.startswith(wanted):
                    callback(key, entry)

    def _keep(self, key: str, entry: KeyValue | None) -> bool:
        """The entries of its kind, if any."""
        for kind, entries in self._kinds.items():
            if key.startswith(kind):
                if entry is None:
                    entries.pop(key, None)
                else:
                    entries[key] = entry
                return True
        return False

    async def _wait_before_retry(self, back_off_s: float, error: Exception) -> float:
        logger.info("mirror of %s: %s; again in %.2f s", self._prefix, error, back_off_s)
        await asyncio.sleep(back_off_s * random.uniform(0.5, 1.0))
        return min(back_off_s * 2, BACK_OFF_S_MAX)

    def _report_death(self, task: asyncio.Task[None]) -> None:
        """A subscriber that raises is a bug; a mirror that stops because of it must be noticed."""
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": f"the mirror of {self._prefix} died", "exception": error}
            task.get_loop().call_exception_handler(context)
