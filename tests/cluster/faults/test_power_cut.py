"""All nodes lose their power at once, while objects are appended to, replaced on condition, tagged.

A real file system under all of them, shut down in the middle: see `tests/harness/loop_disk.py`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.loop_disk import data_on_loop_disk
from tests.harness.s3_clients import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.root,
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a disk"),
]

DISK_BYTES = 3 << 30
CUTS = 3
ACKNOWLEDGED_MIN = 12  # Of each writer in each life, before the power goes.
BUCKET = "cut"
WAIT_S_MAX = 120.0


@dataclass
class Writer:
    """Changes one object step by step; `acknowledged` of its steps were, `sent` were tried."""

    key: str
    acknowledged: int = 0
    sent: int = 0
    counted: threading.Event = field(default_factory=threading.Event)

    def begin(self, client: S3Client) -> None:
        client.put_object(Bucket=BUCKET, Key=self.key, Body=b"")

    def step(self, client: S3Client, number: int) -> None:
        """Raises where it was not acknowledged."""
        raise NotImplementedError

    def found(self, client: S3Client) -> int:
        """How many steps it has, exactly; raises AssertionError where it is anything else."""
        raise NotImplementedError

    def run(self, cluster: DevCluster, node: int) -> None:
        """Until something fails."""
        first = self.acknowledged
        with s3_client(cluster, node) as client:
            while True:
                self.sent = self.acknowledged + 1
                try:
                    self.step(client, self.sent)
                except (ClientError, BotoCoreError):
                    return
                self.acknowledged = self.sent
                if self.acknowledged >= first + ACKNOWLEDGED_MIN:
                    self.counted.set()


class Appender(Writer):
    """Its pieces go into extents after a while."""

    PIECE_BYTES: ClassVar = 20_000

    def piece(self, number: int) -> bytes:
        return b"%08d" % number * (self.PIECE_BYTES // 8)

    def step(self, client: S3Client, number: int) -> None:
        offset = (number - 1) * self.PIECE_BYTES
        client.put_object(
            Bucket=BUCKET, Key=self.key, Body=self.piece(number), WriteOffsetBytes=offset
        )

    def found(self, client: S3Client) -> int:
        body = client.get_object(Bucket=BUCKET, Key=self.key)["Body"].read()
        count = len(body) // self.PIECE_BYTES
        assert body == b"".join(self.piece(number) for number in range(1, count + 1))
        return count


class Counter(Writer):
    """Replaces what it has read."""

    def step(self, client: S3Client, number: int) -> None:
        etag = client.head_object(Bucket=BUCKET, Key=self.key)["ETag"]
        client.put_object(Bucket=BUCKET, Key=self.key, Body=b"%d" % number, IfMatch=etag)

    def found(self, client: S3Client) -> int:
        return int(client.get_object(Bucket=BUCKET, Key=self.key)["Body"].read() or b"0")


class Tagger(Writer):
    """Changes the tags of an object that stands."""

    def step(self, client: S3Client, number: int) -> None:
        tags = [{"Key": "step", "Value": str(number)}]
        client.put_object_tagging(Bucket=BUCKET, Key=self.key, Tagging={"TagSet": tags})  # type: ignore[typeddict-item]

    def found(self, client: S3Client) -> int:
        assert client.get_object(Bucket=BUCKET, Key=self.key)["Body"].read() == b""
        tags = client.get_object_tagging(Bucket=BUCKET, Key=self.key)["TagSet"]
        return int(tags[0]["Value"]) if tags else 0


WRITERS: list[Callable[[], Writer]] = [
    lambda: Appender("log-1"),
    lambda: Appender("log-2"),
    lambda: Counter("counter"),
    lambda: Tagger("tagged"),
]


def acknowledged_at(writers: list[Writer]) -> Iterator[int]:
    """Of each writer, once it has had enough of its life."""
    for writer in writers:
        assert writer.counted.wait(WAIT_S_MAX), f"{writer.key} has come to {writer.acknowledged}"
        writer.counted.clear()
    for writer in writers:
        yield writer.acknowledged


def test_what_was_acknowledged_is_there_exactly_after_the_power_goes(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    writers = [make() for make in WRITERS]
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        for writer in writers:
            writer.begin(client)
    cluster.stop()
    with data_on_loop_disk(cluster.data, DISK_BYTES) as disk:
        for _ in range(CUTS):
            cluster.start()
            with ThreadPoolExecutor(len(writers)) as pool:
                lives = [
                    pool.submit(each.run, cluster, place % 3) for place, each in enumerate(writers)
                ]
                acknowledged = list(acknowledged_at(writers))
                disk.cut_power()  # What is acknowledged from here on does not count.
                cluster.kill()
                for life in lives:
                    life.result()
            disk.mount_again()
            cluster.start()
            for node in range(3):
                with s3_client(cluster, node) as client:
                    found = [writer.found(client) for writer in writers]
                for writer, least, count in zip(writers, acknowledged, found, strict=True):
                    assert least <= count <= writer.sent, f"{writer.key} at node {node}"
                    writer.acknowledged = count
            cluster.stop()
