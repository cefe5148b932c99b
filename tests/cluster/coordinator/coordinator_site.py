"""Coordinators as processes on a real etcd, and what a node does when it joins them."""

from __future__ import annotations

import asyncio
import http.client
import re
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.process_tree import ProcessTree

from octad.chaos.cluster.free_ports import free_port
from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.status_document import STATUS_PATH, ClusterStatus, decode_status
from octad.client.runtime.listener import listen_on
from octad.coordinator.http.api import METRICS_PATH
from octad.coordinator.membership.join_client import join
from octad.coordinator.schema.join_messages import JoinRequest
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore, Delete, Put
from octad.coordinator.store.open_store import StoreAddress, open_store

OCTAD = (sys.executable, "-m", "octad")
WAIT_S = 15.0

Start = Callable[..., "CoordinatorProcess"]


class CoordinatorProcess(ProcessTree):
    """`octad coordinator` on a port of its own, or at the `address` of one that has ended."""

    def __init__(
        self, etcd_url: str, log: Path, options: Sequence[str], address: str | None = None
    ) -> None:
        self.address = address or f"127.0.0.1:{free_port()}"
        self.url = f"{'https' if '--tls-cert' in options else 'http'}://{self.address}"
        command = [*OCTAD, "coordinator", "--etcd", etcd_url, "--listen", self.address]
        command += ["--nodes-expected", "3"]
        super().__init__([*command, *options], log)

    def wait_until_ready(self, timeout_s: float = WAIT_S) -> None:
        self.wait_until_it_says("coordinator of cluster", timeout_s)

    def printed(self, what: str) -> str:
        found = re.search(rf"^  {what}  (\S+)$", self.said(), re.MULTILINE)
        assert found is not None, self.said()
        return found[1]

    def status(self) -> ClusterStatus:
        with urllib.request.urlopen(self.url + STATUS_PATH, timeout=5) as answer:
            return decode_status(answer.read())

    def metrics(self) -> str:
        return self.get(METRICS_PATH)[1].decode()

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@asynccontextmanager
async def store_of(etcd: EtcdMember, token: JoinToken) -> AsyncIterator[ConfigStore]:
    store = open_store(StoreAddress("etcd", (etcd.url,)), token)
    try:
        yield store
    finally:
        await store.close()


async def forget_clusters(store: ConfigStore) -> None:
    """The next test starts with an empty etcd."""
    while entries := (await store.range("octad/")).entries[:100]:
        await store.transact([], [Delete(entry.key) for entry in entries])


async def until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.05)


async def join_and_register(
    store: ConfigStore, urls: str, token: JoinToken, number: int, *, listens: bool = True
) -> NodeRecord:
    """What a node does when it starts: it listens while it asks to join."""
    with (
        closing(listen_on("127.0.0.1:0", "--rpc-port")) as rpc,
        closing(listen_on("127.0.0.1:0", "--listen")) as s3,
    ):
        rpc_port, s3_port = rpc.getsockname()[1], s3.getsockname()[1]
        if not listens:
            rpc.close()
        return await _join_and_register(store, urls, token, number, rpc_port, s3_port)


async def _join_and_register(
    store: ConfigStore, urls: str, token: JoinToken, number: int, rpc_port: int, s3_port: int
) -> NodeRecord:
    request = JoinRequest(
        cluster=token.cluster,
        node=None,
        incarnation=f"incarnation-{number}",
        rpc_address=f"127.0.0.1:{rpc_port}",
        s3_address=f"127.0.0.1:{s3_port}",
        zone="",
        weight=1.0,
        version="0.1.0",
    )
    answer = await join(urls, token, request)
    record = NodeRecord(
        answer.node, request.incarnation, request.rpc_address, request.s3_address,
        "", 1.0, "0.1.0", "boot",
    )  # fmt: skip
    key = StoreKeys(token.cluster).node(answer.node)
    await store.transact([], [Put(key, msgspec.json.encode(record))])
    return record
