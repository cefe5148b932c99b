"""Runs of the chaos harness as tests use them, and boto3 clients that count what they are told."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from tests.harness.s3_clients import client_of

from octad.chaos.check.report import Report, as_text
from octad.chaos.cluster.addresses import Shape
from octad.chaos.cluster.cluster import Cluster
from octad.chaos.faults.faults import Fault
from octad.chaos.run.run import RunOptions, run

WRITE_STALL_S_MAX = 3.0
READ_STALL_S_MAX = 2.0
SETTLE_S = 30.0  # Until every shard is at full strength again.


async def chaos(
    directory: Path,
    schedule: Sequence[Fault],
    *,
    seconds: float,
    nodes: int = 3,
    replicas: int = 3,
    seed: str = "test",
    settle_s: float = SETTLE_S,
) -> Report:
    """A run that found nothing that must not be; fails with its report where it did."""
    shape = Shape(nodes=nodes, replicas=replicas)
    report = await run(RunOptions(directory, schedule, seconds, seed, shape, settle_s))
    assert report.is_sound, f"{as_text(report)}\nsee {directory}"
    assert not report.undecided, as_text(report)
    return report


class Boto3Clients:
    """A thread for each endpoint that writes, reads, lists and deletes, with retries off."""

    def __init__(self, cluster: Cluster, nodes: Sequence[int], bucket: str) -> None:
        self.errors: Counter[str] = Counter()
        self.succeeded = 0
        self._cluster = cluster
        self._bucket = bucket
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(node, which))
            for node in nodes
            for which in range(2)
        ]

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """They work from here to the end of the block. The proxies go on while they end."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                await asyncio.to_thread(thread.join)

    def _work(self, node: int, which: int) -> None:
        keys = self._cluster.credentials
        endpoint = self._cluster.endpoint(node)
        with client_of(endpoint, keys.access_key, keys.secret_key) as client:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                key, body = f"{node}-{which}-{number % 40}", f"{number}".encode() * 100
                try:
                    client.put_object(Bucket=self._bucket, Key=key, Body=body)
                    answer = client.get_object(Bucket=self._bucket, Key=key)
                    assert answer["Body"].read() == body, f"GET {key} after PUT {number}"
                    client.head_object(Bucket=self._bucket, Key=key)
                    client.list_objects_v2(Bucket=self._bucket, Prefix=f"{node}-{which}")
                    if number % 5 == 4:
                        client.delete_object(Bucket=self._bucket, Key=key)
                    self.succeeded += 1
                except (ClientError, BotoCoreError, AssertionError) as error:
                    self.errors[f"n{node}: {error}"] += 1
                    time.sleep(0.05)
