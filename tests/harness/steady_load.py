"""Clients that write, read, list and upload all the while, without retries, and expect no error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from tests.harness.cluster_process import DevCluster
from tests.harness.s3_clients import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LARGE_BYTES = 2_500_000  # Three pieces.
KEYS_EACH = 40
LARGE_EVERY = 20


@dataclass(slots=True)
class SteadyLoad:
    """`acknowledged` is what must be there; `longest_s` the longest wait of each kind."""

    cluster: DevCluster
    bucket: str
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    longest_s: dict[str, float] = field(default_factory=dict)
    requests: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def working(self, nodes: Sequence[int]) -> Iterator[None]:
        """Clients at these nodes from here to the end of the block; raises their errors."""
        jobs = [self._write, self._list, self._upload]
        with ThreadPoolExecutor(len(jobs) * len(nodes)) as pool:
            clients: list[Future[None]] = [pool.submit(job, n) for n in nodes for job in jobs]
            try:
                yield
            finally:
                self._stop.set()
            for client in clients:
                client.result()

    def check_at(self, node: int) -> None:
        """All that was acknowledged is read and listed there, each key once."""
        with s3_client(self.cluster, node) as client:
            for key, body in self.acknowledged.items():
                assert client.get_object(Bucket=self.bucket, Key=key)["Body"].read() == body, key
            assert sorted(self._listed(client)) == sorted(self.acknowledged)

    def _listed(self, client: S3Client) -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, PaginationConfig={"PageSize": 50}
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def _timed(self, kind: str, request: Callable[[], object]) -> None:
        started = monotonic()
        request()
        self.requests += 1
        self.longest_s[kind] = max(self.longest_s.get(kind, 0.0), monotonic() - started)

    def _write(self, node: int) -> None:
        with s3_client(self.cluster, node) as client:
            turn = 0
            while not self._stop.is_set():
                key, body = f"{node}/{turn % KEYS_EACH}", f"{turn}".encode() * 500
                if turn % LARGE_EVERY == 0:
                    body = bytes([turn % 251]) * LARGE_BYTES

                def put(key: str = key, body: bytes = body) -> None:
                    client.put_object(Bucket=self.bucket, Key=key, Body=body)

                def get(key: str = key, body: bytes = body) -> None:
                    got = client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                    assert got == body, f"{key} is not what was written"

                self._timed("write", put)
                self.acknowledged[key] = body
                self._timed("read", get)
                turn += 1

    def _list(self, node: int) -> None:
        with s3_client(self.cluster, node) as client:
            while not self._stop.is_set():
                told = set(self.acknowledged)
                found: list[str] = []
                self._timed("list", partial(self._list_into, client, found))
                assert told <= set(found), f"a listing lacks {told - set(found)}"
                assert len(found) == len(set(found)), "a listing names a key twice"
                self._stop.wait(0.05)

    def _list_into(self, client: S3Client, found: list[str]) -> None:
        found.extend(self._listed(client))

    def _upload(self, node: int) -> None:
        with s3_client(self.cluster, node) as client:
            turn = 0
            while not self._stop.is_set():
                key, body = f"{node}/uploaded-{turn % KEYS_EACH}", f"part {turn}".encode() * 100

                def upload(key: str = key, body: bytes = body) -> None:
                    bucket = self.bucket
                    upload_id = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
                    part = client.upload_part(
                        Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=body
                    )
                    client.complete_multipart_upload(
                        Bucket=bucket,
                        Key=key,
                        UploadId=upload_id,
                        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
                    )

                self._timed("upload", upload)
                self.acknowledged[key] = body
                turn += 1
