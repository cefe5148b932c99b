"""Services, watchers and coordinators as processes on a real etcd, while all of them are hit."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from tests.cluster.coordinator.coordinator_site import (
    OCTAD,
    WAIT_S,
    CoordinatorProcess,
    Start,
    forget_clusters,
    join_and_register,
    store_of,
    until,
)
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.process_tree import ProcessTree

from octad.client.cluster.cluster_documents import MAP_PATH
from octad.client.cluster.join_token import decode_join_token
from octad.client.cluster.service_records import SERVICES_PATH

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

TTL_S = 5.0
LEAVE_LATE_S_MAX = 1.0


def get(process: CoordinatorProcess, path: str) -> tuple[dict[str, object], dict[str, str]]:
    with urllib.request.urlopen(process.url + path, timeout=5) as answer:
        return json.loads(answer.read()), dict(answer.headers)


def service(log: Path, token: str, urls: str, address: str) -> ProcessTree:
    options = ["--addr", address, "--ttl", str(TTL_S), "--coordinator", urls]
    environment = {**os.environ, "OCTAD_SERVICE_TOKEN": token, "OCTAD_LOG": "json"}
    return ProcessTree(
        [*OCTAD, "service", "register", "web", *options], log, environment=environment
    ).start()


def seen(watching: ProcessTree) -> list[str]:
    """What `octad watch --json` has shown, but for its first reset."""
    documents = [json.loads(line) for line in watching.said().splitlines()]
    assert all(not document["reset"] for document in documents[1:]), documents
    events = [event for document in documents[1:] for event in document["events"]]
    return [f"{event['type']} {event['key'].rpartition('/')[2]}" for event in events]


async def test_instances_stay_and_watchers_see_all_once_while_store_and_coordinators_die(
    etcd: EtcdMember, start: Start, tmp_path: Path
) -> None:
    first = start()
    token_text = first.printed("join token")
    second = start("--join-token", token_text)
    urls = f"{first.url},{second.url}"
    trees: list[ProcessTree] = []

    def run(tree: ProcessTree) -> ProcessTree:
        trees.append(tree)
        return tree

    try:
        watch = [*OCTAD, "watch", "service", "web", "--json", "--coordinator"]
        watch.append(first.url + "," + second.url)
        watching = run(ProcessTree(watch, tmp_path / "watch").start())
        await until(lambda: watching.said() != "", "it watches")
        one = run(service(tmp_path / "one", token_text, urls, "127.0.0.1:81"))
        two = run(service(tmp_path / "two", token_text, urls, "127.0.0.1:82"))
        await until(lambda: len(seen(watching)) == 2, "both joined")

        first.kill()
        etcd.kill()
        await asyncio.sleep(3)
        _, headers = get(second, MAP_PATH)
        assert int(headers["Age"]) >= 2, "the last map, and how old it is"
        assert len(get(second, SERVICES_PATH)[0]["services"]) == 2  # type: ignore[arg-type]
        etcd.start()
        etcd.wait_until_ready()
        await until(lambda: float(str(get(second, SERVICES_PATH)[0]["age_s"])) < 2.5, "current")

        two.kill()
        killed_at = time.monotonic()
        await until(lambda: seen(watching)[2:] == ["leave 127.0.0.1:82"], "its leave is seen")
        assert time.monotonic() - killed_at <= TTL_S + LEAVE_LATE_S_MAX
        one.signal(signal.SIGTERM)
        assert one.wait(WAIT_S) == 0
        await until(lambda: seen(watching)[3:] == ["leave 127.0.0.1:81"], "at once", 2.0)
        assert sorted(seen(watching)[:2]) == ["join 127.0.0.1:81", "join 127.0.0.1:82"]
        warnings = [json.loads(line) for line in one.said().splitlines()[1:-1]]
        assert all(warning["logger"].startswith("octad.") for warning in warnings)
    finally:
        for tree in trees:
            tree.kill()
    async with store_of(etcd, decode_join_token(token_text)) as store:
        await forget_clusters(store)


async def test_the_command_registers_lists_and_refuses_a_taken_name(
    etcd: EtcdMember, start: Start, tmp_path: Path
) -> None:
    coordinator = start()
    token_text = coordinator.printed("join token")
    only = run_octad(tmp_path, "service", "token", "--token", token_text).strip()
    assert only.startswith("octad1s-")
    one = service(tmp_path / "one", only, coordinator.url, "127.0.0.1:81")
    try:
        await until(lambda: "is registered" in one.said(), "it is there")
        listed = run_octad(tmp_path, "service", "ls", "--coordinator", coordinator.url)
        assert "127.0.0.1:81" in listed
        taken = ["--addr", "127.0.0.1:82", "--instance", "127.0.0.1:81", "--token", only]
        refusal = run_octad(
            tmp_path, "service", "register", "web", *taken, "--coordinator", coordinator.url, code=1
        )
        assert refusal.startswith("octad: instance 127.0.0.1:81 of web is live at 127.0.0.1:81")
        assert refusal.count("\n") == 1
    finally:
        one.kill()
    async with store_of(etcd, decode_join_token(token_text)) as store:
        with pytest.raises(Exception, match="advertise"):
            await join_and_register(
                store, coordinator.url, decode_join_token(token_text), 1, listens=False
            )
        await forget_clusters(store)


def run_octad(directory: Path, *words: str, code: int = 0) -> str:
    tree = ProcessTree([*OCTAD, *words], directory / f"octad-{time.monotonic_ns()}").start()
    assert tree.wait(WAIT_S) == code, tree.said()
    return tree.said()
