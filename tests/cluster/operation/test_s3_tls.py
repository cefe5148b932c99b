"""S3 with TLS as people have it: `octad dev --tls`, their clients, and what a client must trust."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import SSLError
from tests.harness.cluster_process import OCTAD, DevCluster, StartCluster
from tests.harness.s3_clients import aws_environment, s3_client

from octad.storage_node.dev.dev_directory import PAIR_FILE

pytestmark = pytest.mark.cluster

AWS = Path(sys.executable).with_name("aws")
MIB = 1024 * 1024
LARGE_BYTES = 70 * MIB + 12_345
# Of a node that takes 70 MiB in and gives them out four times at once.
GROWTH_BYTES_MAX = 96 * MIB


def run(cluster: DevCluster, *command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env=aws_environment(cluster),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def most_memory(pid: int) -> int:
    """The most that the process ever had, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_real_clients_over_tls(start_cluster: StartCluster, tmp_path: Path) -> None:
    cluster = start_cluster(nodes=1, options=("--tls",))
    assert cluster.endpoint().startswith("https://")
    large = tmp_path / "large"
    large.write_bytes(os.urandom(LARGE_BYTES))
    before = most_memory(cluster.nodes[0].pid)

    run(cluster, AWS, "s3", "mb", "s3://photos")
    run(cluster, AWS, "s3", "cp", "--no-progress", large, "s3://photos/parts")
    with s3_client(cluster) as client:
        with large.open("rb") as body:
            client.put_object(Bucket="photos", Key="whole", Body=body)
        url = client.generate_presigned_url("get_object", {"Bucket": "photos", "Key": "whole"})

        def download(number: int) -> str:
            got = hashlib.sha256()
            key = ("whole", "parts")[number % 2]
            for piece in client.get_object(Bucket="photos", Key=key)["Body"].iter_chunks(MIB):
                got.update(piece)
            return got.hexdigest()

        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(download, range(4))) == {digest(large)}
        ranged = client.get_object(Bucket="photos", Key="whole", Range="bytes=1000000-69999999")
        assert ranged["Body"].read() == large.read_bytes()[1_000_000:70_000_000]
    grown = most_memory(cluster.nodes[0].pid) - before
    assert grown < GROWTH_BYTES_MAX, f"{grown / MIB:.0f} MiB"

    run(cluster, AWS, "s3", "cp", "--no-progress", "s3://photos/parts", tmp_path / "out")
    assert digest(tmp_path / "out") == digest(large)
    curl = ("curl", "-sS", "--fail", "--cacert", cluster.authority)
    run(cluster, *curl, "-o", tmp_path / "linked", url)
    assert digest(tmp_path / "linked") == digest(large)
    # A bucket in the name of the host; 403 without a signature is the bucket's own answer.
    port = cluster.nodes[0].s3.partition(":")[2]
    hosted = run(cluster, *curl[:2], *curl[3:], f"https://photos.s3.localhost:{port}/whole")
    assert "<Code>AccessDenied</Code>" in hosted
    assert "<Resource>/whole</Resource>" in hosted

    status = json.loads(run(cluster, OCTAD, "status", "--json", "--data", cluster.data))
    assert [(node["s3_tls"], node["log_tls"]) for node in status["nodes"]] == [(True, True)]
    topic = (OCTAD, "topic", "create", "events", "--data", cluster.data)
    assert "topic events is there" in run(cluster, *topic)
    log = status["nodes"][0]["log_address"]
    assert "TLS" in run(cluster, "curl", "-sS", f"http://{log}/v1/topics")
    assert "/v1/topics" in run(cluster, *curl, f"https://{log}/v1/openapi.json")
    assert cluster.endpoint() in run(cluster, OCTAD, "status", "--data", cluster.data)


def test_without_its_authority_no_client_believes_it_and_it_survives_a_restart(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(nodes=1, options=("--tls",))
    stranger = boto3.client(
        "s3",
        endpoint_url=cluster.endpoint(),
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
    )
    with pytest.raises(SSLError):
        stranger.list_buckets()
    stranger.close()
    trusted = Path(cluster.authority).read_bytes()
    cluster.stop()
    cluster.start()
    assert Path(cluster.authority).read_bytes() == trusted
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="kept")
    cluster.options = ["--tls", "--s3-domain", "s3.test"]
    cluster.stop()
    cluster.start()
    assert Path(cluster.authority).read_bytes() != trusted, "it is for other names"
    with s3_client(cluster) as client:
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["kept"]


def test_plain_http_is_told_of_tls_and_hangup_renews_the_certificate_unless_the_pair_is_bad(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(nodes=1, options=("--tls",))
    pair, log = cluster.data / PAIR_FILE, cluster.data / "n1.log"
    good = pair.read_bytes()
    plain = http.client.HTTPConnection(cluster.nodes[0].s3, timeout=10)
    plain.request("PUT", "/bucket/key", bytes(2 * MIB))
    answer = plain.getresponse()
    assert (answer.status, b"https://" in answer.read()) == (400, True)
    plain.close()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="before")  # On a connection that it keeps.
        pair.write_bytes(good[: len(good) // 2])
        os.kill(cluster.nodes[0].pid, signal.SIGHUP)
        _wait_for_line(log, "is not used, what was read before stays")
        with s3_client(cluster) as newcomer:
            newcomer.create_bucket(Bucket="meanwhile")
        pair.write_bytes(good)
        os.kill(cluster.nodes[0].pid, signal.SIGHUP)
        _wait_for_line(log, "is used from now on")
        assert len(client.list_buckets()["Buckets"]) == 2


def _wait_for_line(log: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
