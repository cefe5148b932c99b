"""Coordinators as processes on a real etcd: one makes the cluster, one leads, the next follows."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cluster.coordinator.coordinator_site import (
    OCTAD,
    WAIT_S,
    Start,
    forget_clusters,
    join_and_register,
    store_of,
    until,
)
from tests.cluster.coordinator.tcp_link import tcp_link
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.process_tree import ProcessTree

from octad.client.cluster.doctor_document import DOCTOR_PATH
from octad.client.cluster.join_token import decode_join_token
from octad.client.cluster.service_records import SERVICES_PATH
from octad.coordinator.diagnosis.etcd_versions import is_old
from octad.coordinator.schema.records import StoreKeys

SUCCESSION_S_MAX = 5.0

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]


async def test_the_leader_is_killed_and_another_makes_the_map_once(
    etcd: EtcdMember, start: Start
) -> None:
    first = start("--access-key", "octad", "--secret-key", "octad-secret")
    assert (first.printed("access key"), first.printed("secret key")) == ("octad", "octad-secret")
    token_text = first.printed("join token")
    token = decode_join_token(token_text)
    second = start("--join-token", token_text)
    assert "join token " not in second.said(), "secrets are shown once"
    await until(lambda: first.status().coordinator.leading, "the first leads")
    assert not second.status().coordinator.leading
    async with store_of(etcd, token) as store:
        urls = f"{first.url},{second.url}"
        for number in (1, 2):
            await join_and_register(store, urls, token, number)
        first.kill()
        killed_at = time.monotonic()
        await until(lambda: second.status().coordinator.leading, "the second leads")
        assert time.monotonic() - killed_at <= SUCCESSION_S_MAX
        await join_and_register(store, urls, token, 3)
        await until(lambda: second.status().state == "healthy", "the second made the map")
        rows = (await store.range(StoreKeys(token.cluster).shards)).entries
        assert len(rows) == 256
        assert all(row.create_revision == row.mod_revision for row in rows), (
            "no configuration written twice"
        )
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
    first.freeze()
    frozen_at = time.monotonic()
    async with store_of(etcd, token) as store:
        await until(lambda: second.status().coordinator.leading, "the second leads")
        assert time.monotonic() - frozen_at <= SUCCESSION_S_MAX
        for number in (1, 2, 3):
            await join_and_register(store, second.url, token, number)
        first.thaw()
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
    process.signal(number)
    assert process.wait(5) == 0
    assert "Traceback" not in process.said()
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
            assert failing.wait(WAIT_S) == 1, failing.said()
            assert failing.said().startswith("octad: ")
            assert reason in failing.said()
            assert failing.said().count("\n") == 1, failing.said()
        assert await store.range("octad/") == before
        await forget_clusters(store)


async def test_a_start_while_etcd_is_silent_waits_for_it_and_says_so(
    etcd: EtcdMember, start: Start, tmp_path: Path
) -> None:
    first = start()
    token_text = first.printed("join token")
    etcd.freeze()
    try:
        waiting = start("--join-token", token_text, ready=False)
        said = f"waiting for etcd at {etcd.url}, which does not answer"
        await until(lambda: said in waiting.said(), "it says so")
        assert waiting.get("/healthz") == (200, b"ok\n")
        status, answer = waiting.get(SERVICES_PATH)
        assert (status, json.loads(answer)["code"]) == (503, "not-ready")
        for verb in ("status", "watch"):
            command = ProcessTree(
                [*OCTAD, verb, "--coordinator", waiting.url], tmp_path / f"{verb}.log"
            ).start()
            assert command.wait(WAIT_S) == 1
            assert "it has not read the configuration store yet" in command.said()
            assert "{" not in command.said(), "people are told, not programs"
        assert waiting.runs
    finally:
        etcd.thaw()
    await asyncio.to_thread(waiting.wait_until_ready)
    assert waiting.get(SERVICES_PATH)[0] == 200
    async with store_of(etcd, decode_join_token(token_text)) as store:
        await forget_clusters(store)


async def test_a_start_in_which_etcd_falls_silent_goes_on_once_it_answers(
    etcd: EtcdMember, start: Start
) -> None:
    token_text = start().printed("join token")
    async with tcp_link(etcd.url.removeprefix("http://")) as link:
        link.silence_after(b"octad/")
        waiting = start("--join-token", token_text, ready=False, etcd_url=f"http://{link.address}")
        await until(lambda: "DEADLINE_EXCEEDED" in waiting.said(), "it says what it waits for")
        link.heal()
        await asyncio.to_thread(waiting.wait_until_ready)
    async with store_of(etcd, decode_join_token(token_text)) as store:
        await forget_clusters(store)


async def test_the_status_command_shows_what_the_coordinator_says(
    etcd: EtcdMember, start: Start, tmp_path: Path
) -> None:
    process = start()
    token = decode_join_token(process.printed("join token"))
    command = [*OCTAD, "status", "--json", "--coordinator", process.url]
    status = ProcessTree(command, tmp_path / "status.json").start()
    assert status.wait(WAIT_S) == 3
    document = json.loads(status.said())
    assert (document["cluster"], document["state"]) == (token.cluster, "forming")
    assert document["store"]["endpoints"] == [etcd.url]
    async with store_of(etcd, token) as store:
        await forget_clusters(store)


async def test_the_doctor_names_an_etcd_that_is_old(etcd: EtcdMember, start: Start) -> None:
    coordinator = start()
    token = decode_join_token(coordinator.printed("join token"))
    version = etcd.version()
    endpoint = etcd.url.removeprefix("http://")
    async with store_of(etcd, token) as store:
        assert await store.versions() == {endpoint: version}
        if is_old(version):
            told = f"etcd is {version} at {endpoint}"
            await until(lambda: told in coordinator.get(DOCTOR_PATH)[1].decode(), "it is told")
        await forget_clusters(store)
