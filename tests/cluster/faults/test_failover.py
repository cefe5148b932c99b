"""A node is killed, or frozen, under load: clients of the other nodes, which never try again
themselves, see no error, what they were told is so everywhere, and no wait is long."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.cluster

BUCKET = "failover"
AWAY = 2  # Index of the node that goes away; the others take the requests.
KEYS = 24
WRITERS = 4
BEFORE_S, AWAY_S = 1.0, 4.0
STALL_S_MAX = {"write": 5.0, "read": 5.0, "list": 5.0}  # On a machine that other tests share.


@dataclass(slots=True)
class Load:
    """What the clients did: the longest wait for each kind of request, and what was told."""

    stop: threading.Event = field(default_factory=threading.Event)
    longest_s: dict[str, float] = field(default_factory=dict)
    requests: int = 0
    acknowledged: dict[str, bytes] = field(default_factory=dict)

    def timed(self, kind: str, request: Callable[[], None]) -> None:
        started = time.monotonic()
        request()
        took_s = time.monotonic() - started
        self.requests += 1
        self.longest_s[kind] = max(self.longest_s.get(kind, 0.0), took_s)


def write_for_ever(cluster: DevCluster, load: Load, node: int, number: int) -> None:
    """Each writer has its own keys, so that what it was told last must be what is there."""
    with s3_client(cluster, node) as client:
        turn = 0
        while not load.stop.is_set():
            key = f"{number}-{turn % KEYS}"
            body = f"{key} for the {turn}th time".encode()

            def put(key: str = key, body: bytes = body) -> None:
                client.put_object(Bucket=BUCKET, Key=key, Body=body)

            def get(key: str = key, body: bytes = body) -> None:
                assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body

            load.timed("write", put)
            load.acknowledged[key] = body
            load.timed("read", get)
            turn += 1


def list_for_ever(cluster: DevCluster, load: Load, node: int) -> None:
    with s3_client(cluster, node) as client:
        while not load.stop.is_set():
            told = set(load.acknowledged)
            found: list[str] = []

            def page(found: list[str] = found) -> None:
                answer = client.list_objects_v2(Bucket=BUCKET)
                found += [entry["Key"] for entry in answer["Contents"]]

            load.timed("list", page)
            assert told <= set(found), "a listing lacks what was acknowledged before it"
            load.stop.wait(0.05)


def upload_large(cluster: DevCluster, load: Load, node: int) -> None:
    """Objects of many pieces, read again while they are being overwritten elsewhere."""
    with s3_client(cluster, node) as client:
        turn = 0
        while not load.stop.is_set():
            key, body = f"large-{node}", bytes([turn % 251]) * 4_000_000

            def put(key: str = key, body: bytes = body) -> None:
                client.put_object(Bucket=BUCKET, Key=key, Body=body)

            def get(key: str = key, body: bytes = body) -> None:
                assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body

            load.timed("large write", put)
            load.timed("large read", get)
            turn += 1


def multipart_for_ever(cluster: DevCluster, load: Load, node: int) -> None:
    with s3_client(cluster, node) as client:
        turn = 0
        while not load.stop.is_set():
            key, data = f"multipart-{turn % KEYS}", f"part of {turn}".encode()

            def upload(key: str = key, data: bytes = data) -> None:
                begun = client.create_multipart_upload(Bucket=BUCKET, Key=key)
                upload_id = begun["UploadId"]
                part = client.upload_part(
                    Bucket=BUCKET, Key=key, UploadId=upload_id, PartNumber=1, Body=data
                )
                client.complete_multipart_upload(
                    Bucket=BUCKET,
                    Key=key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
                )
                client.delete_object(Bucket=BUCKET, Key=key)

            load.timed("multipart upload and delete", upload)
            turn += 1


def freeze(cluster: DevCluster) -> Callable[[], None]:
    pid = cluster.nodes[AWAY].pid
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def kill(cluster: DevCluster) -> Callable[[], None]:
    os.kill(cluster.nodes[AWAY].pid, signal.SIGKILL)
    return lambda: None  # The supervisor starts it again by itself.


@pytest.mark.parametrize("send_away", [kill, freeze])
def test_clients_of_the_other_nodes_see_no_error_and_wait_for_seconds_only(
    start_cluster: StartCluster, send_away: Callable[[DevCluster], Callable[[], None]]
) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="first", Body=b"")
    load = Load()
    with ThreadPoolExecutor(WRITERS + 4) as pool:
        clients: list[Future[None]] = [
            pool.submit(write_for_ever, cluster, load, number % 2, number)
            for number in range(WRITERS)
        ]
        clients += [pool.submit(list_for_ever, cluster, load, 0)]
        clients += [pool.submit(upload_large, cluster, load, node) for node in (0, 1)]
        clients += [pool.submit(multipart_for_ever, cluster, load, 1)]
        try:
            time.sleep(BEFORE_S)
            bring_back = send_away(cluster)
            time.sleep(AWAY_S)
            bring_back()
            time.sleep(BEFORE_S)
        finally:
            load.stop.set()
        for each in clients:
            each.result()
    longest = ", ".join(f"{kind} {took:.2f} s" for kind, took in sorted(load.longest_s.items()))
    print(f"\n{send_away.__name__}: {load.requests} requests; longest: {longest}")
    for kind, longest_s in STALL_S_MAX.items():
        assert load.longest_s[kind] <= longest_s
    for node in (0, 1):
        with s3_client(cluster, node) as client:
            for key, body in load.acknowledged.items():
                assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body


def make_strict(client: S3Client, bucket: str) -> None:
    def ask(params: dict[str, dict[str, str]], **_: object) -> None:
        params["headers"]["x-octad-strict"] = "true"

    client.meta.events.register("before-call.s3.CreateBucket", ask)
    client.create_bucket(Bucket=bucket)


def put_headers(cluster: DevCluster, bucket: str) -> dict[str, str]:
    with s3_client(cluster) as client:
        return client.put_object(Bucket=bucket, Key="key")["ResponseMetadata"]["HTTPHeaders"]


def test_a_write_without_a_copy_says_so_and_in_a_strict_bucket_waits_for_it(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        make_strict(client, "strict-bucket")
    assert "x-octad-degraded" not in put_headers(cluster, BUCKET)
    bring_back = freeze(cluster)
    assert put_headers(cluster, BUCKET)["x-octad-degraded"] == "copies=2/3"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(put_headers, cluster, "strict-bucket")
        time.sleep(3.0)
        assert not waiting.done()
        bring_back()
        assert "x-octad-degraded" not in waiting.result()
