"""Whose a name is, asked of coordinators over HTTP: late, repeated, foreign and hasty requests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.unit.coordinator.running_coordinator import KEYS, TOKEN, open_cluster, running

from octad.client.cluster.coordinator_calls import CallRefused, Coordinators
from octad.client.cluster.internal_auth import AUTHORIZATION_HEADER
from octad.client.cluster.service_records import (
    SERVICES_PATH,
    SESSIONS_PATH,
    RegisterAnswer,
    RegisterRequest,
    RenewAnswer,
    RenewRequest,
    ServiceInstance,
    SessionAnswer,
    SessionRequest,
    WithdrawRequest,
)
from octad.client.cluster.service_token import service_token
from octad.coordinator.membership import registrations, service_registry
from octad.coordinator.membership.registrations import InstanceTaken
from octad.coordinator.membership.service_registry import ServiceRegistry
from octad.coordinator.membership.sessions import Sessions
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import Compare, LeaseId, Outcome, Put, StoreOperation

SERVICE_TOKEN = service_token(TOKEN)
HERE, THERE = "10.0.0.5:80", "10.0.0.6:80"


def instance(address: str = HERE, **fields: object) -> ServiceInstance:
    return ServiceInstance(service="web", instance="a", address=address, **fields)  # type: ignore[arg-type]


class Caller:
    """Who holds the service key, and asks for whatever it likes."""

    def __init__(self, url: str) -> None:
        self.calls = Coordinators(url, SERVICE_TOKEN)

    async def open(self, ttl_s: float = 30.0, born: int = 0) -> SessionAnswer:
        body = msgspec.json.encode(SessionRequest(ttl_s=ttl_s, born=born))
        answer = await self.calls.write("POST", SESSIONS_PATH, body)
        return msgspec.json.decode(answer, type=SessionAnswer)

    async def put(
        self, session: str | None, number: int | None, record: ServiceInstance
    ) -> RegisterAnswer:
        body = msgspec.json.encode(
            RegisterRequest(
                record=msgspec.Raw(msgspec.json.encode(record)), session=session, number=number
            )
        )
        path = f"{SERVICES_PATH}/{record.service}/{record.instance}"
        answer = await self.calls.write("PUT", path, body)
        return msgspec.json.decode(answer, type=RegisterAnswer)

    async def delete(self, session: str, number: int | None) -> None:
        body = msgspec.json.encode(WithdrawRequest(session=session, number=number))
        await self.calls.write("DELETE", f"{SERVICES_PATH}/web/a", body)

    async def renew(self, session: str, *names: str) -> Sequence[str]:
        body = msgspec.json.encode(RenewRequest(instances=names)) if names else b""
        answer = await self.calls.write("POST", f"{SESSIONS_PATH}/{session}/renew", body)
        return msgspec.json.decode(answer, type=RenewAnswer).superseded

    async def end(self, session: str) -> None:
        await self.calls.write("DELETE", f"{SESSIONS_PATH}/{session}")


@asynccontextmanager
async def calling(directory: Path) -> AsyncIterator[tuple[EmbeddedStore, Caller, str]]:
    async with open_cluster(directory) as store, running(store) as (_, url):
        caller = Caller(url)
        try:
            yield store, caller, url
        finally:
            await caller.calls.close()


async def shown(store: EmbeddedStore) -> ServiceInstance | None:
    entry = await store.get(KEYS.service("web", "a"))
    return None if entry is None else msgspec.json.decode(entry.value, type=ServiceInstance)


async def test_a_write_that_comes_late_or_again_changes_nothing(tmp_path: Path) -> None:
    async with calling(tmp_path) as (store, caller, _):
        session = (await caller.open()).session
        first = await caller.put(session, 1, instance(version="1"))
        again = await caller.put(session, 1, instance(version="1"))
        assert again == first, "it was done once, and the answer is the same"
        await caller.put(session, 5, instance(drain=True))
        for late in (caller.put(session, 4, instance()), caller.delete(session, 3)):
            with pytest.raises(CallRefused) as refused:
                await late
            assert refused.value.code == "late"
        assert await shown(store) == instance(drain=True)
        await caller.delete(session, 6)
        await caller.delete(session, 6)
        with pytest.raises(CallRefused, match="write 5 of the session comes after its write 6"):
            await caller.put(session, 5, instance())
        assert await shown(store) is None
        await caller.put(session, 7, instance())
        await caller.end(session)
        with pytest.raises(CallRefused) as gone:
            await caller.put(session, 8, instance())
        assert gone.value.code == "session-gone"
        assert (await store.range(KEYS.services)).entries == []
        assert (await store.range(KEYS.sessions)).entries == []


async def test_the_newest_session_of_an_address_is_listed_and_the_one_before_is_told(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path) as (store, caller, _):
        old, new = await caller.open(), await caller.open()
        assert not (await caller.put(old.session, 1, instance(version="1"))).superseded
        assert not (await caller.put(new.session, 1, instance(version="2"))).superseded
        assert await shown(store) == instance(version="2")
        assert await caller.renew(old.session, "web/a") == ("web/a",)
        assert await caller.renew(new.session, "web/a") == ()
        assert (await caller.put(old.session, 2, instance(version="1"))).superseded
        assert await shown(store) == instance(version="2"), "never in turns"
        await caller.end(new.session)
        with pytest.raises(CallRefused) as lost:
            await caller.renew(old.session, "web/a")
        assert (lost.value.code, lost.value.instances) == ("lost", ("web/a",))
        assert not (await caller.put(old.session, 3, instance(version="1"))).superseded
        assert await shown(store) == instance(version="1")
        in_its_place = await caller.open(born=new.born)
        assert in_its_place.born == new.born
        older = await caller.open(born=old.born)
        await caller.put(in_its_place.session, 1, instance(version="2"))
        assert (await caller.put(older.session, 1, instance(version="1"))).superseded
        assert (await store.range(KEYS.claims)).entries != []
        for session in (old, in_its_place, older):
            await caller.end(session.session)
        assert (await store.range(KEYS.claims)).entries == []


@pytest.mark.parametrize("opens_first", [True, False])
async def test_a_name_is_not_taken_to_another_address_by_way_of_its_own(
    tmp_path: Path, opens_first: bool
) -> None:
    async with calling(tmp_path) as (store, caller, _):
        victim = (await caller.open()).session
        await caller.put(victim, 1, instance())
        attacker = (await caller.open()).session if opens_first else None
        number = 1 if opens_first else None  # As an older SDK did.
        attacker = (await caller.put(attacker, number, instance())).session
        for session, next_number in ((attacker, None), (attacker, 9), (None, None)):
            with pytest.raises(CallRefused, match=f"is live at {HERE}") as refused:
                await caller.put(session, next_number, instance(THERE))
            assert refused.value.code == "instance-taken"
        await caller.end(attacker)
        with pytest.raises(CallRefused, match=f"is live at {HERE}"):
            await caller.put((await caller.open()).session, 1, instance(THERE))
        await caller.put(victim, 2, instance())
        assert await shown(store) == instance()
        await caller.delete(victim, 3)
        await caller.put((await caller.open()).session, 1, instance(THERE))
        assert await shown(store) == instance(THERE), "everyone had let go"


class SlowStore(EmbeddedStore):
    """One transaction that puts what has `late` in it waits until it is let go."""

    late = b""
    reached: asyncio.Event
    let_go: asyncio.Event

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        if self.late and any(isinstance(o, Put) and self.late in o.value for o in operations):
            self.late = b""
            self.reached.set()
            await self.let_go.wait()
        return await super().transact(compares, operations)


@asynccontextmanager
async def slow(directory: Path, late: str) -> AsyncIterator[tuple[SlowStore, ServiceRegistry]]:
    store = await SlowStore.open(directory / "store.sqlite")
    assert isinstance(store, SlowStore)
    store.reached, store.let_go = asyncio.Event(), asyncio.Event()
    store.late = late.encode()
    try:
        yield store, ServiceRegistry(store, KEYS, Sessions(store, KEYS, TOKEN))
    finally:
        await store.close()


async def opened(registry: ServiceRegistry) -> str:
    return (await registry._sessions.open(SessionRequest(ttl_s=30.0))).session


def asking(session: str, number: int, record: ServiceInstance) -> RegisterRequest:
    return RegisterRequest(
        record=msgspec.Raw(msgspec.json.encode(record)), session=session, number=number
    )


async def test_a_claim_that_comes_and_goes_between_reading_and_writing_is_seen(
    tmp_path: Path,
) -> None:
    """The name is free before and after, and a superseded session has it all the same."""
    async with slow(tmp_path, THERE) as (store, registry):
        first, second, third = [await opened(registry) for _ in range(3)]
        moving = asyncio.create_task(
            registry.register("web", "a", asking(third, 1, instance(THERE)))
        )
        await store.reached.wait()
        await registry.register("web", "a", asking(first, 1, instance()))
        await registry.register("web", "a", asking(second, 1, instance()))
        await registry._sessions.end(second)
        store.let_go.set()
        with pytest.raises(InstanceTaken):
            await moving


@pytest.mark.parametrize("changes", ["lets go", "says something else"])
async def test_who_is_listed_again_is_listed_as_it_is_by_then(tmp_path: Path, changes: str) -> None:
    async with slow(tmp_path, '"version":"1"') as (store, registry):
        late, store.late = store.late, b""
        first, second = [await opened(registry) for _ in range(2)]
        await registry.register("web", "a", asking(first, 1, instance(version="1")))
        await registry.register("web", "a", asking(second, 1, instance(version="2")))
        await registry._sessions.end(second)
        store.late = late
        relisting = asyncio.create_task(registry.relist("web/a"))
        await store.reached.wait()
        third = await opened(registry)
        await registry.register("web", "a", asking(third, 1, instance(version="3")))
        if changes == "lets go":
            await registry.withdraw("web", "a", WithdrawRequest(session=first, number=2))
        else:
            await registry.register("web", "a", asking(first, 2, instance(version="1.1")))
        await registry._sessions.end(third)
        store.let_go.set()
        await relisting
        assert await shown(store) is None, "what was seen is no longer so"
        await registry.relist("web/a")
        expected = None if changes == "lets go" else instance(version="1.1")
        assert await shown(store) == expected


async def test_only_the_session_of_an_instance_takes_it_away(tmp_path: Path) -> None:
    async with calling(tmp_path) as (store, caller, _):
        owner, other = (await caller.open()).session, (await caller.open()).session
        await caller.put(owner, 1, instance())
        with pytest.raises(CallRefused) as refused:
            await caller.delete(other, 2)
        assert refused.value.code == "other-session"
        with pytest.raises(CallRefused) as late:
            await caller.put(other, 1, instance())
        assert late.value.code == "late", "the number counts all the same"
        for session in ("", f"{owner[:-1]}x", owner.partition("-")[0]):
            with pytest.raises(CallRefused) as forged:
                await caller.delete(session, 2)
            assert forged.value.code == "session-gone"
        assert await shown(store) == instance()


async def test_a_service_of_the_version_before_is_kept_and_taken_over(tmp_path: Path) -> None:
    """Its session has no record, and it sends no numbers and no names."""
    async with calling(tmp_path) as (store, caller, _):
        lease = await store.grant_lease(30.0)
        record = msgspec.json.encode(instance(version="1"))
        await store.transact([], [Put(KEYS.service("web", "a"), record, lease)])
        mac = Sessions(store, KEYS, TOKEN)._mac(f"{lease:x}")
        before = f"{lease:x}-{mac}"
        assert await caller.renew(before) == ()
        assert await caller.renew(before, "web/a") == ()
        with pytest.raises(CallRefused, match=f"live at {HERE}"):
            await caller.put((await caller.open()).session, 1, instance(THERE))
        await caller.put(before, None, instance(drain=True))
        assert await shown(store) == instance(drain=True)
        new = (await caller.open()).session
        await caller.put(new, 1, instance(version="2"))
        assert await caller.renew(before) == ()
        for _ in range(2):
            assert (await caller.put(before, None, instance(version="1"))).superseded
        await caller.delete(before, None)
        assert await shown(store) == instance(version="2")
        await caller.delete(new, 2)
        again = await caller.put(None, None, instance(version="3"))
        assert await shown(store) == instance(version="3")
        await caller.delete(again.session, None)
        assert await shown(store) is None


async def test_a_damaged_session_keeps_no_other_name_from_being_listed_again(
    tmp_path: Path,
) -> None:
    names = [f"a{number}" for number in range(8)]
    records = [msgspec.structs.replace(instance(), instance=name) for name in names]
    async with calling(tmp_path) as (store, caller, _):
        old = [(await caller.open()).session for _ in records]
        for session, record in zip(old, records, strict=True):
            await caller.put(session, 1, record)
        new = (await caller.open()).session
        for number, record in enumerate(records, 1):
            assert not (await caller.put(new, number, record)).superseded
        for session in old[:4]:  # One of them comes before another, whatever the order.
            lease = LeaseId(int(session.partition("-")[0], 16))
            await store.transact([], [Put(KEYS.session(lease), b"damaged", lease)])
        await caller.end(new)
        wanted = {KEYS.service("web", name) for name in names[4:]}
        async with asyncio.timeout(10):
            while {e.key for e in (await store.range(KEYS.services)).entries} != wanted:
                await asyncio.sleep(0.02)


async def test_claims_of_one_name_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "SERVICE_CLAIMS_MAX", 2)
    async with calling(tmp_path) as (store, caller, _):
        sessions = [(await caller.open()).session for _ in range(4)]
        for session in sessions[:3]:
            await caller.put(session, 1, instance())
        with pytest.raises(CallRefused, match="2 processes had instance a of web before") as full:
            await caller.put(sessions[3], 1, instance())
        assert full.value.code == "instance-taken"
        await caller.end(sessions[0])
        await caller.put(sessions[3], 2, instance())
        assert len((await store.range(KEYS.claims)).entries) == 2


async def test_a_renewal_names_no_more_than_a_session_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_registry, "SERVICE_INSTANCES_MAX", 2)
    async with calling(tmp_path) as (_, caller, _):
        session = (await caller.open()).session
        with pytest.raises(CallRefused, match="at most 2 instances"):
            await caller.renew(session, "web/a", "web/b", "web/c")


async def test_what_is_older_than_it_was_wanted_for_is_not_done(tmp_path: Path) -> None:
    async with calling(tmp_path) as (store, caller, url):
        session = (await caller.open()).session
        path = f"{SERVICES_PATH}/web/a"
        asked = RegisterRequest(
            record=msgspec.Raw(msgspec.json.encode(instance())), session=session, number=1
        )
        body = msgspec.json.encode(asked)
        for within, age_s, status in (
            ("0.2", 0.4, 401),
            ("5", -6, 401),
            ("nan", 0, 401),
            ("x", 0, 400),
            ("5", 0.4, 200),
        ):
            assert await shown(store) is None
            target = f"{path}?within={within}"
            signer = caller.calls._signers[url]
            signer._ahead_ms -= int(min(0, age_s) * 1000)
            header = signer.sign("PUT", target, body)
            signer._ahead_ms += int(min(0, age_s) * 1000)
            await asyncio.sleep(age_s)
            async with caller.calls.session().put(
                url + target, data=body, headers={AUTHORIZATION_HEADER: header}
            ) as answer:
                assert answer.status == status, await answer.text()
        assert await shown(store) == instance()


async def test_a_request_whose_sender_has_gone_is_not_carried_out(tmp_path: Path) -> None:
    """What a coordinator finds in its sockets when it thaws."""
    async with calling(tmp_path) as (store, caller, url):
        session = (await caller.open()).session
        asked = RegisterRequest(
            record=msgspec.Raw(msgspec.json.encode(instance())), session=session, number=1
        )
        body = msgspec.json.encode(asked)
        target = f"{SERVICES_PATH}/web/a"
        signer = caller.calls._signers[url]
        parts = urlsplit(url)
        assert parts.hostname is not None
        for _ in range(20):  # The loop stands still while this sends and goes.
            header = signer.sign("PUT", target, body)
            request = (
                f"PUT {target} HTTP/1.1\r\nHost: c\r\nAuthorization: {header}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode() + body
            with socket.create_connection((parts.hostname, parts.port or 0)) as hasty:
                hasty.sendall(request)
        await caller.renew(session)
        await asyncio.sleep(0.2)
        assert await shown(store) is None
        await caller.put(session, 1, instance())
        assert await shown(store) == instance()
