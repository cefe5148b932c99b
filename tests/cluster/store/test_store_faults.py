"""Stores whose servers are killed and frozen, each of the three kinds at the same time.

A writer that repeats what was not acknowledged, a watch that goes on where it ended, and a mirror
live through it; afterwards the three must agree with the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import pytest
from tests.cluster.store.etcd_process import EtcdMember, make_etcd
from tests.cluster.store.etcd_site import leader_of
from tests.cluster.store.hosted_store import KEY, HostedStore

from octad.chaos.cluster.free_ports import free_port
from octad.coordinator.store.etcd import EtcdStore
from octad.coordinator.store.http_client import HttpStore
from octad.coordinator.store.interface import (
    ConfigStore,
    Event,
    LeaseId,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.coordinator.store.mirror import Mirror
from octad.coordinator.store.watching import watching

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

T = TypeVar("T")

FROZEN_S = 20.0
NOTICED_S_MAX = 10.0  # By when a call and a watch of a frozen store have raised.
RECOVERED_S_MAX = 30.0
LEASE_S = 5.0
PAUSE_BETWEEN_PUTS_S = 0.01


Member = EtcdMember | HostedStore  # A process of a store.


class FaultySite:
    """A store in processes, and clients of it."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self._clients: list[ConfigStore] = []

    async def open(self) -> ConfigStore:
        urls = [member.url for member in self.members]
        embedded = isinstance(self.members[0], HostedStore)
        self._clients.append(HttpStore(urls[0], KEY) if embedded else EtcdStore(urls))
        return self._clients[-1]

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def victim(self) -> Member:
        """The member that hurts most: the leader of a cluster."""
        etcd_members = [member for member in self.members if isinstance(member, EtcdMember)]
        return await leader_of(etcd_members) if len(etcd_members) > 1 else self.members[0]


class Witness:
    """Writes, watches and mirrors a prefix through one fault."""

    def __init__(
        self, prefix: str, writer: ConfigStore, watcher: ConfigStore, mirror: Mirror
    ) -> None:
        self._prefix = prefix
        self._writer = writer
        self._watcher = watcher
        self.mirror = mirror
        self.acknowledged: dict[str, Revision] = {}
        self.watched: list[Event] = []
        self.watch_ends = 0
        self.enough = False

    async def write(self) -> None:
        while True:
            key = f"{self._prefix}{len(self.acknowledged):05}"
            with suppress(StoreUnavailable):  # Whether it happened or not: again.
                self.acknowledged[key] = (await self._writer.transact([], [Put(key, b"")])).revision
                if self.enough:  # Not in the middle of a write, which might land unacknowledged.
                    return
            await asyncio.sleep(PAUSE_BETWEEN_PUTS_S)

    async def watch(self, after: Revision) -> None:
        seen = after
        while True:
            try:
                async with watching(self._watcher, self._prefix, seen) as batches:
                    async for batch in batches:
                        self.watched.extend(batch.events)
                        seen = batch.revision
            except StoreUnavailable:
                self.watch_ends += 1
                await asyncio.sleep(0.05)

    async def until_written(self, more: int) -> None:
        """Until so many more keys were acknowledged."""
        goal = len(self.acknowledged) + more
        async with asyncio.timeout(RECOVERED_S_MAX):
            while len(self.acknowledged) < goal:
                await asyncio.sleep(0.01)

    async def check(self) -> None:
        """Once nothing is written any more: no one has missed anything."""
        async with asyncio.timeout(RECOVERED_S_MAX):
            await _until_available(self.mirror.refresh)
            listing = await _until_available(lambda: self._writer.range(self._prefix))
            newest = max(entry.mod_revision for entry in listing.entries)
            while not self.watched or self.watched[-1].revision < newest:
                await asyncio.sleep(0.01)
        assert dict(self.mirror.entries) == {entry.key: entry for entry in listing.entries}
        assert self.acknowledged.keys() == self.mirror.entries.keys()
        revisions = [event.revision for event in self.watched]
        assert revisions == sorted(set(revisions)), "every revision once and in order"
        told = {(event.key, event.revision) for event in self.watched}
        assert told >= set(self.acknowledged.items()), "a watch lost an acknowledged change"
        assert told >= {(entry.key, entry.mod_revision) for entry in listing.entries}


@asynccontextmanager
async def witness_of(site: FaultySite, prefix: str) -> AsyncIterator[Witness]:
    """Checks at the end."""
    writer = await site.open()
    after = (await writer.range(prefix)).revision
    mirror = Mirror(await site.open(), prefix)
    await mirror.start()
    witness = Witness(prefix, writer, await site.open(), mirror)
    tasks = [asyncio.create_task(witness.write()), asyncio.create_task(witness.watch(after))]
    try:
        await witness.until_written(20)
        yield witness
        witness.enough = True
        async with asyncio.timeout(RECOVERED_S_MAX):
            await tasks[0]
        await witness.check()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await mirror.stop()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sequence[Member]]]:
    """An embedded store in a process, one etcd, and a cluster of three."""
    directory = tmp_path_factory.mktemp("faults")
    servers: dict[str, Sequence[Member]] = {
        "embedded": [HostedStore(directory, free_port())],
        "etcd": make_etcd(directory / "etcd"),
        "etcd cluster": make_etcd(directory / "cluster", members=3),
    }
    members = [member for members in servers.values() for member in members]
    for member in members:
        member.start()
    try:
        for member in members:
            member.wait_until_ready()
        yield servers
    finally:
        for member in members:
            member.kill()


@pytest.fixture
async def sites(servers: dict[str, Sequence[Member]]) -> AsyncIterator[dict[str, FaultySite]]:
    sites = {name: FaultySite(members) for name, members in servers.items()}
    yield sites
    for site in sites.values():
        await site.close()


async def test_nothing_is_lost_or_doubled_when_a_server_is_killed_and_restarted(
    sites: dict[str, FaultySite],
) -> None:
    async def kill_and_restart(site: FaultySite) -> None:
        store = await site.open()
        lease = await store.grant_lease(60)
        async with witness_of(site, "killed/") as witness:
            victim = await site.victim()
            victim.kill()
            if len(site.members) > 1:
                await witness.until_written(20)  # The others go on without their leader.
            else:
                await asyncio.sleep(0.5)
            victim.start()
            await asyncio.to_thread(victim.wait_until_ready)
            await witness.until_written(20)
            assert witness.watch_ends > 0 or len(site.members) > 1
        await _until_available(lambda: store.keep_alive(lease))

    await asyncio.gather(*(kill_and_restart(site) for site in sites.values()))


async def test_a_frozen_server_is_noticed_and_nothing_is_missed_after_it_thaws(
    sites: dict[str, FaultySite],
) -> None:
    async def freeze_and_thaw(site: FaultySite) -> None:
        store = await site.open()
        lease = await store.grant_lease(LEASE_S)
        async with witness_of(site, "frozen/") as witness:
            victim = await site.victim()
            victim.freeze()
            frozen_at = time.monotonic()
            if len(site.members) > 1:
                await witness.until_written(20)
            else:
                await _check_unavailable(await site.open(), witness)
            await asyncio.sleep(frozen_at + FROZEN_S - time.monotonic())
            if len(site.members) == 1:
                assert witness.mirror.last_confirmed < frozen_at + 1
            victim.thaw()
            await witness.until_written(20)
            if isinstance(victim, HostedStore):
                await store.keep_alive(lease)  # No one could renew it meanwhile.

    await asyncio.gather(*(freeze_and_thaw(site) for site in sites.values()))


async def _check_unavailable(store: ConfigStore, witness: Witness) -> None:
    ends = witness.watch_ends
    async with asyncio.timeout(NOTICED_S_MAX):
        results = await asyncio.gather(
            store.get("any"),
            store.range("any"),
            store.transact([], [Put("b/unknown", b"")]),
            store.keep_alive(LeaseId(1)),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [StoreUnavailable] * len(results)
        while witness.watch_ends == ends:
            await asyncio.sleep(0.01)


async def _until_available(call: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(RECOVERED_S_MAX):
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
