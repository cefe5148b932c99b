"""Clients that append, and that write under conditions, while the disk of one node fills.

What is refused has not happened, not even in part; what is acknowledged has. Conditions are exact
while the disk is full, and once it has been emptied.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.cluster.limits.full_disk import (
    BODY,
    BUCKET,
    MARGIN,
    fill,
    small_disk,
    take,
    wait_for,
)
from tests.harness.cluster_process import StartCluster
from tests.harness.s3_clients import put_status, s3_client

from octad.sharding.limits import INLINE_BYTES_MAX, KIB

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk"),
]

PIECE, PIECES = 24 * KIB, 8  # The sixth moves the object into extents.
IN_RECORD = INLINE_BYTES_MAX // PIECE * PIECE
REFUSALS = 5  # Of each writer, before it ends.
UNKNOWN = (500, 503)
WRONG = '"00000000000000000000000000000000"'


def status_of(call: Callable[..., Any], **arguments: Any) -> int:
    """0 where there is no answer."""
    try:
        answer: dict[str, Any] = call(Bucket=BUCKET, **arguments)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
    except BotoCoreError:
        return 0
    status: int = answer["ResponseMetadata"]["HTTPStatusCode"]
    return status


def content(client: S3Client, key: str) -> bytes | None:
    """None where there is no such object."""
    try:
        return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except client.exceptions.NoSuchKey:
        return None


class Writer:
    """Writes object after object through one node, and knows what each may be."""

    def __init__(self, client: S3Client, name: str) -> None:
        self.client, self.name = client, name
        self.statuses: Counter[int] = Counter()
        self.may_be: dict[str, set[bytes | None]] = {}
        self._turn = 0

    def work(self, stop: threading.Event) -> None:
        """Until it was refused often enough, or is to stop."""
        while not stop.is_set() and self.statuses[507] < REFUSALS:
            self._turn += 1
            self.write(f"{self.name}-{self._turn}")

    def write(self, key: str) -> None:
        raise NotImplementedError

    def put(self, key: str, body: bytes, before: bytes | None, after: bytes, **how: Any) -> bool:
        """Whether it is `after` now; what it may be, if no one knows."""
        status = status_of(self.client.put_object, Key=key, Body=body, **how)
        self.statuses[status] += 1
        done, refused = status == 200, status == 507
        self.may_be[key] = {after} if done else {before} if refused else {before, after}
        return done


class Appender(Writer):
    """Piece by piece, from a record into extents."""

    def write(self, key: str) -> None:
        there: bytes | None = None
        for number in range(PIECES):
            piece = f"{key}.{number} ".encode().ljust(PIECE, b".")
            after = (there or b"") + piece
            if not self.put(key, piece, there, after, WriteOffsetBytes=len(there or b"")):
                return
            there = after


class Creator(Writer):
    """Only where there is none."""

    def write(self, key: str) -> None:
        self.put(key, b"made" * KIB, None, b"made" * KIB, IfNoneMatch="*")


class Changer(Writer):
    """Only what it has seen."""

    def write(self, key: str) -> None:
        there: bytes | None = None
        seen: dict[str, str] = {"IfNoneMatch": "*"}
        for number in range(PIECES):
            after = f"{key} {number} ".encode() * 10 * 4**number  # The last ones in extents.
            if not self.put(key, after, there, after, **seen):
                return
            there = after
            seen = {"IfMatch": self.client.head_object(Bucket=BUCKET, Key=key)["ETag"]}


@contextmanager
def at_work(writers: list[Writer]) -> Iterator[None]:
    """While the block runs, and until all of them have been refused."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(writers)) as pool:
        working = [pool.submit(each.work, stop) for each in writers]
        try:
            yield
            assert wait_for(lambda: all(each.done() for each in working)), "none is refused"
        finally:
            stop.set()
        for each in working:
            each.result()


def test_what_a_full_disk_refuses_has_not_happened_and_conditions_are_exact(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    cluster.stop()
    with small_disk(cluster, "n1"):
        cluster.start()
        with s3_client(cluster, 0) as n1, s3_client(cluster, 1) as n2, s3_client(cluster, 2) as n3:
            clients = [n1, n2, n3]
            n1.create_bucket(Bucket=BUCKET)
            etag = n1.put_object(Bucket=BUCKET, Key="moved", Body=b"m" * IN_RECORD)["ETag"]
            for number in range(3):
                n1.put_object(Bucket=BUCKET, Key=f"stands-{number}", Body=b"stands")
            writers: list[Writer] = [
                kind(client, f"{kind.__name__}-{number}")
                for kind in (Appender, Creator, Changer)
                for number, client in enumerate(clients)
            ]
            with at_work(writers):
                large = fill(clients)
                take(cluster.data / "n1" / "filler", MARGIN)
            assert wait_for(
                lambda: {put_status(each, BUCKET, "x", b"x") for each in clients} == {507}
            )
            _assert_conditions_hold_on_a_full_disk(clients, etag)
            _assert_each_is_what_it_may_be(writers, clients)
            for key in large:
                n2.delete_object(Bucket=BUCKET, Key=key)
            assert wait_for(lambda: put_status(n3, BUCKET, "x", BODY) == 200)
            _assert_what_was_refused_can_be_done(writers, n2, etag)
        logs = [(cluster.data / f"n{number}.log").read_text() for number in (1, 2, 3)]
        assert not any("is removed" in each or "Traceback" in each for each in logs)
        cluster.stop()


def _assert_conditions_hold_on_a_full_disk(clients: list[S3Client], etag: str) -> None:
    for number, client in enumerate(clients):
        how: dict[str, Any] = {"Key": "moved", "Body": b"p" * PIECE}
        assert status_of(client.put_object, WriteOffsetBytes=IN_RECORD, **how) == 507
        assert status_of(client.put_object, WriteOffsetBytes=1, **how) in (400, 507)
        assert status_of(client.put_object, IfMatch=etag, **how) == 507
        assert status_of(client.put_object, IfMatch=WRONG, **how) in (412, 507)
        assert status_of(client.put_object, IfNoneMatch="*", **how) in (412, 507)
        key = f"stands-{number}"
        assert status_of(client.delete_object, Key=key, IfMatch=WRONG) == 412
        stands = client.head_object(Bucket=BUCKET, Key=key)["ETag"]
        assert status_of(client.delete_object, Key=key, IfMatch=stands) == 204
        assert content(client, key) is None
    for client in clients:
        assert content(client, "moved") == b"m" * IN_RECORD


def _assert_each_is_what_it_may_be(writers: list[Writer], clients: list[S3Client]) -> None:
    for writer in writers:
        assert set(writer.statuses) <= {200, 507, *UNKNOWN, 0}, writer.name
        assert writer.statuses[200] > 0, "it has written before the disk was full"
        for number, (key, may_be) in enumerate(writer.may_be.items()):
            assert content(clients[number % len(clients)], key) in may_be, key


def _assert_what_was_refused_can_be_done(
    writers: list[Writer], client: S3Client, etag: str
) -> None:
    how: dict[str, Any] = {"Key": "moved", "Body": b"p" * PIECE}
    assert status_of(client.put_object, WriteOffsetBytes=1, **how) == 400
    assert status_of(client.put_object, WriteOffsetBytes=IN_RECORD, IfMatch=WRONG, **how) == 412
    assert status_of(client.put_object, WriteOffsetBytes=IN_RECORD, IfMatch=etag, **how) == 200
    assert content(client, "moved") == b"m" * IN_RECORD + b"p" * PIECE
    for writer in writers:
        refused = [key for key, may_be in writer.may_be.items() if may_be == {None}]
        for key in refused:
            made: dict[str, Any] = {"Key": key, "Body": b"made", "IfNoneMatch": "*"}
            assert [status_of(client.put_object, **made) for _ in range(2)] == [200, 412]
