"""What everyone may read: described by OpenAPI, polled, measured, and honest about its age."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from contextlib import closing
from pathlib import Path

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.coordinator.cluster_records import POOL, join_request, node
from tests.unit.coordinator.running_coordinator import (
    KEYS,
    open_cluster,
    register,
    running,
    until,
)

from octad.client.cluster.cluster_documents import MAP_BINARY_TYPE, MAP_PATH
from octad.client.kv.kv_records import KV_PATH
from octad.client.runtime.listener import listen_on
from octad.client.runtime.logs.log_lines import JsonFormatter, LogLine
from octad.coordinator.http.api import OPERATIONS
from octad.coordinator.http.openapi import openapi_document
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.membership.reachability_check import check_reach
from octad.coordinator.schema.records import PoolRecord
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.store.interface import ConfigStore, Put
from octad.sharding.ids import shard_id
from octad.sharding.map.compact_map import decode_map
from octad.sharding.map.shard_map import decode_configuration, encode_configuration
from octad.sharding.map.splitting import split_configuration


async def with_map(store: ConfigStore, coordinator: Coordinator) -> None:
    for number in (1, 2, 3):
        await register(store, node(number))
    await until(lambda: coordinator.status().state == "healthy", "the map stands")


async def value_of(store: ConfigStore, key: str) -> bytes:
    return next(e.value for e in (await store.range(key)).entries if e.key == key)


def test_the_description_holds_every_operation_and_resolves() -> None:
    document = json.loads(msgspec.json.encode(openapi_document("0.1.0")))
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert described == {(operation.method, operation.path) for operation in OPERATIONS}
    assert len(described) == len(OPERATIONS), "no two for one method and path"
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    for operation in OPERATIONS:
        described_one = document["paths"][operation.path][operation.method.lower()]
        is_secret = operation.for_admins or operation.path.startswith(KV_PATH)
        open_to_all = operation.method == "GET" and not is_secret
        assert ("security" in described_one) != open_to_all


async def test_every_described_read_answers_with_what_is_described(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        aiohttp.ClientSession() as session,
    ):
        await with_map(store, coordinator)
        for operation in OPERATIONS:
            if operation.method != "GET" or operation.for_admins or operation.purpose:
                continue
            path = operation.path.replace("{service}", "web").replace("{lock}", "l")
            async with session.get(url + path) as response:
                body = await response.read()
                assert response.status == 200, (path, body)
                if operation.answer not in (None, dict):
                    msgspec.json.decode(body, type=operation.answer)


async def test_the_map_is_polled_and_comes_in_two_forms(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        aiohttp.ClientSession() as session,
    ):
        await with_map(store, coordinator)
        async with session.get(url + MAP_PATH, headers={"Accept": MAP_BINARY_TYPE}) as response:
            decoded = decode_map(await response.read())
            tag = response.headers["ETag"]
            assert (len(decoded.configurations), response.content_type) == (16, MAP_BINARY_TYPE)
        headers = {"Accept": MAP_BINARY_TYPE, "If-None-Match": tag}
        async with session.get(url + MAP_PATH, headers=headers) as response:
            assert response.status == 304
        async with session.get(url + MAP_PATH, headers={"If-None-Match": tag}) as response:
            assert response.status == 200, "another form is another thing"
        polled_at = time.monotonic()
        polling = asyncio.create_task(
            session.get(url + MAP_PATH, params={"wait": "10"}, headers=headers).__aenter__()
        )
        await asyncio.sleep(0.1)
        assert not polling.done()
        await register(store, node(4))
        response = await polling
        assert (response.status, time.monotonic() - polled_at < 5) == (200, True)
        response.release()
        quick = {**headers, "If-None-Match": response.headers["ETag"]}
        async with session.get(url + MAP_PATH, params={"wait": "0.05"}, headers=quick) as response:
            assert response.status == 304


async def test_while_a_pool_is_split_the_binary_map_has_its_upper_halves_too(
    tmp_path: Path,
) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        aiohttp.ClientSession() as session,
    ):
        await with_map(store, coordinator)
        pool = msgspec.json.decode(await value_of(store, KEYS.pool(POOL)), type=PoolRecord)
        low, high = shard_id(POOL, 1), shard_id(POOL, 1 + (1 << pool.depth))
        whole = decode_configuration(await value_of(store, KEYS.shard(low)))
        binary = coordinator.map_binary()
        configurations = zip((low, high), split_configuration(whole), strict=True)
        await store.transact(
            [],
            [
                Put(KEYS.shard(shard), encode_configuration(configuration))
                for shard, configuration in configurations
            ],
        )
        await until(lambda: coordinator.map_binary() != binary, "the split is known")
        async with session.get(url + MAP_PATH, headers={"Accept": MAP_BINARY_TYPE}) as response:
            decoded = decode_map(await response.read())
        assert decoded.configurations[low] == decoded.configurations[high]
        assert set(decoded.shards_of(POOL)) == decoded.configurations.keys()
        assert len(decoded.configurations) == 1 + (1 << pool.depth)


async def test_what_is_served_without_the_store_says_how_old_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        aiohttp.ClientSession() as session,
    ):
        await with_map(store, coordinator)
        monkeypatch.setattr(Coordinator, "age_s", property(lambda _: 77.7))
        monkeypatch.setattr("octad.coordinator.mirror.cluster_feed.ClusterFeed.age_s", 77.7)
        for path in (MAP_PATH, "/cluster/v1/nodes", "/cluster/v1/shards", "/cluster/v1/services"):
            async with session.get(url + path) as response:
                assert (response.status, response.headers["Age"]) == (200, "77")
                assert (await response.json())["age_s"] == 77.7
        async with session.get(url + "/cluster/v1/status") as response:
            document = await response.json()
            assert document["store"]["age_s"] == 77.7
            assert "not answered for 78 s" in document["problems"][0]
        async with session.get(url + "/health/cluster?maintenance=true&node=n1") as response:
            assert response.status == 412, "what is old cannot say that it is safe"


async def test_health_says_whether_a_node_may_go_down(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        aiohttp.ClientSession() as session,
    ):

        async def ask(query: str) -> tuple[int, bool]:
            async with session.get(url + "/health/cluster" + query) as response:
                document = await response.json()
                return response.status, document.get("ok", False)

        assert await ask("") == (503, False)
        lease = [await register(store, node(number)) for number in (1, 2, 3)][-1]
        await until(lambda: coordinator.status().state == "healthy", "the map stands")
        maintenance = "?maintenance=true&node="
        # The node is known once it has joined: registering alone does not make an identity.
        await store.transact([], [Put(KEYS.identities + "1", b'{"id":1,"incarnation":"x"}')])
        await until(lambda: 1 in coordinator._cluster.view().identities, "it is known")
        assert await ask("") == (200, True)
        assert await ask(f"{maintenance}n1") == (200, True)
        assert await ask(f"{maintenance}n9") == (412, False)
        assert (await ask("?maintenance=perhaps"))[0] == 400
        await store.revoke_lease(lease)
        await until(lambda: coordinator.status().state == "degraded", "one is down")
        assert await ask("") == (503, False)
        assert await ask(f"{maintenance}n1") == (412, False)


async def test_metrics_are_readable_and_of_low_cardinality(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        aiohttp.ClientSession() as session,
    ):
        await with_map(store, coordinator)
        for path in ("/nothing-1", "/nothing-2", "/cluster/v1/services/a"):
            async with session.get(url + path):
                pass
        async with session.get(url + "/metrics") as response:
            families = list(text_string_to_metric_families(await response.text()))
        samples = {
            (s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples
        }
        assert samples["octad_coordinator_leading",] == 1
        assert samples["octad_nodes", ("state", "live")] == 3
        assert samples["octad_shards", ("pool", "0"), ("state", "ok")] == 16
        unknown = ("octad_http_requests_total", ("code", "404"), ("route", "unknown"))
        assert samples[unknown] == 2, "paths that do not exist are one"
        pattern = ("route", "/cluster/v1/services/{service}")
        assert samples["octad_http_requests_total", ("code", "200"), pattern] == 1
        ours = {f.name for f in families if not f.name.startswith("process_")}
        assert all(name.startswith("octad_") for name in ours), ours
        openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with session.get(url + "/metrics", headers=openmetrics) as response:
            assert (await response.text()).endswith("# EOF\n")


async def test_without_a_number_of_nodes_the_map_waits_until_nobody_new_comes(
    tmp_path: Path,
) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store, settle_s=0.5) as (coordinator, _),
    ):
        for number in (1, 2, 3, 4, 5):
            await register(store, node(number))
            await asyncio.sleep(0.2)
        assert coordinator.status().state == "forming"
        await until(lambda: coordinator.status().state == "healthy", "the map stands", 2)
        assert all(each.member_of for each in coordinator.status().nodes), "all five hold shards"


async def test_an_address_that_nobody_answers_at_is_refused() -> None:
    with closing(listen_on("127.0.0.1:0", "--listen")) as listener:
        reachable, nobody = f"127.0.0.1:{listener.getsockname()[1]}", "127.0.0.1:1"
        await check_reach(
            join_request(1, rpc_address=reachable, s3_address=reachable), "127.0.0.1:9400"
        )
        with pytest.raises(JoinRefused, match=r"S3 address 127\.0\.0\.1:1.*advertise") as refused:
            await check_reach(join_request(1, rpc_address=reachable, s3_address=nobody), "c:9400")
        assert (refused.value.code, refused.value.passes) == ("unreachable", False)


def test_a_log_line_is_one_json_object() -> None:
    record = logging.LogRecord("octad.x", logging.WARNING, "", 0, "a %s\nb", ("ü",), None)
    text = JsonFormatter().format(record)
    line = msgspec.json.decode(text, type=LogLine)
    assert "\n" not in text
    assert (line.level, line.logger, line.message) == ("warning", "octad.x", "a ü\nb")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.time)
