"""A live instance is in the list, whatever coordinators do late and other processes try.

Two coordinators as processes in front of a real etcd, one of them frozen and thawed; the SDK in
this process, and the command in processes of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.coordinator.coordinator_site import (
    OCTAD,
    WAIT_S,
    CoordinatorProcess,
    Start,
    forget_clusters,
    store_of,
    until,
)
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.process_tree import ProcessTree

from octad.client.cluster.join_token import decode_join_token
from octad.client.cluster.service_records import SERVICES_PATH, ServiceInstance
from octad.client.membership import CallRefused, RegistrationEvent, open_session, register

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

ADDRESS = "10.0.0.5:80"
POLL_S = 0.05


class Pair:
    """Two coordinators of one cluster."""

    def __init__(self, first: CoordinatorProcess, second: CoordinatorProcess, token: str) -> None:
        self.first, self.second, self.token = first, second, token
        self.urls = f"{first.url},{second.url}"

    def listed(self) -> dict[str, dict[str, Any]]:
        """By instance, as the second one has it."""
        with urllib.request.urlopen(self.second.url + SERVICES_PATH, timeout=5) as answer:
            return {each["instance"]: each for each in json.load(answer)["services"]}

    @contextmanager
    def first_frozen(self) -> Iterator[None]:
        self.first.freeze()
        try:
            yield
        finally:
            self.first.thaw()

    async def stays(self, what: Callable[[], bool], seconds: float) -> None:
        """Looks all the time: it must never be otherwise, even for a moment."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            assert what(), self.listed()
            await asyncio.sleep(POLL_S)


@pytest.fixture
async def pair(etcd: EtcdMember, start: Start) -> AsyncIterator[Pair]:
    first = start()
    token = first.printed("join token")
    yield Pair(first, start("--join-token", token), token)
    async with store_of(etcd, decode_join_token(token)) as store:
        await forget_clusters(store)


async def test_what_a_frozen_coordinator_does_late_changes_nothing(pair: Pair) -> None:
    events: list[RegistrationEvent] = []
    with pair.first_frozen():
        registering = register(
            "web", ADDRESS, coordinator=pair.urls, token=pair.token, ttl_s=3, on_event=events.append
        )
        registration = await registering.__aenter__()
    try:
        await until(lambda: ADDRESS in pair.listed(), "it is there")
        await pair.stays(lambda: ADDRESS in pair.listed(), 4.5)
    finally:
        await registering.__aexit__(None, None, None)
    assert registration.state == "listed"
    assert events == []
    await until(lambda: not pair.listed(), "it left")


async def test_late_updates_and_withdrawals_do_not_undo_newer_ones(pair: Pair) -> None:
    async with open_session(pair.urls, pair.token, ttl_s=60) as session:

        def one(name: str, **fields: Any) -> ServiceInstance:
            return ServiceInstance(service="web", instance=name, address=ADDRESS, **fields)

        await session.register(one("a"))
        await session.register(one("b"))
        with pair.first_frozen():
            await asyncio.gather(
                session.register(one("a", drain=True)), session.withdraw("web", "b")
            )
            await session.register(one("a", version="2"))
            await session.register(one("b", version="2"))
        wanted = dict.fromkeys(("a", "b"), (False, "2"))
        await until(lambda: "b" in pair.listed(), "it is there again")

        def as_wanted() -> bool:
            found = pair.listed().items()
            return {name: (each["drain"], each["version"]) for name, each in found} == wanted

        await until(as_wanted, "the newest counts")
        await pair.stays(as_wanted, 2.0)


async def test_updates_at_a_frozen_coordinator_cost_no_registration(pair: Pair) -> None:
    async with AsyncExitStack() as stack:
        registrations = [
            await stack.enter_async_context(
                register(
                    "web",
                    f"10.0.0.5:{80 + number}",
                    coordinator=pair.urls,
                    token=pair.token,
                    ttl_s=6,
                )
            )
            for number in range(20)
        ]
        await until(lambda: len(pair.listed()) == 20, "all are there")
        with pair.first_frozen():
            updating = [asyncio.create_task(each.update(drain=True)) for each in registrations]
            await pair.stays(lambda: len(pair.listed()) == 20, 8.0)
            await asyncio.gather(*updating)
        await until(lambda: all(each["drain"] for each in pair.listed().values()), "all say so")
        assert len(pair.listed()) == 20


def serving(pair: Pair, log: Path, version: str, ttl_s: float) -> ProcessTree:
    options = ["--addr", ADDRESS, "--version", version, "--ttl", str(ttl_s)]
    return ProcessTree(
        [*OCTAD, "service", "register", "web", *options, "--coordinator", pair.urls],
        log,
        environment={**os.environ, "OCTAD_SERVICE_TOKEN": pair.token},
    ).start()


async def test_of_two_processes_at_one_address_the_newest_is_listed_and_then_the_other_again(
    pair: Pair, tmp_path: Path
) -> None:
    """A time to live of a minute: nothing of this waits for it."""
    trees: list[ProcessTree] = []

    def begin(version: str, ttl_s: float) -> ProcessTree:
        trees.append(serving(pair, tmp_path / version, version, ttl_s))
        return trees[-1]

    async def is_listed(version: str) -> None:
        def listed() -> bool:
            return [each["version"] for each in pair.listed().values()] == [version]

        await until(listed, f"version {version} is listed")

    try:
        old = begin("1", 60.0)
        await is_listed("1")
        new = begin("2", 60.0)
        await is_listed("2")
        new.signal(signal.SIGTERM)
        assert new.wait(WAIT_S) == 0
        await is_listed("1")
        crashing = begin("3", 2.0)
        await is_listed("3")
        crashing.kill()
        await is_listed("1")
        assert old.runs
    finally:
        for tree in trees:
            tree.kill()


async def test_nobody_takes_a_name_to_another_address_while_somebody_lives_who_had_it(
    pair: Pair,
) -> None:
    def here(address: str) -> ServiceInstance:
        return ServiceInstance(service="web", instance="a", address=address)

    def listed_at() -> list[str]:
        return [each["address"] for each in pair.listed().values()]

    async with open_session(pair.first.url, pair.token, ttl_s=3) as victim:
        await victim.register(here(ADDRESS))
        async with open_session(pair.second.url, pair.token, ttl_s=3) as attacker:
            await attacker.register(here(ADDRESS))
            await until(lambda: victim.state("web", "a") == "superseded", "it is told")
            for _ in range(2):  # What is refused does not count against what comes after it.
                with pytest.raises(CallRefused, match=f"is live at {ADDRESS}"):
                    await attacker.register(here("10.0.0.6:80"))
            await pair.stays(lambda: listed_at() == [ADDRESS], 1.0)
        await until(lambda: victim.state("web", "a") == "listed", "it is there again")
        await until(lambda: listed_at() == [ADDRESS], "and everyone sees it")
