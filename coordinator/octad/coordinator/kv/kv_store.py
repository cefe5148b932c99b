"""Settings in the configuration store, and a copy of all of them in memory, for reads and watches.

They stand outside the cluster's own keys, so that nodes, which watch those, hear nothing of them.
Reads answer from the copy, also while the store is away, and say how old it is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

from octad.client.kv.kv_records import (
    KvAnswer,
    KvEntry,
    KvKey,
    KvKeys,
    check_key,
    check_prefix,
    check_value,
)
from octad.client.runtime.change_signal import ChangeSignal
from octad.coordinator.kv.kv_changes import KvChanges, KvSeen
from octad.coordinator.mirror.cluster_feed import REACH_S_MAX, NotAsNew, shown_age
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import ConfigStore, KeyValue, Revision, StoreUnavailable
from octad.coordinator.store.mirror import Mirror

_ATTEMPTS = 20
_AGAIN_S = 0.02


class KvStore:
    """Use: `await start()`, `await stop()`."""

    def __init__(self, store: ConfigStore, keys: StoreKeys) -> None:
        self._store = store
        self._keys = keys
        self._mirror = Mirror(store, keys.kv)
        self._changes = KvChanges()
        self._changed = ChangeSignal()
        self._writing = asyncio.Lock()  # All changes compare the one count.

    async def start(self) -> None:
        """Returns once all keys have been read, however long the store takes."""
        self._mirror.subscribe(self._on_change, self._keys.kv)
        await self._mirror.start()
        self._changes.begin(self._mirror.revision)

    async def stop(self) -> None:
        await self._mirror.stop()

    @property
    def age_s(self) -> float:
        """Seconds since the store last confirmed what reads show."""
        return max(0.0, time.monotonic() - self._mirror.last_confirmed)

    async def change(self, name: str, value: bytes | None, if_revision: int | None) -> KvAnswer:
        """Set a key, or delete it (None); returns once every later read here shows it.

        Raises BadKey, OtherRevision, KvFull, BadRecord, StoreUnavailable.
        """
        check_key(name)
        check_value(name, value or b"")
        key = self._keys.kv + name
        async with self._writing:
            for attempt in range(_ATTEMPTS):
                entry, usage = await asyncio.gather(
                    self._store.get(key), self._store.get(self._keys.kv_usage)
                )
                seen = KvSeen(key, name, entry, self._keys.kv_usage, usage)
                compares, operations = seen.change(value, if_revision)
                if value is None and entry is None:
                    return KvAnswer(0)
                outcome = await self._store.transact(compares, operations)
                if outcome.succeeded:
                    break
                await asyncio.sleep(_AGAIN_S * attempt * random.random())
            else:
                raise StoreUnavailable(f"others keep changing settings while {name} is changed")
        await self.reach(outcome.revision)
        return KvAnswer(outcome.revision)

    async def get(self, name: str, after: int | None, wait_s: float) -> KvEntry:
        """The key; with `after`, once it may have changed since, or after `wait_s`.

        Raises BadKey.
        """
        check_key(name)
        await self._until_changed(lambda changed: changed == name, after, wait_s)
        mirror = self._mirror
        entry = mirror.entries.get(self._keys.kv + name)
        value, revision = (None, 0) if entry is None else (entry.value, entry.mod_revision)
        return KvEntry(name, value, revision, mirror.revision, shown_age(self.age_s))

    async def list(self, prefix: str, after: int | None, wait_s: float) -> KvKeys:
        """The same of the keys that begin with `prefix`."""
        check_prefix(prefix)
        await self._until_changed(lambda changed: changed.startswith(prefix), after, wait_s)
        start, mirror = self._keys.kv + prefix, self._mirror
        keys = tuple(
            KvKey(key.removeprefix(self._keys.kv), entry.mod_revision, len(entry.value))
            for key, entry in sorted(mirror.entries.items())
            if key.startswith(start)
        )
        return KvKeys(keys, mirror.revision, shown_age(self.age_s))

    async def reach(self, revision: Revision) -> None:
        """Returns once reads show `revision`, of a change of a setting; raises NotAsNew."""
        try:
            async with asyncio.timeout(REACH_S_MAX):
                while self._mirror.revision < revision:
                    await self._changed.wait()
        except TimeoutError as error:
            raise NotAsNew(revision) from error

    async def _until_changed(
        self, which: Callable[[str], bool], after: int | None, wait_s: float
    ) -> None:
        if after is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not self._changes.may_have(which, after):
                    await self._changed.wait()

    def _on_change(self, key: str, _entry: KeyValue | None) -> None:
        """The mirror's revision is that of the last change that it was told of along with this."""
        self._changes.add(self._mirror.revision, key.removeprefix(self._keys.kv))
        self._changed.notify()
