"""The leader's checks against real sockets: told to watchers, and never outside the networks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.coordinator.running_coordinator import KEYS, TOKEN, open_cluster, running, until

from octad.client.cluster.service_records import BadRegistration, InstanceCheck, ServiceInstance
from octad.client.cluster.service_token import service_token
from octad.client.membership import CallRefused, passes, register
from octad.coordinator.checks import checker, probes
from octad.coordinator.checks.check_rules import parse_networks
from octad.coordinator.checks.probes import probe
from octad.coordinator.membership.instance_checks import carried_over, judged, told_of
from octad.coordinator.server.coordinator import Coordinator

HERE = "127.0.0.0/8"
SERVICE_TOKEN = service_token(TOKEN)
NETWORKS = parse_networks(HERE)
QUICK = InstanceCheck(kind="http", path="/health", interval_s=1.0, timeout_s=0.5)


class Server:
    """Answers whatever it is told to, and counts who asked for what."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\n\r\n"
        self.asked: list[bytes] = []
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append(await reader.readline())
            writer.write(self.answer)
            await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    made = Server()
    listener = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        listener.close()


def shown(coordinator: Coordinator) -> list[ServiceInstance]:
    state = coordinator.feed.history.state("services/")
    return [msgspec.json.decode(each.value, type=ServiceInstance) for each in state]


async def test_a_check_passes_by_connecting_or_by_a_status_and_nothing_else() -> None:
    async with server() as web:
        tcp = InstanceCheck(kind="tcp", timeout_s=5.0)
        http = InstanceCheck(kind="http", path="/health", timeout_s=5.0)
        assert await probe(web.address, tcp, NETWORKS)
        assert await probe(web.address, http, NETWORKS)
        assert web.asked[-1] == b"GET /health HTTP/1.1\r\n"
        for answer in (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            b"HTTP/1.1 500 no\r\n\r\n",
            b"HTTP/1.1 200" + b" " * 5000,  # A line without end is not waited for.
        ):
            web.answer, asked = answer, len(web.asked)
            assert not await probe(web.address, http, NETWORKS)
            assert len(web.asked) == asked + 1, "once, and no redirect is followed"
        web.answer = b""
        silent = InstanceCheck(kind="http", timeout_s=0.05)
        assert not await probe(web.address, silent, NETWORKS)
        port = int(web.address.rpartition(":")[2])
        elsewhere = InstanceCheck(kind="tcp", port=port, timeout_s=5.0)
        assert await probe("127.0.0.1:1", elsewhere, NETWORKS)
    assert not await probe(web.address, tcp, NETWORKS), "no one listens any more"


async def test_nothing_is_connected_to_outside_the_networks_whatever_a_name_leads_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with server() as web:
        tcp = InstanceCheck(kind="tcp", timeout_s=5.0)
        port = web.address.rpartition(":")[2]
        other = parse_networks("10.0.0.0/8")
        assert not await probe(web.address, tcp, other)
        looked_up: list[str] = []

        async def rebinding(host: str) -> list[str]:
            looked_up.append(host)
            return ["127.0.0.1"] if len(looked_up) == 1 else ["10.0.0.1"]

        monkeypatch.setattr(probes, "_look_up", rebinding)
        assert not await probe(f"web.lan:{port}", tcp, other)
        assert looked_up == ["web.lan"], "once: no second answer counts"
        looked_up.clear()
        assert await probe(f"web.lan:{port}", tcp, NETWORKS)
        assert looked_up == ["web.lan"]


async def test_watchers_are_told_what_the_leader_finds_and_the_owner_does_not_undo_it(
    tmp_path: Path,
) -> None:
    async with (
        server() as web,
        open_cluster(tmp_path) as store,
        running(store, check_networks=HERE) as (coordinator, url),
    ):

        async def told(what: Callable[[ServiceInstance], bool], why: str) -> None:
            await until(lambda: bool(shown(coordinator)) and what(shown(coordinator)[0]), why, 30)

        async with register(
            "web", web.address, coordinator=url, token=SERVICE_TOKEN, check=QUICK
        ) as registration:
            await told(passes, "it passes")
            web.answer = b"HTTP/1.1 503 no\r\n\r\n"
            await told(lambda each: each.check_passes is False, "it fails")
            before = len(web.asked)
            await registration.update(labels={"tier": "front"})
            await told(lambda each: each.labels == {"tier": "front"}, "it is changed")
            assert shown(coordinator)[0].check_passes is False, "and fails still"
            web.answer = b"HTTP/1.1 200 OK\r\n\r\n"
            await told(passes, "it passes again")
            assert len(web.asked) > before
            entry = await store.get(KEYS.service("web", web.address))
            assert entry is not None
            assert entry.lease != 0, "it goes when its session does"
        await until(lambda: shown(coordinator) == [], "it has left")


async def test_who_asks_for_a_check_where_there_is_none_is_told(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store:
        for networks, reason in (("", "with --check-networks"), ("10.0.0.0/8", "in none of")):
            async with running(store, check_networks=networks) as (_, url):
                with pytest.raises(CallRefused, match=reason) as refused:
                    async with register(
                        "web", "127.0.0.1:80", coordinator=url, token=SERVICE_TOKEN, check=QUICK
                    ):
                        raise AssertionError("it is not checked")
                assert refused.value.code == "bad-registration"


async def test_no_more_than_so_many_are_checked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "CHECKS_AT_ONCE", 3)
    now_running, most, done = 0, 0, 0

    async def slow(*_: object) -> bool:
        nonlocal now_running, most, done
        now_running += 1
        most = max(most, now_running)
        await asyncio.sleep(0.05)
        now_running -= 1
        done += 1
        return True

    monkeypatch.setattr(checker, "probe", slow)
    async with open_cluster(tmp_path) as store, running(store, check_networks=HERE) as (_, url):
        registering = [
            register("web", f"127.0.0.1:{port}", coordinator=url, token=SERVICE_TOKEN, check=QUICK)
            for port in range(100, 108)
        ]
        await asyncio.gather(*(each.__aenter__() for each in registering))
        await until(lambda: done >= 8, "all are checked", 30)
        assert most <= 3
        for each in registering:
            await each.__aexit__(None, None, None)


def instance(**fields: Any) -> ServiceInstance:
    return ServiceInstance(service="web", instance="a", address="127.0.0.1:80", **fields)


def test_what_was_found_goes_with_the_same_check_at_the_same_address_alone() -> None:
    asked = instance(check=QUICK)
    plain = msgspec.json.encode(asked)
    before = judged(plain, False)
    assert told_of(plain) is None
    assert told_of(before) is False
    assert told_of(carried_over(plain, asked, before)) is False
    for other in (
        instance(),
        instance(check=InstanceCheck(kind="tcp")),
        msgspec.structs.replace(asked, address="127.0.0.1:81"),
    ):
        value = msgspec.json.encode(other)
        assert carried_over(value, other, before) == value
    assert carried_over(plain, asked, b"nonsense") == plain
    newer = plain[:-1] + b',"newer":1}'
    assert msgspec.json.decode(judged(newer, True))["newer"] == 1


@pytest.mark.parametrize(
    "check",
    [
        {"path": "health"},
        {"path": "/a b"},
        {"path": "/\r\nHost: x"},
        {"path": "/" + "x" * 256},
        {"port": 0},
        {"port": 65_536},
        {"interval_s": 0.5},
        {"interval_s": 1e9},
        {"timeout_s": 0.0},
        {"timeout_s": 11.0},
        {"interval_s": float("nan")},
    ],
)
async def test_a_check_that_makes_no_sense_is_refused(check: dict[str, Any]) -> None:
    with pytest.raises(BadRegistration, match="check"):
        async with register(
            "web",
            "127.0.0.1:80",
            coordinator="http://127.0.0.1:1",
            token=SERVICE_TOKEN,
            check=InstanceCheck(kind="http", **check),
        ):
            raise AssertionError("it is refused")
