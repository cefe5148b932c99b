"""The embedded store's HTTP face towards strangers, and its clients towards impostors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.unit.coordinator_http.signed_requests import Challenge, challenge_of, signed, signed_for
from tests.unit.store.store_site import put

from octad.client.cluster.internal_auth import AUTHORIZATION_HEADER
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.http_client import HttpStore
from octad.coordinator.store.http_server import HttpFace
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


PUT = b'{"compares":[],"operations":[{"key":"a/1","value":"QQ=="}]}'
OTHER_PUT = PUT.replace(b"a/1", b"a/2")
TRANSACT = "/config/v1/transact"


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        (TRANSACT, lambda _: None),
        (TRANSACT, lambda _: ""),
        (TRANSACT, lambda _: "Basic cm9vdDpyb290"),
        (TRANSACT, lambda challenge: signed(challenge, OTHER_KEY, TRANSACT, PUT)),
        (TRANSACT, lambda challenge: signed(challenge, KEY, TRANSACT, OTHER_PUT)),
        (TRANSACT, lambda challenge: signed(challenge, KEY, "/config/v1/range", PUT)),
        (TRANSACT, lambda challenge: signed(challenge, KEY, TRANSACT, PUT, method="GET")),
        (TRANSACT + "?x=1", lambda challenge: signed(challenge, KEY, TRANSACT, PUT)),
        ("/config/v1/watch", lambda _: None),
        ("/config/v1/no-such-call", lambda _: None),
        ("/", lambda _: None),
        ("/metrics", lambda _: None),
    ],
)
async def test_whatever_is_not_signed_for_exactly_this_request_is_refused(
    embedded: EmbeddedStore,
    url: str,
    session: aiohttp.ClientSession,
    path: str,
    authorization: Callable[[Challenge], str | None],
) -> None:
    challenge = await challenge_of(url, TRANSACT, KEY)
    assert await _post(session, url, path, PUT, authorization(challenge)) == 401
    assert (await embedded.range("")).entries == []
    assert await _post(session, url, TRANSACT, PUT, signed(challenge, KEY, TRANSACT, PUT)) == 200


async def test_a_request_that_was_recorded_cannot_be_sent_again(
    embedded: EmbeddedStore, url: str, session: aiohttp.ClientSession
) -> None:
    authorization = await signed_for(url, KEY, TRANSACT, PUT)
    assert await _post(session, url, TRANSACT, PUT, authorization) == 200
    revision = (await embedded.range("")).revision
    assert await _post(session, url, TRANSACT, PUT, authorization) == 401
    assert (await embedded.range("")).revision == revision


async def test_what_was_recorded_on_its_way_to_one_process_is_refused_by_another(
    embedded: EmbeddedStore, url: str, session: aiohttp.ClientSession
) -> None:
    """The next life of the store's process has seen none of the nonces."""
    authorization = await signed_for(url, KEY, TRANSACT, PUT)
    another = HttpFace(embedded, KEY)
    try:
        another_url = await another.start("127.0.0.1")
        assert await _post(session, another_url, TRANSACT, PUT, authorization) == 401
        assert (await embedded.range("")).entries == []
        assert await _post(session, url, TRANSACT, PUT, authorization) == 200
    finally:
        await another.stop()


async def test_a_signed_request_for_nothing_is_told_so(
    url: str, session: aiohttp.ClientSession
) -> None:
    for path in ("/", "/config/v1/no-such-call", "/config/v1/watch"):
        authorization = await signed_for(url, KEY, path, b"{}")
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
