"""Appends of many through all nodes at once, by SDKs that try again, while nodes are killed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import retrying_client
from tests.harness.work_under_faults import Happening, kill_each_node, split_shards, work_while

pytestmark = pytest.mark.cluster

WRITERS = 4
BUCKET = "appended"
KEY = "log"
NO_ANSWER = (500, 503)


def status_of(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def piece_of(writer: int, turn: int) -> bytes:
    """Of its own; most are small, some are more than a record holds."""
    name = b"<%d.%d>" % (writer, turn)
    return name * (20_000 if turn % 10 == 9 else 100 * (writer + 1))


@dataclass
class Appending:
    """Writers who append to one log, and what each of them was told, by offset."""

    cluster: DevCluster
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    unknown: dict[int, list[bytes]] = field(default_factory=dict)
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, writer: int) -> None:
        """Look where the log ends, and append there."""
        client = retrying_client(self.cluster, writer % 3)
        turn = 0
        while not self.stop.is_set():
            turn += 1
            piece = piece_of(writer, turn)
            try:
                offset = client.head_object(Bucket=BUCKET, Key=KEY)["ContentLength"]
            except (ClientError, BotoCoreError):
                continue
            try:
                told = client.put_object(
                    Bucket=BUCKET, Key=KEY, Body=piece, WriteOffsetBytes=offset
                )
            except client.exceptions.InvalidWriteOffset:
                self.refused += 1
            except (ClientError, BotoCoreError) as error:
                if isinstance(error, ClientError) and status_of(error) not in NO_ANSWER:
                    raise
                with self.lock:
                    self.unknown.setdefault(offset, []).append(piece)
            else:
                assert told["Size"] == offset + len(piece)
                with self.lock:
                    assert offset not in self.acknowledged, "two were told that they are there"
                    self.acknowledged[offset] = piece
        client.close()


def append_while(cluster: DevCluster, happening: Happening) -> None:
    """The log is then exactly the pieces that were acknowledged, in order, and no other."""
    appending = Appending(cluster)
    client = retrying_client(cluster, 0)
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key=KEY, Body=b"", WriteOffsetBytes=0)
    work_while(
        lambda: happening(cluster, lambda: len(appending.acknowledged)),
        appending.write,
        WRITERS,
        appending.stop,
    )
    log = client.get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    client.close()
    acknowledged = len(appending.acknowledged)
    print(
        f"\n{acknowledged} appended, {appending.refused} refused,"
        f" {sum(map(len, appending.unknown.values()))} without an answer, {len(log)} bytes"
    )
    assert appending.refused > 0
    assert acknowledged > 20
    at = 0
    while at < len(log):
        piece = appending.acknowledged.pop(at, None)
        if piece is None:
            maybe = [each for each in appending.unknown.get(at, []) if log.startswith(each, at)]
            assert maybe, f"byte {at} is of no piece that was sent there"
            piece = maybe[0]
        assert log.startswith(piece, at)
        at += len(piece)
    assert not appending.acknowledged, "the log lacks what was acknowledged"


def test_a_log_is_what_was_acknowledged_in_order_while_each_primary_is_killed(
    start_cluster: StartCluster,
) -> None:
    append_while(start_cluster(), kill_each_node)


def test_a_log_is_what_was_acknowledged_in_order_while_shards_are_split(
    start_cluster: StartCluster,
) -> None:
    append_while(start_cluster(), split_shards)
