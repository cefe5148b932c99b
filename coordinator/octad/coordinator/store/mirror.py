"""All keys of a prefix, kept current in memory by list and watch.

The mirror only moves forward: a change older than what it shows is dropped. When a watch ends, it
goes on from the last revision; when that is compacted, or the store came back with less than it
had, it lists again. Subscribers see each key's newest state in revision order, not every state
between: what happened while the mirror was cut off arrives as one difference.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

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
NOTHING_BELOW = "\0"  # prefix + this is a prefix that no key has: a cheap way to read the revision.

Subscriber = Callable[[str, KeyValue | None], None]

logger = logging.getLogger(__name__)


class Mirror:
    """One prefix of `store`. Use: `await start()`, read `entries`, `await stop()`."""

    def __init__(self, store: ConfigStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._entries: dict[str, KeyValue] = {}
        self._subscribers: list[Subscriber] = []
        self._task: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self.entries: Mapping[str, KeyValue] = MappingProxyType(self._entries)
        self.revision = Revision(0)
        self.last_confirmed = float("-inf")  # By time.monotonic(): it was known to be current.

    async def start(self) -> None:
        """Returns once the first listing is in, however long the store takes."""
        assert self._task is None, "started twice"
        back_off_s = BACK_OFF_S_MIN
        while True:
            try:
                await self._list()
                break
            except StoreUnavailable as error:
                back_off_s = await self._wait_before_retry(back_off_s, error)
        self._task = asyncio.create_task(self._follow(), name=f"mirror {self._prefix}")
        self._task.add_done_callback(self._report_death)

    async def stop(self) -> None:
        """Entries stay as they are. Raises what a subscriber raised."""
        tasks = [task for task in (self._task, self._refreshing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._task is not None and not self._task.cancelled():
            self._task.result()

    def subscribe(self, callback: Subscriber) -> None:
        """`callback(key, newest state or None)` for what is here already and for every change.

        It is called on the loop, when `entries` and `revision` show the whole change.
        """
        self._subscribers.append(callback)
        for key, entry in list(self._entries.items()):
            callback(key, entry)

    async def refresh(self) -> None:
        """Returns once the mirror shows at least what a linearizable read made now would.

        Raises StoreUnavailable. Callers who wait share the reads.
        """
        begun = self._refreshing
        if begun is not None and not begun.done():
            await asyncio.wait([begun])  # Its read may be older than this call; the next is not.
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    async def reach(self, revision: Revision) -> Revision:
        """Refresh what may be older than `revision`; what it shows then is at least as new as told.

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

    async def _follow(self) -> None:
        back_off_s = BACK_OFF_S_MIN
        while True:
            try:
                async with watching(self._store, self._prefix, self.revision) as batches:
                    async for batch in batches:
                        self._take_batch(batch)
                        back_off_s = BACK_OFF_S_MIN
                raise StoreUnavailable("the watch ended")
            except StoreUnavailable as error:
                back_off_s = await self._wait_before_retry(back_off_s, error)
            except Compacted as error:
                back_off_s = await self._wait_before_retry(back_off_s, error)
                await self._list_again()

    async def _list_again(self) -> None:
        try:
            await self._list()
        except StoreUnavailable as error:
            logger.info("mirror of %s: %s", self._prefix, error)

    async def _list(self) -> None:
        asked_at, before = time.monotonic(), self.revision
        listing = await self._store.range(self._prefix)
        # Older than a watch that went on meanwhile: nothing new in it. Older than what was here
        # when it was asked for: the store lost its data and was filled again.
        if listing.revision >= self.revision or before == self.revision:
            self._take_listing(listing)
        self.last_confirmed = max(self.last_confirmed, asked_at)

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

    def _apply(self, changes: Sequence[tuple[str, KeyValue | None]]) -> None:
        for key, entry in changes:
            if entry is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = entry
        for key, entry in changes:
            for callback in self._subscribers:
                callback(key, entry)

    async def _wait_before_retry(self, back_off_s: float, error: Exception) -> float:
        logger.info("mirror of %s: %s; again in %.2f s", self._prefix, error, back_off_s)
        await asyncio.sleep(back_off_s * random.uniform(0.5, 1.0))
        return min(back_off_s * 2, BACK_OFF_S_MAX)

    def _report_death(self, task: asyncio.Task[None]) -> None:
        """A subscriber that raises is a bug, and a mirror that stands still must not go unseen."""
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": f"the mirror of {self._prefix} died", "exception": error}
            task.get_loop().call_exception_handler(context)
