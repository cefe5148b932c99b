"""A body of any size passes through the nodes in pieces: their memory does not grow with it."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from tests.harness.cluster_process import StartCluster
from tests.harness.s3_clients import s3_client
from tools.bench.machine import resident_mib

pytestmark = pytest.mark.cluster

MIB = 1 << 20
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


def test_a_put_of_a_quarter_gib_raises_no_nodes_memory_by_more_than_64_mib(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    pids = [node.pid for node in cluster.nodes]
    piece = os.urandom(MIB)
    with s3_client(cluster) as s3:
        s3.create_bucket(Bucket="large")
        s3.put_object(Bucket="large", Key="first", Body=piece * 12)  # What any body needs is there.
        before = [resident_mib(pid) for pid in pids]
        url = s3.generate_presigned_url("put_object", {"Bucket": "large", "Key": "body"})
        with peaks(pids) as highest:
            assert put_stream(url, piece, BODY_MIB) == 200
        rises = [after - start for after, start in zip(highest, before, strict=True)]
        assert max(rises) < RISE_MIB_MAX, rises
        last = s3.get_object(Bucket="large", Key="body", Range=f"bytes=-{MIB}")
        assert last["ContentRange"].endswith(f"/{BODY_MIB * MIB}")
        assert last["Body"].read() == piece
