"""Everything that happens to the cluster's public keys, as one ordered feed for many watchers.

The coordinator's mirror feeds it the changes: a watcher is only a position in a history that all
share, so a slow one costs nothing but its own connection. A coordinator that starts reads back some
of the store's history, so that watchers of another coordinator go on here without a gap. What
cannot be continued (compacted, or the store came back with less than it had) is begun again with a
reset, never silently.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from octad.client.cluster.view_age import OLD_S, is_old
from octad.client.membership.event_document import (
    PUBLIC_KINDS,
    ClusterEvent,
    EventsDocument,
    WatchToken,
    encode_sse,
    encode_token,
)
from octad.client.runtime.change_signal import ChangeSignal
from octad.coordinator.mirror.event_history import EventHistory, is_public
from octad.coordinator.schema.cluster_view import BadRecord, decode_record
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import (
    Compacted,
    ConfigStore,
    EventBatch,
    KeyValue,
    Listing,
    Revision,
    StoreUnavailable,
)
from octad.coordinator.store.mirror import NOTHING_BELOW, Mirror

WATCH_CHANGES_KEPT_MAX = 10_000  # Changes retained for watchers that reconnect.
WATCH_CHANGES_READ_BACK = 2_000  # Revisions, by a coordinator that has just started.

CATCH_UP_S_MAX = 5.0
REACH_S_MAX = 2.0
_REACH_SOON_S = 0.2  # An event arrives within this time if there is one.
_ANSWERS_MAX = 256
_AGING_LATE_S = 0.1  # Ages are shown in tenths of a second: by then it shows as old.
NO_LIFE = "0"  # For a store that was filled before there were lives.

log = logging.getLogger(__name__)


class NotAsNew(Exception):
    """This coordinator could not make sure in time that it knows what happened up to a revision."""

    def __init__(self, revision: Revision) -> None:
        super().__init__(f"this coordinator has not come to revision {revision} yet")


class FutureRevision(Exception):
    """This store cannot have shown it to anyone."""

    def __init__(self, revision: Revision, newest: Revision) -> None:
        super().__init__(
            f"min_revision={revision}: the configuration store has only come to {newest}"
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where a watcher has seen everything; worth nothing once the feed began again."""

    beginning: int
    revision: Revision


@dataclass(frozen=True, slots=True)
class Told:
    """An answer to a watcher, and the watcher's position after it."""

    document: EventsDocument
    position: Position


# Prefix, position, what the feed has come to, its age in seconds, and whether that is old.
_Asked = tuple[str, Position | None, Revision, int, bool]


class ClusterFeed:
    """A follower of the mirror. Use: `await current()`, then `next` for each watcher."""

    def __init__(self, store: ConfigStore, keys: StoreKeys, mirror: Mirror) -> None:
        self.history = EventHistory(keys.prefix, WATCH_CHANGES_KEPT_MAX)
        self.resets_told = 0
        self._store = store
        self._mirror = mirror
        self._prefix = keys.prefix
        self._life_key = keys.life
        self.life = NO_LIFE
        self._changed = ChangeSignal()
        self._beginning = 0
        self._newest_known = Revision(0)  # The store's revision, over all of its keys.
        self._confirmed = float("-inf")  # By time.monotonic().
        self._aging: asyncio.TimerHandle | None = None
        self._proved: dict[str, Revision] = {}  # By kind: it is shown as it was then.
        self._proving = asyncio.Lock()
        self._wanted: Listing | None = None  # To be reached before anyone is served.
        self._caught_up = asyncio.Event()
        # What many watchers share until the next change.
        self._answers: dict[_Asked, Told] = {}
        self._encoded: dict[tuple[str, Position | None, Position, int], bytes] = {}

    def stop(self) -> None:
        """After the mirror."""
        if self._aging is not None:
            self._aging.cancel()

    @property
    def age_s(self) -> float:
        """Seconds since the store last confirmed the feed's state."""
        return max(0.0, time.monotonic() - self._confirmed)

    async def current(self) -> None:
        """Returns once the feed has caught up with its start; raises StoreUnavailable."""
        try:
            async with asyncio.timeout(CATCH_UP_S_MAX):
                await self._caught_up.wait()
        except TimeoutError as error:
            raise StoreUnavailable("this coordinator has not caught up with it yet") from error

    async def reach(self, kind: str, revision: Revision) -> None:
        """Returns once keys of `kind` are shown as they were at `revision`, or later.

        Raises NotAsNew, FutureRevision, StoreUnavailable.
        """
        try:
            async with asyncio.timeout(REACH_S_MAX):
                while self._shown(kind) < revision:
                    try:
                        async with asyncio.timeout(_REACH_SOON_S):
                            await self._changed.wait()
                    except TimeoutError:
                        await self._prove(kind, revision)
        except TimeoutError as error:
            raise NotAsNew(revision) from error

    def _shown(self, kind: str) -> Revision:
        return max(self.history.revision, self._proved.get(kind, Revision(0)))

    async def _prove(self, kind: str, revision: Revision) -> None:
        """Prove that nothing newer exists: no event ever says so.

        Needed when keys outside the cluster's move the store's revision. Concurrent callers
        share one proof.
        """
        async with self._proving:
            if self._shown(kind) >= revision:
                return
            listing = await self._store.range(self._prefix + kind)
            if listing.revision < revision:
                raise FutureRevision(revision, listing.revision)
            if self.history.shows(listing.entries, kind):
                self._proved[kind] = listing.revision

    async def position_of(self, token: WatchToken | None) -> Position | None:
        """Returns the position of a resume token; None if it is unknown here.

        Raises StoreUnavailable when only the store knows.
        """
        if token is None or token.life != self.life:
            return None
        revision = Revision(token.revision)
        if revision > max(self.history.revision, self._newest_known):
            # Another coordinator may be ahead of this one; or the store has lost what it had.
            listing = await self._store.range(self._prefix + NOTHING_BELOW)
            self._newest_known = listing.revision
            if revision > listing.revision:
                return None
        return Position(self._beginning, revision)

    async def next(self, name_prefix: str, position: Position | None, wait_s: float) -> Told:
        """Returns the events after `position`: at once if there are any, else within `wait_s`.

        Returns earlier, without events, when the view grows old meanwhile.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        was_old = is_old(self.age_s)
        while True:
            told = self._told(name_prefix, position)
            remaining = deadline - loop.time()
            grew_old = is_old(told.document.age_s) and not was_old
            if told.document.reset or told.document.events or grew_old or remaining <= 0:
                self.resets_told += told.document.reset
                return told
            try:
                async with asyncio.timeout(remaining):
                    await self._changed.wait()
            except TimeoutError:
                return self._told(name_prefix, position)

    def sse(self, name_prefix: str, before: Position | None, told: Told) -> bytes:
        """Returns `told` as a server-sent event, encoded once for all watchers that share it."""
        key = (name_prefix, before, told.position, int(told.document.age_s))
        encoded = self._encoded.get(key)
        if encoded is None:
            encoded = self._encoded[key] = encode_sse(told.document)
        return encoded

    def _told(self, name_prefix: str, position: Position | None) -> Told:
        """Made once for all watchers that share it: a first state costs as much as it is long."""
        age_s = self.age_s
        key = (name_prefix, position, self.history.revision, int(age_s), is_old(age_s))
        told = self._answers.get(key)
        if told is None:
            if len(self._answers) >= _ANSWERS_MAX:
                self._answers.clear()
            told = self._answers[key] = self._answer(name_prefix, position)
        return told

    def _answer(self, name_prefix: str, position: Position | None) -> Told:
        history = self.history
        events = None
        if position is not None and position.beginning == self._beginning:
            events = history.since(name_prefix, position.revision)
        if position is None or events is None:
            at = Position(self._beginning, history.revision)
            state = tuple(history.state(name_prefix))
            return Told(self._document(at.revision, True, state), at)
        at = Position(self._beginning, max(history.revision, position.revision))
        return Told(self._document(at.revision, False, tuple(events)), at)

    def _document(
        self, revision: Revision, reset: bool, events: tuple[ClusterEvent, ...]
    ) -> EventsDocument:
        token = encode_token(WatchToken(self.life, revision))
        return EventsDocument(revision, reset, events, round(self.age_s, 1), token)

    # -- events of the mirror ------------------------------------------------------------------

    async def on_gap(self) -> Revision:
        """The state as of some time ago, from where the mirror's watch plays forward to now."""
        mirror, confirmed_at = self._mirror, self._mirror.last_confirmed
        public = [entry for key, entry in mirror.entries.items() if self._is_public(key)]
        newest = Listing(mirror.revision, public)
        life = mirror.entries.get(self._life_key)
        born = Revision(1) if life is None else life.mod_revision  # No token is from before that.
        past = Revision(max(born, newest.revision - WATCH_CHANGES_READ_BACK))
        try:
            start = await self._list(await self._oldest_kept(past, newest.revision))
        except Compacted:  # Meanwhile: without the past, then.
            start = newest
        self.history.restart(start.revision, start.entries)
        self._proved.clear()
        self._beginning += 1
        self.life = _life_of(life)
        self._newest_known = newest.revision
        self._wanted = newest
        self._confirm(confirmed_at)
        self._after_change()
        return start.revision

    def on_batch(self, batch: EventBatch) -> bool:
        if any(e.key == self._life_key and self._is_another(e.entry) for e in batch.events):
            return False
        changed = self.history.take(batch)
        self._confirm(time.monotonic())
        if changed or self._wanted is not None:
            self._after_change()
        return True

    def _is_another(self, life: KeyValue | None) -> bool:
        """Whether the store was filled anew since the feed began."""
        return life is not None and _life_of(life) != self.life

    async def _oldest_kept(self, first: Revision, last: Revision) -> Revision:
        """The oldest of the revisions `first` to `last` that the store has not compacted."""
        kept = last
        asked = first  # All of them, as a rule.
        while first < kept:
            try:
                await self._store.range(self._prefix + NOTHING_BELOW, asked)
                kept = asked
            except Compacted:
                first = Revision(asked + 1)
            asked = Revision((first + kept) // 2)
        return kept

    async def _list(self, revision: Revision) -> Listing:
        """All public keys as of one revision."""
        entries: list[KeyValue] = []
        for kind in PUBLIC_KINDS:
            entries.extend((await self._store.range(self._prefix + kind, revision)).entries)
        return Listing(revision, entries)

    def _is_public(self, key: str) -> bool:
        return is_public(key.removeprefix(self._prefix))

    def _confirm(self, at: float) -> None:
        """The view is as the store was at that time."""
        self._confirmed = at
        if self._aging is not None:
            self._aging.cancel()
        loop = asyncio.get_running_loop()
        until_old_s = OLD_S + _AGING_LATE_S - self.age_s
        self._aging = loop.call_later(until_old_s, self._changed.notify)

    def _after_change(self) -> None:
        self._answers.clear()
        self._encoded.clear()
        if self._wanted is not None:
            if self.history.revision < self._wanted.revision and not self.history.shows(
                self._wanted.entries
            ):
                return
            self._wanted = None
            self._caught_up.set()
        self._changed.notify()


def shown_age(age_s: float) -> float:
    """Returns the age for documents: without any answer of the store it is very high."""
    return round(min(age_s, 1e9), 1)


def _life_of(entry: KeyValue | None) -> str:
    try:
        return NO_LIFE if entry is None else decode_record(entry, str)
    except BadRecord as error:  # Watchers begin again each time; the mirror serves others, too.
        log.error("cannot read which life of the configuration store this is: %s", error)
        return NO_LIFE
