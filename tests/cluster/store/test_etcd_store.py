"""The conformance suites against a real etcd."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.cluster.store.etcd_process import EtcdMember, make_etcd
from tests.cluster.store.etcd_site import EtcdSite
from tests.unit.store.mirror_conformance import MirrorConformance
from tests.unit.store.store_conformance import StoreConformance
from tests.unit.store.store_site import put, until

from octad.chaos.cluster.free_ports import free_port
from octad.coordinator.store.etcd import EtcdStore
from octad.coordinator.store.interface import Revision, StoreUnavailable
from octad.coordinator.store.watching import watching

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    (member,) = make_etcd(tmp_path_factory.mktemp("etcd") / "single")
    member.start()
    try:
        member.wait_until_ready()
        yield member
    finally:
        member.kill()


@pytest.fixture
async def site(member: EtcdMember) -> AsyncIterator[EtcdSite]:
    site = EtcdSite([member])
    await site.empty()
    try:
        yield site
    finally:
        await site.close()


class TestEtcdStore(StoreConformance):
    pass


class TestMirrorOfEtcd(MirrorConformance):
    pass


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_closing_leaves_no_thread_and_no_descriptor(site: EtcdSite) -> None:
    async def use_and_close() -> None:
        store = EtcdStore([site.members[0].url])
        revision = await put(store, "a/1")
        await store.keep_alive(await store.grant_lease(60))
        async with watching(store, "a/", Revision(revision - 1)) as batches:
            assert (await anext(aiter(batches))).revision == revision
        left_open = store.watch("a/", revision)
        waiting = asyncio.ensure_future(anext(left_open))
        await asyncio.sleep(0.05)
        await store.close()
        with pytest.raises(StoreUnavailable):
            await waiting
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.get("a/1")

    threads = set(threading.enumerate())
    await use_and_close()  # What gRPC opens once and for all.
    descriptors = _open_descriptors()
    for _ in range(5):
        await use_and_close()
    await until(lambda: set(threading.enumerate()) <= threads, "all threads end")
    await until(lambda: _open_descriptors() <= descriptors, "all descriptors are closed")


async def test_an_endpoint_that_is_down_is_passed_over(site: EtcdSite) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for urls in ([nobody, site.members[0].url], [nobody, nobody, site.members[0].url]):
        store = EtcdStore(urls)
        assert await store.get("a/1") is None
        revision = await put(store, "b/1")
        async with watching(store, "b/", Revision(revision - 1)) as batches:
            assert (await anext(aiter(batches))).events
        await store.close()


async def test_nobody_there_is_told_soon(site: EtcdSite) -> None:
    store = EtcdStore([f"http://127.0.0.1:{free_port()}"])
    async with asyncio.timeout(2.0):
        with pytest.raises(StoreUnavailable, match="etcd at"):
            await store.get("a/1")
        with pytest.raises(StoreUnavailable, match="etcd at"):
            await put(store, "a/1")
        with pytest.raises(StoreUnavailable, match="etcd at"):
            async with watching(store, "a/", Revision(1)) as batches:
                await anext(aiter(batches))
    await store.close()
