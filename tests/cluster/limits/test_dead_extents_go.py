"""The space of overwritten and deleted large objects comes back, and who reads one finishes."""

from __future__ import annotations

import http.client
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.upkeep.extent_upkeep import WAITS_VARIABLE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
BUCKET = "large"
ROUNDS = 4
KEYS = 8
PART_BYTES = 5 * MIB
WAIT_S = 30.0


def body(tag: str, size: int = 8 * MIB) -> bytes:
    return (tag.encode() * (size // len(tag) + 1))[:size]


def overwrite_all(client: S3Client, number: int) -> None:
    for key in range(KEYS):
        client.put_object(Bucket=BUCKET, Key=f"key-{key}", Body=body(f"{number}/{key} "))


def upload(client: S3Client, key: str, *, complete: bool) -> None:
    """Two parts, of which the first is sent twice."""
    upload_id = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    etags = {}
    for part in (1, 1, 2):
        sent = client.upload_part(
            Bucket=BUCKET,
            Key=key,
            UploadId=upload_id,
            PartNumber=part,
            Body=body(f"{part} ", PART_BYTES),
        )
        etags[part] = sent["ETag"]
    if complete:
        client.complete_multipart_upload(
            Bucket=BUCKET,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": [{"PartNumber": 2, "ETag": etags[2]}]},
        )
    else:
        client.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id)


def delete_bucket_with_an_open_upload(client: S3Client) -> None:
    client.create_bucket(Bucket="gone")
    upload_id = client.create_multipart_upload(Bucket="gone", Key="open")["UploadId"]
    client.upload_part(
        Bucket="gone", Key="open", UploadId=upload_id, PartNumber=1, Body=body("x", PART_BYTES)
    )
    client.delete_bucket(Bucket="gone")


def journal_bytes(cluster: DevCluster, node: int) -> int:
    return sum(
        path.stat().st_size for path in (cluster.data / f"n{node}" / "journal").glob("*.segment")
    )


def live_bytes(node: Path) -> int:
    """Of the records that a row points at, in the index of a node that is stopped."""
    index = CountedIndex(node / "index")
    try:
        assert index.ledger.live_bytes() == index.counted().live_bytes()
        return index.ledger.live_bytes()
    finally:
        index.close()


def test_used_bytes_fall_back_after_rounds_of_overwriting_and_deleting(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAITS_VARIABLE, "0.5")
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="kept", Body=body("kept "))
        for number in range(ROUNDS):
            overwrite_all(client, number)
            upload(client, "parts", complete=number % 2 == 0)
        for key in range(KEYS):
            client.delete_object(Bucket=BUCKET, Key=f"key-{key}")
        delete_bucket_with_an_open_upload(client)
        written = ROUNDS * (KEYS * 8 * MIB + 3 * PART_BYTES)
        deadline = time.monotonic() + WAIT_S
        while any(journal_bytes(cluster, node) > 0.75 * written for node in (1, 2, 3)):
            assert time.monotonic() < deadline, [journal_bytes(cluster, n) for n in (1, 2, 3)]
            time.sleep(0.2)
        time.sleep(4.0)  # The last dead extents have waited for their pin.
    for node in range(3):
        with s3_client(cluster, node) as client:
            kept = client.get_object(Bucket=BUCKET, Key="kept")["Body"].read()
            parts = client.get_object(Bucket=BUCKET, Key="parts")["Body"].read()
        assert kept == body("kept ")
        assert parts == body("2 ", PART_BYTES)
    cluster.stop()
    named = len(kept) + len(parts)
    for node in (1, 2, 3):
        assert named < live_bytes(cluster.data / f"n{node}") < named + MIB


def test_a_reader_in_the_middle_of_a_deleted_object_finishes(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAITS_VARIABLE, "8")
    cluster = start_cluster()
    content = os.urandom(MIB) * 48
    with s3_client(cluster) as client, s3_client(cluster, 1) as other:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="read", Body=content)
        stream = other.get_object(Bucket=BUCKET, Key="read")["Body"]
        first = stream.read(MIB)
        client.delete_object(Bucket=BUCKET, Key="read")
        time.sleep(3.0)  # Long enough for whatever does not wait for the pin.
        assert first + stream.read() == content


def begin_put(cluster: DevCluster, node: int, key: str, size: int) -> http.client.HTTPConnection:
    """A PUT of which nothing but the head has been sent."""
    with s3_client(cluster, node) as client:
        url = client.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": key})
    connection = http.client.HTTPConnection(cluster.nodes[node].s3)
    connection.putrequest("PUT", url.removeprefix(cluster.endpoint(node)))
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    return connection


def test_what_a_front_door_that_died_left_goes_and_what_is_slow_stays(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAITS_VARIABLE, "0.5")
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        upload_id = client.create_multipart_upload(Bucket=BUCKET, Key="open")["UploadId"]
        part = body("part ", PART_BYTES)
        client.upload_part(Bucket=BUCKET, Key="open", UploadId=upload_id, PartNumber=1, Body=part)
        slow = begin_put(cluster, 1, "slow", 8 * MIB)
        broken_off = begin_put(cluster, 2, "broken-off", 20 * MIB)
        broken_off.send(body("broken off ", 8 * MIB))
        time.sleep(0.5)
        os.kill(cluster.nodes[2].pid, signal.SIGKILL)
        broken_off.close()
        content = body("slow ")
        for start in range(0, len(content), MIB):
            slow.send(content[start : start + MIB])
            time.sleep(0.5)
        assert slow.getresponse().status == 200
        slow.close()
        deadline = time.monotonic() + WAIT_S
        logs = [cluster.data / f"n{number}.log" for number in (1, 2, 3)]
        while not any("was never committed" in log.read_text() for log in logs):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(4.0)  # The pin, and more rounds.
        assert client.get_object(Bucket=BUCKET, Key="slow")["Body"].read() == content
    cluster.stop()
    for number in (1, 2, 3):
        named = len(content) + len(part)
        assert named < live_bytes(cluster.data / f"n{number}") < named + MIB
