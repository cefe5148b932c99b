"""The coordinator's HTTP: everyone reads, only holders of the token write, answers are signed."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.unit.coordinator.cluster_records import join_request, node
from tests.unit.coordinator.running_coordinator import (
    KEYS,
    STORE_ADDRESS,
    TOKEN,
    open_cluster,
    register,
    running,
    until,
)
from tests.unit.coordinator_http.signed_requests import signed_for

from octad.client.cluster import request_signer
from octad.client.cluster.internal_auth import AUTHORIZATION_HEADER, verify_answer
from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.status_document import decode_status
from octad.client.runtime.listener import listen_on
from octad.coordinator.http.http_service import REQUEST_BYTES_MAX
from octad.coordinator.membership import join_client
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.membership.join_client import CoordinatorUnreachable, OtherCluster, join
from octad.coordinator.schema.join_messages import AUTH_PURPOSE, JOIN_PATH

NOBODY = "http://127.0.0.1:1"
KEY = TOKEN.key_for(AUTH_PURPOSE)


async def get(url: str, **headers: str) -> tuple[int, bytes, str | None]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers) as response,
    ):
        return response.status, await response.read(), response.headers.get("ETag")


async def send(
    method: str, url: str, body: bytes = b"", authorization: str | None = None
) -> tuple[int, bytes, str | None]:
    headers = {AUTHORIZATION_HEADER: authorization} if authorization else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=body, headers=headers) as response,
    ):
        return response.status, await response.read(), response.headers.get("Octad-Answer-Mac")


async def test_a_node_joins_through_whichever_coordinator_answers(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        answer = await join(f"{NOBODY}, {url}/", TOKEN, join_request(1))
        assert (answer.node, answer.region, answer.store) == (1, "us-east-1", STORE_ADDRESS)


async def test_the_password_of_the_store_does_not_cross_the_network_readably(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        body = json.dumps(
            {f: getattr(join_request(1), f) for f in join_request(1).__struct_fields__}
        ).encode()
        status, answer, _ = await send(
            "POST", url + JOIN_PATH, body, await signed_for(url, KEY, JOIN_PATH, body)
        )
        assert status == 200
        assert b"password" not in answer
        assert b"2379" not in answer


async def test_no_coordinator_no_url_and_a_reason_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CoordinatorUnreachable, match=r"127\.0\.0\.1:1") as unreachable:
        await join(NOBODY, TOKEN, join_request(1))
    assert unreachable.value.passes
    for bad in ("", "localhost:9400", "ftp://h:1", "http://h:1/path"):
        with pytest.raises(ValueError, match="URL"):
            await join(bad, TOKEN, join_request(1))
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        with pytest.raises(JoinRefused, match="weight") as refused:
            await join(url, TOKEN, join_request(1, weight=0))
        assert (refused.value.code, refused.value.passes) == ("bad-weight", False)


async def test_a_token_of_another_cluster_or_another_secret_is_told_so(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        with pytest.raises(OtherCluster, match=r"serves cluster 1a2b3c4d.*is for deadbeef"):
            await join(url, JoinToken("deadbeef", bytes(32)), join_request(1))
        with pytest.raises(OtherCluster, match="does not know the secret"):
            await join(url, JoinToken(TOKEN.cluster, bytes(32)), join_request(1))
        assert (await store.range(KEYS.identities)).entries == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"code":"x","reason":"y","cluster":"1a2b3c4d"}', OtherCluster),
        (b'{"cluster":"1a2b3c4d","node":1,"region":"r","store_sealed":""}', OtherCluster),
        (b"<html>", CoordinatorUnreachable),
    ],
)
async def test_a_false_coordinator_is_not_believed(
    body: bytes, error: type[join_client.JoinFailed]
) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=body, status=200 if b"node" in body else 409)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    listener = listen_on("127.0.0.1:0", "--listen")
    await web.SockSite(runner, listener).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with pytest.raises(error):
            await join(url, TOKEN, join_request(1))
    finally:
        await runner.cleanup()


async def test_a_node_whose_clock_is_wrong_joins_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WrongClock:
        def now_ms(self) -> int:
            return 1_000_000_000_000

    monkeypatch.setattr(request_signer, "SteadyClock", WrongClock)
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        assert (await join(url, TOKEN, join_request(1))).node == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", [JOIN_PATH, "/cluster/v1/map", "/nothing/here"])
async def test_whatever_writes_is_refused_unsigned_before_anything_looks_at_it(
    tmp_path: Path, method: str, path: str
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        status, body, _ = await send(method, url + path, b"{}")
        assert status == 401
        assert json.loads(body)["code"] == "not-authentic"


async def test_a_signed_request_is_taken_once_and_its_answers_are_signed(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        authorization = await signed_for(url, KEY, JOIN_PATH, b"{}")
        status, answer, mac = await send("POST", url + JOIN_PATH, b"{}", authorization)
        assert (status, json.loads(answer)["code"]) == (400, "bad-request")
        verify_answer(KEY, authorization, status, answer, mac)
        status, answer, _ = await send("POST", url + JOIN_PATH, b"{}", authorization)
        assert (status, json.loads(answer)["reason"]) == (401, "the same request was sent before")


async def test_what_does_not_exist_is_told_to_who_may_ask(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        assert (await get(url + "/nothing"))[0] == 404
        for path, expected in (("/nothing", 404), ("/cluster/v1/map", 405)):
            authorization = await signed_for(url, KEY, path, b"")
            status, _, _ = await send("POST", url + path, b"", authorization)
            assert status == expected


async def test_a_body_past_the_limit_is_refused(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        body = bytes(REQUEST_BYTES_MAX + 1)
        assert (await send("POST", url + JOIN_PATH, body))[0] == 413


async def test_the_map_has_what_a_client_needs_and_is_not_sent_twice(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        _, _, early = await get(url + "/cluster/v1/map")
        for number in (1, 2, 3):
            await register(store, node(number))
        await until(lambda: coordinator.status().state == "healthy", "the map stands")
        status, body, tag = await get(url + "/cluster/v1/map")
        document = json.loads(body)
        assert (status, document["format"]) == (200, 1)
        assert document["pools"] == [{"id": 0, "replicas": 3, "depth": 4}]
        assert [n["s3_address"] for n in document["nodes"]] == [
            f"127.0.0.1:900{n}" for n in (1, 2, 3)
        ]
        assert set(document["shards"]) == {f"0/{number}" for number in range(16)}
        assert document["shards"]["0/5"]["epoch"] == 1
        assert tag is not None
        assert tag != early
        for known in (tag, "*", f'"other", {tag}'):
            assert await get(url + "/cluster/v1/map", **{"If-None-Match": known}) == (304, b"", tag)
        lease = await register(store, node(4))
        await until(lambda: f'W/"{coordinator.map_tag()}"' != tag, "the map changed")
        status, body, _ = await get(url + "/cluster/v1/map", **{"If-None-Match": tag})
        assert (status, len(json.loads(body)["nodes"])) == (200, 4)
        _, _, tag = await get(url + "/cluster/v1/map")
        await store.revoke_lease(lease)
        await until(lambda: f'W/"{coordinator.map_tag()}"' != tag, "the map changed again")


async def test_status_nodes_and_shards_agree(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        for number in (1, 2, 3):
            await register(store, node(number))
        await until(lambda: coordinator.status().state == "healthy", "the map stands")
        status = decode_status((await get(url + "/cluster/v1/status"))[1])
        nodes = json.loads((await get(url + "/cluster/v1/nodes"))[1])["nodes"]
        shards = json.loads((await get(url + "/cluster/v1/shards"))[1])["shards"]
        assert [n["name"] for n in nodes] == [n.name for n in status.nodes] == ["n1", "n2", "n3"]
        assert len(shards) == 16
        assert {shard["state"] for shard in shards} == {"ok"}


async def test_health_and_readiness_are_told_apart(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        assert (await get(url + "/healthz"))[:2] == (200, b"ok\n")
        assert (await get(url + "/readyz"))[:2] == (200, b"ready\n")
        await store.close()
        coordinator._mirror.last_confirmed -= 1000
        status, body, _ = await get(url + "/readyz")
        assert (status, json.loads(body)["code"]) == (503, "not-ready")
        assert (await get(url + "/healthz"))[0] == 200
        status, body, _ = await get(url + "/cluster/v1/status")
        assert any("has not answered" in each for each in decode_status(body).problems)
        with pytest.raises(CoordinatorUnreachable, match="closed"):
            await join(url, TOKEN, join_request(1))
