"""Coordinators as processes on a real etcd: one makes the cluster, one leads, the next follows."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.cluster.process_tree import ProcessTree
from tests.cluster.store.etcd_process import EtcdMember, free_ports, make_etcd

from octad.client.core.join_token import JoinToken, decode_join_token
from octad.client.core.status_document import STATUS_PATH, ClusterStatus, decode_status
from octad.coordinator.core.join_messages import JoinRequest
from octad.coordinator.core.records import NodeRecord, StoreKeys
from octad.coordinator.shell.join_client import join
from octad.coordinator.store.interface import ConfigStore, Delete, Put
from octad.coordinator.store.open_store import StoreAddress, open_store

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

OCTAD = (sys.executable, "-m", "octad")
WAIT_S = 15.0

Start = Callable[..., "CoordinatorProcess"]


class CoordinatorProcess:
    """`octad coordinator` on a port of its own."""

    def __init__(self, etcd_url: str, log: Path, options: Sequence[str]) -> None:
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.url = f"http://{self.address}"
        command = [*OCTAD, "coordinator", "--etcd", etcd_url, "--listen", self.address]
        self.tree = ProcessTree([*command, *options], log)

    def output(self) -> str:
        return self.tree.log.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while "coordinator of cluster" not in self.output():
            assert self.tree.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)

    def printed(self, what: str) -> str:
        found = re.search(rf"^  {what}  (\S+)$", self.output(), re.MULTILINE)
        assert found is not None, self.output()
        return found[1]

    def status(self) -> ClusterStatus:
        with urllib.request.urlopen(self.url + STATUS_PATH, timeout=5) as answer:
            return decode_status(answer.read())


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    member = make_etcd(tmp_path_factory.mktemp("coordinator") / "etcd")[0]
    member.start()
    try:
        member.wait_until_ready()
        yield member
    finally:
        member.kill()


@pytest.fixture
def start(etcd: EtcdMember, tmp_path: Path) -> Iterator[Start]:
    """Starts a coordinator and waits until it answers, unless told otherwise."""
    started: list[CoordinatorProcess] = []

    def start(*options: str, ready: bool = True) -> CoordinatorProcess:
        log = tmp_path / f"coordinator-{len(started)}.log"
        process = CoordinatorProcess(etcd.url, log, options)
        started.append(process)
        if ready:
            process.wait_until_ready()
        return process

    yield start
    for process in started:
        process.tree.kill()


@asynccontextmanager
async def store_of(etcd: EtcdMember, token: JoinToken) -> AsyncIterator[ConfigStore]:
    store = open_store(StoreAddress("etcd", (etcd.url,)), token)
    try:
        yield store
    finally:
        await store.close()


async def forget_clusters(store: ConfigStore) -> None:
    """The next test starts with an empty etcd."""
    while entries := (await store.range("octad/")).entries[:100]:
        await store.transact([], [Delete(entry.key) for entry in entries])


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        await asyncio.sleep(0.05)


async def join_and_register(
    store: ConfigStore, urls: str, token: JoinToken, number: int
) -> NodeRecord:
    """What a node does when it starts."""
    request = JoinRequest(
        cluster=token.cluster,
        node=None,
        incarnation=f"incarnation-{number}",
        rpc_address=f"127.0.0.1:{7000 + number}",
        s3_address=f"127.0.0.1:{9000 + number}",
        zone="",
        weight=1.0,
        version="0.1.0",
    )
    answer = await join(urls, token, request)
    record = NodeRecord(
        answer.node, request.incarnation, request.rpc_address, request.s3_address,
        "", 1.0, "0.1.0", "boot",
    )  # fmt: skip
    key = StoreKeys(token.cluster).node(answer.node)
    await store.transact([], [Put(key, msgspec.json.encode(record))])
    return record


async def test_the_leader_is_killed_and_another_makes_the_map_once(
    etcd: EtcdMember, start: Start
) -> None:
    first = start("--access-key", "octad", "--secret-key", "octad-secret")
    assert (first.printed("access key"), first.printed("secret key")) == ("octad", "octad-secret")
    token_text = first.printed("join token")
    token = decode_join_token(token_text)
    second = start("--join-token", token_text)
    assert "join token " not in second.output(), "secrets are shown once"
    await until(lambda: first.status().coordinator.leading, "the first leads")
    assert not second.status().coordinator.leading
    async with store_of(etcd, token) as store:
        urls = f"{first.url},{second.url}"
        for number in (1, 2):
            await join_and_register(store, urls, token, number)
        first.tree.kill()
        killed_at = time.monotonic()
        await join_and_register(store, urls, token, 3)
        assert second.status().state == "forming", "only the leader makes the map"
        await until(lambda: second.status().state == "healthy", "the second made the map")
        print(f"another leader and the map {time.monotonic() - killed_at:.1f} s after the kill")
        assert second.status().coordinator.leading
        rows = (await store.range(StoreKeys(token.cluster).shards)).entries
        assert len(rows) == 256
        assert all(row.create_revision == row.mod_revision for row in rows), "no row written twice"
        restarted = start("--join-token", token_text)
        await until(lambda: restarted.status().state == "healthy", "the restarted one knows it all")
        assert not restarted.status().coordinator.leading
        assert (await store.range(StoreKeys(token.cluster).shards)).entries == rows
        await forget_clusters(store)


async def test_a_frozen_leader_that_wakes_up_after_its_succession_writes_nothing(
    etcd: EtcdMember, start: Start
) -> None:
    first = start()
    token_text = first.printed("join token")
    token = decode_join_token(token_text)
    await until(lambda: first.status().coordinator.leading, "the first leads")
    second = start("--join-token", token_text)
    first.tree.process.send_signal(signal.SIGSTOP)
    async with store_of(etcd, token) as store:
        await until(lambda: second.status().coordinator.leading, "the second leads")
        for number in (1, 2, 3):
            await join_and_register(store, second.url, token, number)
        first.tree.process.send_signal(signal.SIGCONT)
        await until(lambda: second.status().state == "healthy", "the map stands")
        await until(lambda: first.status().state == "healthy", "the first sees it")
        assert not first.status().coordinator.leading
        assert first.status().coordinator.leader_address == second.address
        rows = (await store.range(StoreKeys(token.cluster).shards)).entries
        assert all(row.create_revision == row.mod_revision for row in rows)
        await forget_clusters(store)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_cleanly_and_lets_go_of_the_lead(
    etcd: EtcdMember, start: Start, number: signal.Signals
) -> None:
    process = start()
    token = decode_join_token(process.printed("join token"))
    await until(lambda: process.status().coordinator.leading, "it leads")
    process.tree.process.send_signal(number)
    assert process.tree.wait(5) == 0
    assert "Traceback" not in process.output()
    async with store_of(etcd, token) as store:
        assert await store.get(StoreKeys(token.cluster).leader) is None
        await forget_clusters(store)


async def test_a_start_that_must_fail_says_why_in_one_line_and_writes_nothing(
    etcd: EtcdMember, start: Start
) -> None:
    running = start()
    token_text = running.printed("join token")
    token = decode_join_token(token_text)
    async with store_of(etcd, token) as store:
        await until(lambda: running.status().coordinator.leading, "it leads")
        before = await store.range("octad/")
        cases: list[tuple[Sequence[str], str]] = [
            ((), f"holds cluster {token.cluster} already; give its --join-token"),
            (("--join-token", token_text, "--replicas", "2"), "keeps 3 copies, not 2"),
            (("--join-token", token_text, "--listen", running.address), "is in use"),
        ]
        for options, reason in cases:
            failing = start(*options, ready=False)
            assert failing.tree.wait(WAIT_S) == 1, failing.output()
            assert failing.output().startswith("octad: ")
            assert reason in failing.output()
            assert failing.output().count("\n") == 1, failing.output()
        assert await store.range("octad/") == before
        await forget_clusters(store)


async def test_the_status_command_shows_what_the_coordinator_says(
    etcd: EtcdMember, start: Start, tmp_path: Path
) -> None:
    process = start()
    token = decode_join_token(process.printed("join token"))
    command = [*OCTAD, "status", "--json", "--coordinator", process.url]
    status = ProcessTree(command, tmp_path / "status.json")
    assert status.wait(WAIT_S) == 3
    document = json.loads(status.log.read_text())
    assert (document["cluster"], document["state"]) == (token.cluster, "forming")
    assert document["store"]["endpoints"] == [etcd.url]
    async with store_of(etcd, token) as store:
        await forget_clusters(store)
