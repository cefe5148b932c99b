"""A body of any size passes through the nodes in pieces: their memory does not grow with it."""

from __future__ import annotations

import http.client
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from boto3.s3.transfer import TransferConfig
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import retrying_client, s3_client
from tools.bench.machine import resident_mib

pytestmark = pytest.mark.cluster

MIB = 1 << 20
GIB_OF_MIB = 1024
BODY_MIB = 256
RISE_MIB_MAX = 64
WATCH_S = 0.05


@contextmanager
def peaks(pids: list[int]) -> Iterator[list[float]]:
    """The highest memory in MiB that each process has had, once the block has ended."""
    highest = [resident_mib(pid) for pid in pids]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_S):
            highest[:] = map(max, highest, map(resident_mib, pids))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield highest
    finally:
        ended.set()
        watcher.join()


class Repeated(io.RawIOBase):
    """`count` times `piece`, as a file that is too large to exist."""

    def __init__(self, piece: bytes, count: int) -> None:
        self._piece = piece
        self._left = len(piece) * count

    def readable(self) -> bool:
        return True

    def readinto(self, space: memoryview) -> int:  # type: ignore[override]  # Of any buffer.
        begin = -self._left % len(self._piece)
        count = min(len(space), self._left, len(self._piece) - begin)
        space[:count] = self._piece[begin : begin + count]
        self._left -= count
        return count


def put_stream(url: str, piece: bytes, count: int) -> int:
    """PUT `count` times `piece` to a presigned URL; gives the HTTP status."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.putrequest("PUT", f"{parts.path}?{parts.query}")
        connection.putheader("Content-Length", str(len(piece) * count))
        connection.endheaders()
        for _ in range(count):
            connection.send(piece)
        return connection.getresponse().status
    finally:
        connection.close()


def assert_no_memory_grows(cluster: DevCluster, body_mib: int, *, multipart: bool) -> None:
    """Of any node, by 64 MiB or more, while such an object is written; and all of it is there."""
    pids = [node.pid for node in cluster.nodes]
    piece = os.urandom(MIB)
    with s3_client(cluster) as s3:
        s3.create_bucket(Bucket="large")
        s3.put_object(Bucket="large", Key="first", Body=piece * 12)  # What any body needs is there.
        before = [resident_mib(pid) for pid in pids]
        with peaks(pids) as highest:
            if multipart:
                upload(cluster, piece, body_mib)
            else:
                url = s3.generate_presigned_url("put_object", {"Bucket": "large", "Key": "body"})
                assert put_stream(url, piece, body_mib) == 200
        rises = [after - start for after, start in zip(highest, before, strict=True)]
        print(f"\n{body_mib} MiB: {[round(rise, 1) for rise in rises]} MiB more")
        assert max(rises) < RISE_MIB_MAX, rises
        for first in (0, body_mib // 2 * MIB, (body_mib - 1) * MIB):
            of = f"bytes={first}-{first + MIB - 1}"
            read = s3.get_object(Bucket="large", Key="body", Range=of)
            assert read["ContentRange"].endswith(f"/{body_mib * MIB}")
            assert read["Body"].read() == piece


def upload(cluster: DevCluster, piece: bytes, body_mib: int) -> None:
    """As boto3 does it: parts of 8 MiB, some of them at once, and again where one is too slow."""
    at_once = TransferConfig(multipart_chunksize=8 * MIB, max_concurrency=4)
    source = io.BufferedReader(Repeated(piece, body_mib), MIB)
    client = retrying_client(cluster, 0)
    client.upload_fileobj(source, "large", "body", Config=at_once)
    client.close()


def test_a_put_of_a_quarter_gib_raises_no_nodes_memory_by_more_than_64_mib(
    start_cluster: StartCluster,
) -> None:
    assert_no_memory_grows(start_cluster(), BODY_MIB, multipart=False)


@pytest.mark.long
def test_the_largest_put_raises_no_nodes_memory_by_more_than_64_mib(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(options=("--replicas", "2"))  # Of the disk, 10 GiB are enough.
    assert_no_memory_grows(cluster, 5 * GIB_OF_MIB, multipart=False)


@pytest.mark.long
def test_an_upload_of_ten_gib_raises_no_nodes_memory_by_more_than_64_mib(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(options=("--replicas", "2"))  # Of the disk, 20 GiB.
    assert_no_memory_grows(cluster, 10 * GIB_OF_MIB, multipart=True)
