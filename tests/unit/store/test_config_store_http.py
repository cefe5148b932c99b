"""The embedded store's HTTP face towards strangers, and its clients towards impostors."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.unit.store.store_site import put

from octad.client.core.internal_auth import AUTHORIZATION_HEADER, NONCE_BYTES, sign
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.http_client import HttpStore
from octad.coordinator.store.http_face import HttpFace
from octad.coordinator.store.interface import ConfigStore, Revision, StoreUnavailable
from octad.coordinator.store.watching import watching

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    store = await EmbeddedStore.open(tmp_path / "store.db")
    yield store
    await store.close()


@pytest.fixture
async def url(embedded: EmbeddedStore) -> AsyncIterator[str]:
    face = HttpFace(embedded, KEY)
    yield await face.start("127.0.0.1")
    await face.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def _post(
    session: aiohttp.ClientSession, url: str, path: str, body: bytes, authorization: str | None
) -> int:
    headers = {AUTHORIZATION_HEADER: authorization} if authorization is not None else {}
    async with session.post(url + path, data=body, headers=headers) as response:
        return response.status


def _signed(path: str, body: bytes, key: bytes = KEY, method: str = "POST") -> str:
    """As of a moment after the server's start, whose own millisecond is refused."""
    now_ms = time.time_ns() // 1_000_000 + 1
    return sign(key, method, path, body, now_ms, os.urandom(NONCE_BYTES))


PUT = b'{"compares":[],"operations":[{"key":"a/1","value":"QQ=="}]}'
OTHER_PUT = PUT.replace(b"a/1", b"a/2")
TRANSACT = "/config/v1/transact"


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        (TRANSACT, lambda: None),
        (TRANSACT, lambda: ""),
        (TRANSACT, lambda: "Basic cm9vdDpyb290"),
        (TRANSACT, lambda: _signed(TRANSACT, PUT, OTHER_KEY)),
        (TRANSACT, lambda: _signed(TRANSACT, OTHER_PUT)),
        (TRANSACT, lambda: _signed("/config/v1/range", PUT)),
        (TRANSACT, lambda: _signed(TRANSACT, PUT, method="GET")),
        (TRANSACT + "?x=1", lambda: _signed(TRANSACT, PUT)),
        ("/config/v1/watch", lambda: None),
        ("/config/v1/no-such-call", lambda: None),
        ("/", lambda: None),
        ("/metrics", lambda: None),
    ],
)
async def test_whatever_is_not_signed_for_exactly_this_request_is_refused(
    embedded: EmbeddedStore,
    url: str,
    session: aiohttp.ClientSession,
    path: str,
    authorization: Callable[[], str | None],
) -> None:
    assert await _post(session, url, path, PUT, authorization()) == 401
    assert (await embedded.range("")).entries == []
    assert await _post(session, url, TRANSACT, PUT, _signed(TRANSACT, PUT)) == 200


async def test_a_request_that_was_recorded_cannot_be_sent_again(
    embedded: EmbeddedStore, url: str, session: aiohttp.ClientSession
) -> None:
    authorization = _signed(TRANSACT, PUT)
    assert await _post(session, url, TRANSACT, PUT, authorization) == 200
    revision = (await embedded.range("")).revision
    assert await _post(session, url, TRANSACT, PUT, authorization) == 401
    assert (await embedded.range("")).revision == revision


async def test_a_signed_request_for_nothing_is_told_so(
    url: str, session: aiohttp.ClientSession
) -> None:
    for path in ("/", "/config/v1/no-such-call", "/config/v1/watch"):
        authorization = _signed(path, b"{}")
        assert await _post(session, url, path, b"{}", authorization) == 400


async def test_a_client_with_another_secret_gets_nothing(url: str) -> None:
    stranger = HttpStore(url, OTHER_KEY)
    with pytest.raises(StoreUnavailable, match="secret"):
        await stranger.get("a/1")
    with pytest.raises(StoreUnavailable, match="secret"):
        async with watching(stranger, "a/", Revision(1)) as batches:
            await anext(aiter(batches))
    await stranger.close()


@pytest.mark.parametrize("offset_ms", [-86_400_000, 86_400_000])
async def test_a_client_whose_clock_is_wrong_learns_the_time_and_goes_on(
    embedded: EmbeddedStore, url: str, monkeypatch: pytest.MonkeyPatch, offset_ms: int
) -> None:
    wrong_ns = time.time_ns() + offset_ms * 1_000_000
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: wrong_ns)
        clients = HttpStore(url, KEY), HttpStore(url, KEY)
    revision = await put(clients[0], "a/1")
    async with watching(clients[1], "a/", Revision(revision - 1)) as batches:
        assert (await anext(aiter(batches))).revision == revision
    for client in clients:
        await client.close()


async def test_an_answer_of_somebody_else_is_not_believed(session: aiohttp.ClientSession) -> None:
    async def lie(request: web.Request) -> web.Response:
        return web.json_response(None)

    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", lie)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    store = HttpStore(f"http://{host}:{port}", KEY)
    with pytest.raises(StoreUnavailable, match="not signed"):
        await store.get("a/1")
    await store.close()
    await runner.cleanup()


async def test_a_face_that_stops_ends_its_watches_at_once(embedded: EmbeddedStore) -> None:
    face = HttpFace(embedded, KEY)
    store = HttpStore(await face.start("127.0.0.1"), KEY)
    revision = await put(store, "a/1")

    async def watch(store: ConfigStore) -> None:
        async with watching(store, "a/", revision) as batches:
            async for _ in batches:
                seen.set()

    seen = asyncio.Event()
    task = asyncio.create_task(watch(store))
    await put(store, "a/2")
    await seen.wait()
    async with asyncio.timeout(1.0):
        await face.stop()
        with pytest.raises(StoreUnavailable):
            await task
    with pytest.raises(StoreUnavailable):
        await store.get("a/1")
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get("a/1")


async def test_a_port_in_use_is_an_error_at_the_start(embedded: EmbeddedStore, url: str) -> None:
    face = HttpFace(embedded, KEY)
    with pytest.raises(OSError, match="in use"):
        await face.start("127.0.0.1", int(url.rpartition(":")[2]))
