"""The SDK's registration: there while its process lives, whoever else goes meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.unit.coordinator.running_coordinator import (
    KEYS,
    TOKEN,
    open_cluster,
    running,
    until,
)

from octad.client.cluster import request_signer
from octad.client.cluster.coordinator_calls import CALL_S_MAX, Coordinators
from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.client.cluster.service_records import (
    SERVICES_PATH,
    SESSIONS_PATH,
    BadRegistration,
    ServiceInstance,
)
from octad.client.cluster.service_token import service_token
from octad.client.membership import (
    CallRefused,
    CoordinatorsUnreachable,
    open_session,
    register,
    watch,
)
from octad.client.membership import session as membership_session
from octad.client.runtime.listener import listen_on
from octad.client.runtime.steady_clock import SteadyClock
from octad.coordinator.recovery.create_cluster import create_cluster
from octad.coordinator.schema.join_messages import JOIN_PATH
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import (
    Compare,
    Delete,
    Outcome,
    StoreOperation,
    StoreUnavailable,
)

SERVICE_TOKEN = service_token(TOKEN)
NOBODY = "http://127.0.0.1:1"
TTL_S = 2.0


def instances(coordinator: Coordinator) -> list[ServiceInstance]:
    return [
        msgspec.json.decode(event.value, type=ServiceInstance)
        for event in coordinator.feed.history.state("services/")
    ]


async def test_an_instance_is_there_for_the_time_of_the_block(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        async with register(
            "web",
            "10.0.0.5:80",
            coordinator=f"{NOBODY},{url}",
            token=encode_join_token(TOKEN),
            zone="rack-1",
            weight=2.5,
            version="7",
            labels={"tier": "front"},
        ) as registration:
            await until(lambda: len(instances(coordinator)) == 1, "it is there")
            assert instances(coordinator) == [
                ServiceInstance(
                    service="web",
                    instance="10.0.0.5:80",
                    address="10.0.0.5:80",
                    zone="rack-1",
                    weight=2.5,
                    version="7",
                    labels={"tier": "front"},
                )
            ]
            await registration.update(health="failing", drain=True)
            await until(lambda: instances(coordinator)[0].drain, "it says so")
            assert instances(coordinator)[0].health == "failing"
        await until(lambda: not instances(coordinator), "it left at once", 1.0)


async def test_updates_at_the_same_time_all_count(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        register(
            "web", "10.0.0.5:80", coordinator=url, token=encode_join_token(TOKEN)
        ) as registration,
    ):
        await asyncio.gather(registration.update(drain=True), registration.update(weight=2.0))
        await until(lambda: instances(coordinator) == [registration.record], "it is as believed")
        assert (registration.record.drain, registration.record.weight) == (True, 2.0)


async def test_it_outlives_its_time_to_live_many_times(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        async with register(
            "web", "h:1", coordinator=url, token=SERVICE_TOKEN, ttl_s=TTL_S
        ) as registration:
            joined = (await store.get(KEYS.service("web", "h:1"))) or pytest.fail("not there")
            await asyncio.sleep(TTL_S * 1.6)
            assert await store.get(KEYS.service("web", "h:1")) == joined, "renewing writes nothing"
            assert registration.record.service == "web"
        assert coordinator.feed.history.revision


async def test_a_process_that_died_leaves_within_a_second_of_its_time_to_live(
    tmp_path: Path,
) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (_, url),
        open_session(url, SERVICE_TOKEN, ttl_s=TTL_S) as session,
    ):
        events = watch("web", coordinator=url)
        assert (await anext(events)).type == "reset"
        await session.register(ServiceInstance(service="web", instance="a", address="10.0.0.5:80"))
        renewed_at = time.monotonic()
        assert (await anext(events)).type == "join"
        [keeping] = [t for t in asyncio.all_tasks() if t.get_name() == "registration"]
        keeping.cancel()  # What a SIGKILL leaves of a process.
        leave = await anext(events)
        late_s = time.monotonic() - renewed_at - TTL_S
        assert (leave.type, leave.instance and leave.instance.instance) == ("leave", "a")
        assert -0.1 < late_s < 1.0
        await events.aclose()


async def test_it_registers_again_when_the_cluster_has_lost_it(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        open_session(url, SERVICE_TOKEN, ttl_s=TTL_S) as session,
    ):
        for name in ("a", "b"):
            await session.register(
                ServiceInstance(service="web", instance=name, address=f"10.0.0.5:8{len(name)}")
            )
        entry = await store.get(KEYS.service("web", "a"))
        assert entry is not None
        await store.revoke_lease(entry.lease)
        await until(lambda: not instances(coordinator), "both are gone")
        await until(lambda: len(instances(coordinator)) == 2, "both are back", TTL_S + 1)
        again = [await store.get(KEYS.service("web", name)) for name in ("a", "b")]
        assert len({entry.lease for entry in again if entry is not None}) == 1, "one lease"


async def test_its_owner_is_told_what_becomes_of_it(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        events: list[str] = []

        def one(version: str) -> ServiceInstance:
            return ServiceInstance(service="web", instance="a", address="h:1", version=version)

        def is_there(version: str) -> bool:
            return [each.version for each in instances(coordinator)] == [version]

        async with open_session(
            url, SERVICE_TOKEN, ttl_s=TTL_S, on_event=lambda event: events.append(event.type)
        ) as first:
            assert first.state("web", "a") == "new"
            await first.register(one("1"))
            await until(lambda: is_there("1"), "it is there")
            assert (first.state("web", "a"), events) == ("listed", [])
            await store.transact([], [Delete(KEYS.service("web", "a"))])
            await until(lambda: events == ["lost", "listed"], "it was told both")
            await until(lambda: is_there("1"), "it is there again")
            async with open_session(url, SERVICE_TOKEN, ttl_s=600.0) as newer:
                await newer.register(one("2"))
                await until(lambda: is_there("2"), "the newer one is there")
                await until(lambda: events[2:] == ["superseded"], "it was told")
                await first.register(one("1.1"))
                assert first.state("web", "a") == "superseded"
                await first.register(one("1.2"))
            await until(lambda: is_there("1.2"), "what it said last")
            await until(lambda: events[3:] == ["listed"], "it was told")
            assert first.state("web", "a") == "listed"


async def test_what_fails_leaves_an_instance_as_it_was(tmp_path: Path) -> None:
    """The first answer to each write is lost, long enough for its sender to give up."""

    class Forgetful(EmbeddedStore):
        silent = 0

        async def transact(
            self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
        ) -> Outcome:
            outcome = await super().transact(compares, operations)
            if self.silent and any(o.key.startswith(KEYS.services) for o in operations):
                self.silent -= 1
                raise StoreUnavailable("the answer is lost")
            return outcome

    store = await Forgetful.open(tmp_path / "store.sqlite")
    assert isinstance(store, Forgetful)
    await create_cluster(store, TOKEN, 3, 4, "octad", "octad-secret")
    try:
        async with (
            running(store) as (coordinator, url),
            open_session(url, SERVICE_TOKEN, ttl_s=60.0) as session,
        ):
            record = ServiceInstance(service="web", instance="a", address="h:1")
            await session.register(record)
            for write in (
                session.register(msgspec.structs.replace(record, drain=True)),
                session.register(msgspec.structs.replace(record, instance="b")),
            ):
                store.silent = 1
                with pytest.raises(CoordinatorsUnreachable, match="the answer is lost"):
                    await write
                await until(lambda: instances(coordinator) != [record], "it was done")
                await until(lambda: instances(coordinator) == [record], "it is as it was")
            store.silent = 1
            with pytest.raises(CoordinatorsUnreachable, match="the answer is lost"):
                await session.withdraw("web", "a")
            await until(lambda: not instances(coordinator), "it goes all the same")
    finally:
        await store.close()


async def test_a_session_has_so_many_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership_session, "SERVICE_INSTANCES_MAX", 1)
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (_, url),
        open_session(url, SERVICE_TOKEN) as session,
    ):
        record = ServiceInstance(service="web", instance="a", address="h:1")
        await session.register(record)
        with pytest.raises(BadRegistration, match="at most 1 instances: open another one"):
            await session.register(msgspec.structs.replace(record, instance="b"))
        await session.register(msgspec.structs.replace(record, drain=True))


async def test_a_coordinator_that_is_silent_has_the_next_one_asked_beside_it(
    tmp_path: Path,
) -> None:
    silent = listen_on("127.0.0.1:0", "--listen")  # The kernel takes connections for it.
    silent_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    try:
        async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
            begun = time.monotonic()
            async with register(
                "web", "h:1", coordinator=f"{silent_url},{url}", token=SERVICE_TOKEN
            ) as registration:
                assert time.monotonic() - begun < CALL_S_MAX
                await registration.update(drain=True)
                assert registration._session._coordinators.url == url, "it is asked first now"
            await until(lambda: not instances(coordinator), "it left")
    finally:
        silent.close()


async def test_it_goes_on_at_another_coordinator(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (second, second_url):
        async with running(store) as (_, first_url):
            session = open_session(f"{first_url},{second_url}", SERVICE_TOKEN, ttl_s=TTL_S)
            opened = await session.__aenter__()
            await opened.register(ServiceInstance(service="web", instance="a", address="h:1"))
        try:
            joined = await store.get(KEYS.service("web", "a"))
            await asyncio.sleep(TTL_S * 1.5)
            assert await store.get(KEYS.service("web", "a")) == joined, "the same session lived on"
        finally:
            await session.__aexit__(None, None, None)
        await until(lambda: not instances(second), "it left")


async def test_two_processes_do_not_get_one_name_but_a_restarted_one_gets_its_own_back(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):

        def one(address: str) -> ServiceInstance:
            return ServiceInstance(service="web", instance="a", address=address)

        async with (
            open_session(url, SERVICE_TOKEN) as first,
            open_session(url, SERVICE_TOKEN) as second,
            open_session(url, SERVICE_TOKEN) as restarted,
        ):
            await first.register(one("10.0.0.5:80"))
            with pytest.raises(
                CallRefused, match=r"live at 10\.0\.0\.5:80.*a name of its own"
            ) as e:
                await second.register(one("10.0.0.6:80"))
            assert (e.value.code, e.value.passes) == ("instance-taken", True)
            await restarted.register(one("10.0.0.5:80"))
            await first.withdraw("web", "a")
            assert await store.get(KEYS.service("web", "a")), "it belongs to the restarted one now"
            await restarted.withdraw("web", "a")
            assert await store.get(KEYS.service("web", "a")) is None


async def test_a_clock_an_hour_off_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowClock(SteadyClock):
        def now_ms(self) -> int:
            return super().now_ms() - 3_600_000

    monkeypatch.setattr(request_signer, "SteadyClock", SlowClock)
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        register("web", "h:1", coordinator=url, token=SERVICE_TOKEN),
    ):
        await until(lambda: len(instances(coordinator)) == 1, "it is there")


async def test_a_token_of_another_cluster_or_nobody_is_told_so(tmp_path: Path) -> None:
    other = service_token(JoinToken("deadbeef", bytes(32)))
    false = service_token(JoinToken(TOKEN.cluster, bytes(32)))
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        for token, reason in ((other, "serves cluster 1a2b3c4d"), (false, "does not know")):
            with pytest.raises(CoordinatorsUnreachable, match=reason):
                async with register("web", "h:1", coordinator=url, token=token):
                    pass
    with pytest.raises(CoordinatorsUnreachable, match=r"127\.0\.0\.1:1"):
        async with register("web", "h:1", coordinator=NOBODY, token=other):
            pass


async def test_a_service_token_opens_nothing_but_registrations(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        coordinators = Coordinators(url, SERVICE_TOKEN)
        try:
            with pytest.raises(CoordinatorsUnreachable, match="does not know"):
                await coordinators.write("POST", JOIN_PATH, b"{}")
        finally:
            await coordinators.close()


async def test_nobody_ends_what_is_no_session(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, url):
        await until(lambda: coordinator.is_leading, "it leads")
        leader = await store.get(KEYS.leader)
        assert leader is not None
        coordinators = Coordinators(url, SERVICE_TOKEN)
        try:
            for session in (f"{leader.lease:x}", f"{leader.lease:x}-00", "-", "x-y"):
                with pytest.raises(CallRefused) as refused:
                    await coordinators.write("DELETE", f"{SESSIONS_PATH}/{session}")
                assert refused.value.code == "session-gone"
        finally:
            await coordinators.close()
        assert await store.get(KEYS.leader) == leader


async def test_what_a_registration_names_must_be_what_its_path_names(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (_, url):
        coordinators = Coordinators(url, SERVICE_TOKEN)
        record = {"service": "web", "instance": "b", "address": "h:1"}
        cases = [
            ({"record": record, "ttl_s": 5}, "bad-registration"),
            ({"record": {**record, "instance": "a"}, "ttl_s": 1}, "bad-registration"),
            ({"record": {"service": "web"}}, "bad-registration"),
            ({"record": {**record, "instance": "a"}, "session": "1-2"}, "session-gone"),
            ({}, "bad-request"),
        ]
        try:
            for request, code in cases:
                body = json.dumps(request).encode()
                with pytest.raises(CallRefused) as refused:
                    await coordinators.write("PUT", f"{SERVICES_PATH}/web/a", body)
                assert refused.value.code == code
        finally:
            await coordinators.close()
        assert (await store.range(KEYS.services)).entries == []


async def test_everybody_may_list_what_is_there(tmp_path: Path) -> None:
    async with (
        open_cluster(tmp_path) as store,
        running(store) as (coordinator, url),
        register("web", "h:1", coordinator=url, token=SERVICE_TOKEN),
        register("web-2", "h:2", coordinator=url, token=SERVICE_TOKEN),
        aiohttp.ClientSession() as session,
    ):
        await until(lambda: len(instances(coordinator)) == 2, "both are there")
        for path, names in (("", ["web", "web-2"]), ("/web", ["web"]), ("/other", [])):
            async with session.get(f"{url}{SERVICES_PATH}{path}") as response:
                document = await response.json()
                assert [each["service"] for each in document["services"]] == names
                assert document["age_s"] < 5
