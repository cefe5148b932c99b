"""`octad coordinator --tls-cert --tls-key` as people run it: a node, the verbs, and a renewal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.coordinator.coordinator_site import OCTAD, WAIT_S, CoordinatorProcess, Start
from tests.harness.process_tree import ProcessTree
from tests.unit.s3.front_door_site import TlsFiles

from octad.chaos.cluster.free_ports import free_port
from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.client.cluster.service_token import encode_service_token, service_token

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

TOKEN = JoinToken("71574c1a", bytes(range(32)))
JOIN = encode_join_token(TOKEN)
SERVICE = encode_service_token(service_token(TOKEN))
KEYS = {"AWS_ACCESS_KEY_ID": "octad", "AWS_SECRET_ACCESS_KEY": "octad-secret"}


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


@pytest.fixture
def coordinator(start: Start, files: TlsFiles) -> CoordinatorProcess:
    return start(
        *("--tls-cert", str(files.pair), "--tls-key", str(files.pair)),
        *("--create", "--join-token", JOIN, "--replicas", "1", "--nodes-expected", "1"),
        *("--access-key", "octad", "--secret-key", "octad-secret"),
    )


@pytest.fixture
def node(coordinator: CoordinatorProcess, files: TlsFiles, tmp_path: Path) -> Iterator[ProcessTree]:
    port = free_port((0, 1000, 2000, 3000))
    command = (
        *(*OCTAD, "node", "--data", str(tmp_path / "n1"), "--listen", f"127.0.0.1:{port}"),
        *("--coordinator", coordinator.url, "--coordinator-ca", str(files.authority)),
        *("--join-token", JOIN),
    )
    process = ProcessTree(command, tmp_path / "n1.log").start()
    try:
        process.wait_until_it_says("is ready", 3 * WAIT_S)
        yield process
    finally:
        process.kill()


def octad(files: TlsFiles, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    at = words.index("--") if "--" in words else len(words)  # What follows is not ours.
    return subprocess.run(
        [*OCTAD, *words[:at], "--coordinator", url, *words[at:]],
        env=os.environ | KEYS | {"AWS_CA_BUNDLE": str(files.authority)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_node_joins_and_every_verb_asks_over_tls(
    coordinator: CoordinatorProcess, node: ProcessTree, files: TlsFiles
) -> None:
    assert coordinator.url.startswith("https://")
    assert f"is ready at {coordinator.url}" in coordinator.said()
    for words, shown in (
        ("status", "healthy"),
        ("node ls", "n1"),
        ("bucket create photos", ""),
        ("bucket ls", "photos"),
        (f"kv put colour blue --token {SERVICE}", ""),
        (f"kv get colour --token {SERVICE}", "blue"),
        (f"lock run deploy --token {SERVICE} -- true", ""),
        ("ls", "photos"),
    ):
        ran = octad(files, coordinator.url, *words.split())
        assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
        assert shown in ran.stdout, (words, ran.stdout)

    plain = octad(files, coordinator.url.replace("https", "http"), "status")
    assert plain.returncode == 1
    assert plain.stderr.count("\n") == 1
    assert f"name it as {coordinator.url} in --coordinator" in plain.stderr


def test_hangup_renews_the_certificate_unless_the_pair_is_bad(
    coordinator: CoordinatorProcess, files: TlsFiles, tmp_path: Path
) -> None:
    assert octad(files, coordinator.url, "service", "ls").returncode == 0
    former = tmp_path / "former.pem"
    shutil.copy(files.authority, former)
    good = files.pair.read_bytes()
    files.pair.write_bytes(good[: len(good) // 2])
    os.kill(coordinator.pid, signal.SIGHUP)
    coordinator.wait_until_it_says("is not used, what was read before stays", WAIT_S)
    assert octad(files, coordinator.url, "service", "ls").returncode == 0
    files.renew()
    os.kill(coordinator.pid, signal.SIGHUP)
    coordinator.wait_until_it_says("is used from now on", WAIT_S)
    assert octad(files, coordinator.url, "service", "ls").returncode == 0
    shutil.copy(former, files.authority)
    refused = octad(files, coordinator.url, "service", "ls")
    assert refused.returncode == 1
    assert "its certificate is not trusted" in refused.stderr
