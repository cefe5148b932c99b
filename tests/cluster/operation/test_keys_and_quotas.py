"""Owners with keys and buckets of their own, and quotas, by way of `octad`, boto3 and awscli."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.cluster.limits.many_uploads import begin_upload
from tests.harness.cluster_process import OCTAD, DevCluster, StartCluster
from tests.harness.s3_clients import (
    aws_environment,
    client_of,
    environment_of_others,
    put_status,
    s3_client,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.cluster

KEY_S_MAX = 2.0  # From when a key is made or disabled until every node knows.
QUOTA_S_MAX = 10.0  # From when a bucket is full, or is so no more, until every node knows.
PATIENCE_S = 20.0  # On a machine that does other things, too.
PART = 5 * 1024 * 1024


def octad(cluster: DevCluster, *arguments: str, env: dict[str, str] | None = None) -> Any:
    """What a verb prints as JSON."""
    command: list[str | Path] = [OCTAD, *arguments, "--json", "--data", cluster.data]
    environment = {**environment_of_others(), **(env or {})}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def create_key(cluster: DevCluster, owner: str, *options: str) -> tuple[str, str]:
    made = octad(cluster, "key", "create", owner, *options)
    return made["access_key"], made["secret_key"]


def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> float:
    """Waits for it; gives how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout_s, f"not within {timeout_s} s"
        time.sleep(0.05)
    return time.monotonic() - begun


def code_of(call: Callable[[], object]) -> str:
    try:
        call()
    except ClientError as error:
        return error.response["Error"].get("Code", "")
    return "200"


def at_each_node(cluster: DevCluster, key: tuple[str, str], stack: ExitStack) -> list[S3Client]:
    """Clients of one key."""
    nodes = range(len(cluster.nodes))
    return [stack.enter_context(client_of(cluster.endpoint(node), *key)) for node in nodes]


def opens(clients: list[S3Client]) -> list[str]:
    return [code_of(client.list_buckets) for client in clients]


def test_owners_have_buckets_of_their_own(cluster: DevCluster) -> None:
    alice, bob = create_key(cluster, "alice"), create_key(cluster, "bob")
    with ExitStack() as stack:
        hers, his = (at_each_node(cluster, key, stack) for key in (alice, bob))
        until(lambda: opens([*hers, *his]) == ["200"] * 6)
        hers[0].create_bucket(Bucket="hers")
        his[1].create_bucket(Bucket="his")
        hers[0].put_object(Bucket="hers", Key="a", Body=b"x")
        for client in his:
            assert code_of(lambda at=client: at.get_object(Bucket="hers", Key="a")) == (  # type: ignore[misc]
                "AccessDenied"
            )
            assert put_status(client, "hers", "b", b"x") == 403
            assert [each["Name"] for each in client.list_buckets()["Buckets"]] == ["his"]
        with s3_client(cluster) as root:
            assert put_status(root, "hers", "b", b"x") == 403, "nor may the first key"
        keys = {each["access_key"]: each for each in octad(cluster, "key", "ls")["keys"]}
        owner = hers[2].list_buckets()["Owner"]
        assert owner == {"ID": keys[alice[0]]["owner_id"], "DisplayName": "alice"}
        assert not keys[alice[0]]["admin"]
    environment = {
        **aws_environment(cluster),
        "AWS_ACCESS_KEY_ID": alice[0],
        "AWS_SECRET_ACCESS_KEY": alice[1],
    }
    aws = OCTAD.with_name("aws")
    done = subprocess.run(
        [aws, "s3", "ls"], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["hers"]


def test_a_key_takes_the_place_of_another_without_a_failed_request(cluster: DevCluster) -> None:
    old = create_key(cluster, "carol")
    with ExitStack() as stack:
        before = at_each_node(cluster, old, stack)
        until(lambda: opens(before) == ["200"] * 3)
        before[0].create_bucket(Bucket="rotated")
        using, failed, stopped = before, list[int](), threading.Event()
        with_new = [0, 0]  # Requests of each worker that have ended, with the new key.

        def work(worker: int) -> None:
            number = 0
            while not stopped.is_set():
                number += 1
                clients = using
                status = put_status(clients[number % 3], "rotated", f"{number % 9}", b"x")
                if status != 200:
                    failed.append(status)
                with_new[worker] += clients is not before

        with ThreadPoolExecutor(2) as threads:
            workers = [threads.submit(work, worker) for worker in range(2)]
            try:
                after = at_each_node(cluster, create_key(cluster, "carol"), stack)
                until(lambda: opens(after) == ["200"] * 3)
                using = after
                until(lambda: min(with_new) > 0)  # What was begun with the old key has ended.
                octad(cluster, "key", "disable", old[0])
                took_s = until(lambda: opens(before) == ["InvalidAccessKeyId"] * 3)
                so_far = min(with_new)
                until(lambda: min(with_new) > so_far + 3)  # Through each node.
            finally:
                stopped.set()
            for worker in workers:
                worker.result()
        assert not failed
        assert took_s < KEY_S_MAX
        octad(cluster, "key", "rm", old[0])
        assert old[0] not in {each["access_key"] for each in octad(cluster, "key", "ls")["keys"]}


def test_a_key_that_is_disabled_while_its_upload_is_under_way_ends_nothing_it_has_begun(
    cluster: DevCluster,
) -> None:
    """A request counts as it was signed; the next one is refused, and the upload is its owner's."""
    key, size = create_key(cluster, "frank"), 300_000
    body = os.urandom(size)
    with ExitStack() as stack:
        clients = at_each_node(cluster, key, stack)
        until(lambda: opens(clients) == ["200"] * 3)
        client = clients[0]
        client.create_bucket(Bucket="disabled")
        of: Any = {"Bucket": "disabled", "Key": "whole"}
        of["UploadId"] = client.create_multipart_upload(**of)["UploadId"]
        url = client.generate_presigned_url("upload_part", {**of, "PartNumber": 1})
        connection, head = begin_upload(url, size)
        with connection:
            connection.sendall(head + body[: size // 2])
            octad(cluster, "key", "disable", key[0])
            until(lambda: opens(clients) == ["InvalidAccessKeyId"] * 3)
            connection.sendall(body[size // 2 :])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        refused: list[Callable[[], object]] = [
            lambda: client.upload_part(**of, PartNumber=2, Body=b"x"),
            lambda: client.list_parts(**of),
            lambda: client.complete_multipart_upload(**of, MultipartUpload={}),
            lambda: client.abort_multipart_upload(**of),
        ]
        assert [code_of(call) for call in refused] == ["InvalidAccessKeyId"] * len(refused)
        others = at_each_node(cluster, create_key(cluster, "frank"), stack)
        until(lambda: opens(others) == ["200"] * 3)
        parts = others[1].list_parts(**of)["Parts"]
        assert [(part["PartNumber"], part["Size"]) for part in parts] == [(1, size)]
        whole: Any = {"Parts": [{"PartNumber": 1, "ETag": parts[0]["ETag"]}]}
        others[2].complete_multipart_upload(**of, MultipartUpload=whole)
        assert others[0].get_object(Bucket="disabled", Key="whole")["Body"].read() == body


def test_only_an_admin_may_make_keys(cluster: DevCluster, tmp_path: Path) -> None:
    admin = create_key(cluster, "dora", "--admin")
    plain = create_key(cluster, "erin")

    def environment(key: tuple[str, str]) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1]}

    made = octad(cluster, "key", "create", "erin", env=environment(admin))
    assert made["owner"] == "erin"
    command: list[str | Path] = [OCTAD, "key", "ls", "--coordinator", cluster.coordinator]
    for env, fault in ((environment(plain), "admin"), ({}, "AWS_ACCESS_KEY_ID")):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**environment_of_others(), **env},
        )
        assert done.returncode != 0
        assert fault in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def bucket_of(cluster: DevCluster, name: str) -> dict[str, Any]:
    buckets = octad(cluster, "bucket", "ls")["buckets"]
    found: dict[str, Any] = next(each for each in buckets if each["name"] == name)
    return found


def test_a_quota_is_reached_and_deletes_lift_it(cluster: DevCluster) -> None:
    with ExitStack() as stack:
        key = (cluster.access_key, cluster.secret_key)
        clients = at_each_node(cluster, key, stack)
        client = clients[0]
        client.create_bucket(Bucket="limited")
        octad(cluster, "bucket", "quota", "limited", "1MB")
        client.put_object(Bucket="limited", Key="inline", Body=b"x" * 100_000)
        client.put_object(Bucket="limited", Key="large", Body=b"x" * 600_000)
        upload = client.create_multipart_upload(Bucket="limited", Key="parts")["UploadId"]
        client.upload_part(
            Bucket="limited", Key="parts", UploadId=upload, PartNumber=1, Body=b"x" * 300_000
        )

        def codes(body: bytes) -> list[str]:
            return [
                code_of(lambda at=each: at.put_object(Bucket="limited", Key="more", Body=body))  # type: ignore[misc]
                for each in clients
            ]

        took_s = until(lambda: codes(b"x") == ["QuotaExceeded"] * 3)
        assert took_s < QUOTA_S_MAX
        shown = bucket_of(cluster, "limited")
        assert (shown["objects"], shown["quota_bytes"]) in ((2, 1_000_000), (3, 1_000_000))
        assert 1_000_000 <= shown["bytes"] <= 1_000_001
        client.abort_multipart_upload(Bucket="limited", Key="parts", UploadId=upload)
        assert until(lambda: codes(b"x") == ["200"] * 3) < QUOTA_S_MAX
        assert codes(b"x" * 400_000) == ["QuotaExceeded"] * 3
        client.delete_object(Bucket="limited", Key="large")
        assert until(lambda: codes(b"x" * 400_000)[0] == "200") < QUOTA_S_MAX
        octad(cluster, "bucket", "quota", "limited", "none")
        until(lambda: codes(b"x" * 1_200_000) == ["200"] * 3)
        until(lambda: bucket_of(cluster, "limited")["bytes"] == 1_300_000)


def test_a_quota_holds_over_a_restart_of_everything_and_a_restored_store(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster, backup = start_cluster(), tmp_path / "store.backup"
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="kept")
        octad(cluster, "bucket", "quota", "kept", "1MB")
        client.put_object(Bucket="kept", Key="large", Body=b"x" * 900_000)
    refuses_more(cluster, "kept")
    coordinator(cluster, "backup", backup)
    with s3_client(cluster) as client:  # What the backup does not know of; once "more" is gone.
        until(lambda: put_status(client, "kept", "after", b"x" * 50_000) == 200)
    cluster.kill()
    cluster.start()
    refuses_more(cluster, "kept")
    cluster.kill()
    coordinator(cluster, "restore", backup, "--force")
    cluster.start()
    refuses_more(cluster, "kept")
    until(lambda: bucket_of(cluster, "kept")["bytes"] == 950_000)
    with s3_client(cluster, 1) as client:
        client.delete_object(Bucket="kept", Key="large")
        until(lambda: put_status(client, "kept", "more", b"x" * 200_000) == 200)


def refuses_more(cluster: DevCluster, bucket: str) -> None:
    """Through each node, once it knows how much there is; what was taken before goes again."""
    for node in range(3):
        with s3_client(cluster, node) as client:
            took_s = until(lambda: put_status(client, bucket, "more", b"x" * 200_000) == 403)
            assert took_s < QUOTA_S_MAX
            client.delete_object(Bucket=bucket, Key="more")


def coordinator(cluster: DevCluster, *words: str | Path) -> None:
    """`octad coordinator …` on the cluster's data."""
    command: list[str | Path] = [OCTAD, "coordinator", *words, "--data", cluster.data]
    subprocess.run(command, capture_output=True, timeout=30, check=True)


def contents(client: S3Client, bucket: str) -> tuple[int, int]:
    """Objects, and their bytes with those of all parts that stand: the naive count."""
    objects = size = 0
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", []):
            objects, size = objects + 1, size + each["Size"]
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        parts = client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        size += sum(part["Size"] for part in parts.get("Parts", []))
    return objects, size


def change_things(cluster: DevCluster, node: int, stopped: threading.Event) -> None:
    """Objects come, are replaced and go, and uploads, whatever answers; others retry for us."""
    client = boto3.client(
        "s3",
        endpoint_url=cluster.endpoint(node),
        aws_access_key_id=cluster.access_key,
        aws_secret_access_key=cluster.secret_key,
        region_name="us-east-1",
    )
    number = 0
    while not stopped.is_set():
        number += 1
        key = f"{node}-{number % 40}"
        with suppress(ClientError, BotoCoreError):  # The node was killed: outcome unknown.
            if number % 3 == 0:
                client.delete_object(Bucket="counted", Key=f"{node}-{number * 7 % 40}")
            elif number % 10 == 1:
                upload = client.create_multipart_upload(Bucket="counted", Key=key)["UploadId"]
                of: Any = {"Bucket": "counted", "Key": key, "UploadId": upload}
                etag = client.upload_part(**of, PartNumber=1, Body=b"p" * (1000 + number))["ETag"]
                if number % 20 == 1:
                    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
                    client.complete_multipart_upload(**of, MultipartUpload=parts)
                elif number % 40 == 11:
                    client.abort_multipart_upload(**of)
            else:
                size = 200_000 if number % 11 == 0 else number % 5000
                client.put_object(Bucket="counted", Key=key, Body=b"x" * size)
    client.close()


def test_what_is_counted_is_right_after_primaries_are_killed(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="counted")
        octad(cluster, "bucket", "quota", "counted", "1TiB")
        stopped = threading.Event()
        with ThreadPoolExecutor(3) as threads:
            workers = [threads.submit(change_things, cluster, node, stopped) for node in range(3)]
            try:
                for victim in (1, 2):
                    time.sleep(1.0)
                    pid = json.loads((cluster.data / "dev.json").read_bytes())["nodes"][victim][
                        "pid"
                    ]
                    os.kill(pid, signal.SIGKILL)
                    time.sleep(2.0)
            finally:
                stopped.set()
            for worker in workers:
                worker.result()
        expected = contents(client, "counted")

        def counted() -> tuple[int, int]:
            shown = bucket_of(cluster, "counted")
            return shown["objects"], shown["bytes"]

        until(lambda: counted() == expected)
    cluster.kill()
    cluster.start()
    with s3_client(cluster) as client:
        assert contents(client, "counted") == expected
        client.put_object(Bucket="counted", Key="one more", Body=b"x" * 12_345)
        until(lambda: counted() == (expected[0] + 1, expected[1] + 12_345))
