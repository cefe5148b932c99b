"""Conditional writes through all nodes at once, by SDKs that try again, while nodes are killed."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import retrying_client, s3_client
from tests.harness.work_under_faults import Happening, kill_each_node, split_shards, work_while

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.cluster

CLIENTS = 8
ROUNDS = 12
COUNTERS = 2


def status_of(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def test_of_many_that_create_one_key_at_once_exactly_one_has_created_it(
    cluster: DevCluster,
) -> None:
    bucket = "created-once"
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=bucket)
    together = threading.Barrier(CLIENTS)

    def create(number: int) -> list[int]:
        """Of each round, the status."""
        statuses = []
        with s3_client(cluster, number % 3) as client:
            for turn in range(ROUNDS):
                together.wait()
                try:
                    client.put_object(
                        Bucket=bucket, Key=f"key-{turn}", Body=b"%d" % number, IfNoneMatch="*"
                    )
                    statuses.append(200)
                except ClientError as error:
                    statuses.append(status_of(error))
        return statuses

    with ThreadPoolExecutor(CLIENTS) as pool:
        told = list(pool.map(create, range(CLIENTS)))
    with s3_client(cluster, 1) as client:
        for turn in range(ROUNDS):
            statuses = [of_client[turn] for of_client in told]
            assert Counter(statuses) == {200: 1, 412: CLIENTS - 1}
            stands = client.get_object(Bucket=bucket, Key=f"key-{turn}")["Body"].read()
            assert stands == b"%d" % statuses.index(200)


def test_versions_that_a_primary_elsewhere_tells_are_those_that_it_takes(
    cluster: DevCluster,
) -> None:
    """Large and small, put, copied and completed, from each node."""
    bucket = "told-versions"
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=bucket)
    for node in range(3):
        with s3_client(cluster, node) as client, s3_client(cluster, (node + 1) % 3) as other:
            for size in (10, 300_000):
                key = f"{node}-{size}"
                first = version_of(client.put_object(Bucket=bucket, Key=key, Body=bytes(size)))
                assert version_of(other.head_object(Bucket=bucket, Key=key)) == first
                assert version_of(other.get_object(Bucket=bucket, Key=key)) == first
                second = put_if_version(other, bucket, key, first)
                assert second not in ("", first)
                assert put_if_version(client, bucket, key, first) == "", "it is of before"
                copy = client.copy_object(
                    Bucket=bucket, Key=f"{key}-copy", CopySource=f"{bucket}/{key}", IfNoneMatch="*"
                )
                assert version_of(other.head_object(Bucket=bucket, Key=f"{key}-copy")) == (
                    version_of(copy)
                )
            upload = client.create_multipart_upload(Bucket=bucket, Key="whole")["UploadId"]
            of: dict[str, Any] = {"Bucket": bucket, "Key": "whole", "UploadId": upload}
            part = other.upload_part(**of, PartNumber=1, Body=b"%d" % node)
            parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            done = other.complete_multipart_upload(**of, MultipartUpload=parts, IfNoneMatch="*")
            assert version_of(client.head_object(Bucket=bucket, Key="whole")) == version_of(done)
            gone = client.delete_object(Bucket=bucket, Key="whole", IfMatch=done["ETag"])
            assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204


def version_of(answer: Any) -> str:
    version: str = answer["ResponseMetadata"]["HTTPHeaders"]["x-octad-version"]
    return version


def put_if_version(client: S3Client, bucket: str, key: str, version: str) -> str:
    """The new version; "" where another one stands."""

    def ask(params: dict[str, dict[str, str]], **_: object) -> None:
        params["headers"]["x-octad-if-version"] = version

    client.meta.events.register("before-call.s3.PutObject", ask)
    try:
        return version_of(client.put_object(Bucket=bucket, Key=key, Body=b"again"))
    except ClientError as error:
        if status_of(error) != 412:
            raise
        return ""
    finally:
        client.meta.events.unregister("before-call.s3.PutObject", ask)


class Counting:
    """Clients that add to counters by what they read, and try again as SDKs do."""

    def __init__(self, cluster: DevCluster, bucket: str) -> None:
        self.cluster, self.bucket = cluster, bucket
        self.stop = threading.Event()
        self.acknowledged: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.refused = 0
        self._lock = threading.Lock()

    def count(self, number: int) -> None:
        client = retrying_client(self.cluster, number % 3)
        turn = number
        while not self.stop.is_set():
            turn += 1
            self._add_one(client, f"counter-{turn % COUNTERS}")
        client.close()

    def _add_one(self, client: S3Client, key: str) -> None:
        try:
            read = client.get_object(Bucket=self.bucket, Key=key)
            count, etag = int(read["Body"].read()), read["ETag"]
        except (ClientError, BotoCoreError):
            return
        try:
            client.put_object(Bucket=self.bucket, Key=key, Body=b"%d" % (count + 1), IfMatch=etag)
            outcome = self.acknowledged
        except ClientError as error:
            if status_of(error) == 412:
                with self._lock:
                    self.refused += 1
                return
            outcome = self.unknown
        except BotoCoreError:
            outcome = self.unknown
        with self._lock:
            outcome[key] += 1


def count_while(cluster: DevCluster, happening: Happening) -> None:
    """Each counter then has all that was acknowledged, and at most what had no answer besides."""
    counting = Counting(cluster, "counters")
    client = retrying_client(cluster, 0)
    client.create_bucket(Bucket=counting.bucket)
    for counter in range(COUNTERS):
        client.put_object(Bucket=counting.bucket, Key=f"counter-{counter}", Body=b"0")
    work_while(
        lambda: happening(cluster, counting.acknowledged.total),
        counting.count,
        CLIENTS,
        counting.stop,
    )
    print(
        f"\n{counting.acknowledged.total()} counted, {counting.refused} refused,"
        f" {counting.unknown.total()} without an answer"
    )
    assert counting.refused > 0
    for key, acknowledged in counting.acknowledged.items():
        count = int(client.get_object(Bucket=counting.bucket, Key=key)["Body"].read())
        assert acknowledged <= count <= acknowledged + counting.unknown[key]
    client.close()


def test_counters_lose_no_update_and_count_none_twice_while_each_primary_is_killed(
    start_cluster: StartCluster,
) -> None:
    count_while(start_cluster(), kill_each_node)


def test_counters_lose_no_update_and_count_none_twice_while_shards_are_split(
    start_cluster: StartCluster,
) -> None:
    count_while(start_cluster(), split_shards)
