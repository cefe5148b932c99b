"""What the store tests need of a store under test, and small steps that they share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import pytest

from octad.coordinator.store.interface import ConfigStore, Event, LeaseId, Put, Revision
from octad.coordinator.store.watching import watching

SOON_S = 10.0  # Bounds every wait; only a failing test comes near it.


class Site(ABC):
    """A running store that tests may open as often as they like, each time as another client."""

    lease_s = 0.5  # The shortest lease that it keeps exactly.

    @abstractmethod
    async def open(self) -> ConfigStore:
        """Another client's connection; the site closes it in the end."""

    @abstractmethod
    async def forget_history(self) -> None:
        """Afterwards only what comes later can be watched."""


async def put(store: ConfigStore, key: str, value: bytes = b"", lease: int = 0) -> Revision:
    outcome = await store.transact([], [Put(key, value, LeaseId(lease))])
    assert outcome.succeeded
    return outcome.revision


async def revision_of(store: ConfigStore) -> Revision:
    return (await store.range("no such prefix")).revision


async def events_until(store: ConfigStore, after: Revision, last: Revision) -> list[Event]:
    """What a watch of `a/` tells between two revisions; checks that revisions come whole."""
    events: list[Event] = []
    async with asyncio.timeout(SOON_S), watching(store, "a/", after) as batches:
        async for batch in batches:
            assert all(event.revision <= batch.revision for event in batch.events)
            assert not events or not batch.events or events[-1].revision < batch.events[0].revision
            events.extend(batch.events)
            if batch.revision >= last:
                break
    return events


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for `condition`; the test fails with `what` if it does not come."""
    try:
        async with asyncio.timeout(SOON_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"never happened: {what}")


def plain(events: Sequence[Event]) -> list[tuple[str, bytes | None, int]]:
    """Events as (key, value or None, revision)."""
    return [(e.key, e.entry.value if e.entry else None, e.revision) for e in events]
