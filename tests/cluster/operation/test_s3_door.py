"""The S3 door of real nodes: what a dictionary for a store cannot show."""

from __future__ import annotations

import http.client
import os
import signal
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

from octad.client.s3.checksums import checksum_of
from octad.client.s3.sigv4 import Credentials, sign_request

pytestmark = pytest.mark.cluster

RACE_S = 3.0
BACK_S_MAX = 30.0
LARGE = bytes(range(256)) * 1200  # More than travels in a record of the journal.


def statuses_of(cluster: DevCluster, node: int, operation: str, until: float) -> Counter[int]:
    """Of one operation on one bucket, over and over."""
    seen: Counter[int] = Counter()
    with s3_client(cluster, node) as client:
        while time.monotonic() < until:
            try:
                answer = getattr(client, operation)(Bucket="race")
                seen[answer["ResponseMetadata"]["HTTPStatusCode"]] += 1
            except ClientError as error:
                seen[error.response["ResponseMetadata"]["HTTPStatusCode"]] += 1
    return seen


def test_a_bucket_made_while_it_is_deleted_is_there_or_in_conflict(cluster: DevCluster) -> None:
    until = time.monotonic() + RACE_S
    with ThreadPoolExecutor(4) as threads:
        made = [threads.submit(statuses_of, cluster, n, "create_bucket", until) for n in (0, 1)]
        gone = [threads.submit(statuses_of, cluster, n, "delete_bucket", until) for n in (1, 2)]
    created, deleted = made[0].result() + made[1].result(), gone[0].result() + gone[1].result()
    assert created.keys() <= {200, 409}, created
    assert deleted.keys() <= {204, 404, 409}, deleted
    assert created[200] > 2
    assert deleted[204] > 2


def test_a_large_framed_body_is_stored_without_its_frames(cluster: DevCluster) -> None:
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="framed")
        host = urlsplit(cluster.endpoint()).netloc
        crc = checksum_of("CRC32", LARGE)
        body = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n" % (len(LARGE), LARGE, crc.encode())
        headers = {
            "host": host,
            "content-length": str(len(body)),
            "x-amz-decoded-content-length": str(len(LARGE)),
            "x-amz-trailer": "x-amz-checksum-crc32",
        }
        added, _ = sign_request(
            method="PUT",
            path="/framed/key",
            query="",
            headers=headers,
            credentials=Credentials(cluster.access_key, cluster.secret_key),
            region="us-east-1",
            now=time.time(),
            content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        )
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("PUT", "/framed/key", body, {**headers, **added})
        assert connection.getresponse().status == 200
        connection.close()
        assert client.get_object(Bucket="framed", Key="key")["Body"].read() == LARGE


def test_octad_dev_takes_default_links_and_hosts_under_localhost(cluster: DevCluster) -> None:
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="shared")
        client.put_object(Bucket="shared", Key="key", Body=b"data")
    by_default = boto3.client(
        "s3",
        endpoint_url=cluster.endpoint(),
        region_name="us-east-1",
        aws_access_key_id=cluster.access_key,
        aws_secret_access_key=cluster.secret_key,
    )
    url = by_default.generate_presigned_url("get_object", Params={"Bucket": "shared", "Key": "key"})
    assert "AWSAccessKeyId=" in url
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == b"data"
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    target = f"{parts.path.removeprefix('/shared')}?{parts.query}"
    connection.request("GET", target, headers={"host": f"shared.localhost:{parts.port}"})
    assert connection.getresponse().read() == b"data"
    connection.close()
    by_default.close()


def test_who_connects_to_a_node_that_starts_again_is_refused_or_answered(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    where = urlsplit(cluster.endpoint(2))
    assert where.hostname is not None
    assert where.port is not None
    os.kill(cluster.nodes[2].pid, signal.SIGKILL)
    away, deadline = False, time.monotonic() + BACK_S_MAX
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
        try:
            connection.connect()
            connection.request("GET", "/")
            assert connection.getresponse().status == 403
            if away:
                return
        except ConnectionRefusedError:
            away = True
        except ConnectionError:
            assert not away, "connected with nobody"  # Else the killed process is still ending.
        finally:
            connection.close()
    pytest.fail("it did not come back")
