"""What the benchmark runs against: an etcd and one coordinator, as processes."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tests.cluster.store.etcd_process import make_etcd
from tests.harness.cluster_process import free_port_block
from tests.harness.process_tree import ProcessTree

from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.coordinator.recovery.create_cluster import create_cluster, new_join_token
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore, Put
from octad.coordinator.store.open_store import StoreAddress, open_store
from octad.sharding.ids import NodeId

DEPTH = 12
REPLICAS = 3
NODES = 9
READY_LINE = "coordinator of cluster"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Site:
    """`store` is open on this side."""

    token: JoinToken
    keys: StoreKeys
    store: ConfigStore
    url: str
    coordinator_pid: int

    def coordinator_cpu_s(self) -> float:
        """What the coordinator's process has used so far."""
        fields = Path(f"/proc/{self.coordinator_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@asynccontextmanager
async def open_site(directory: Path) -> AsyncIterator[Site]:
    """A cluster of 4,096 shards on nine nodes that are only registered."""
    etcd = make_etcd(directory / "etcd")[0]
    etcd.start()
    try:
        etcd.wait_until_ready()
        token = new_join_token()
        store = open_store(StoreAddress("etcd", (etcd.url,)), token)
        try:
            await create_cluster(store, token, REPLICAS, DEPTH, "octad", "octad-secret")
            await _register_nodes(store, StoreKeys(token.cluster))
            async with _coordinator(directory, etcd.url, token) as (url, pid):
                yield Site(token, StoreKeys(token.cluster), store, url, pid)
        finally:
            await store.close()
    finally:
        etcd.kill()


async def _register_nodes(store: ConfigStore, keys: StoreKeys) -> None:
    for number in range(1, NODES + 1):
        record = NodeRecord(
            id=NodeId(number),
            incarnation=f"incarnation-{number}",
            rpc_address=f"10.0.0.{number}:10000",
            s3_address=f"10.0.0.{number}:9000",
            zone=f"rack-{number}",
            weight=1.0,
            version="0.1.0",
            boot="boot",
        )
        await store.transact([], [Put(keys.node(record.id), msgspec.json.encode(record))])


@asynccontextmanager
async def _coordinator(
    directory: Path, etcd_url: str, token: JoinToken
) -> AsyncIterator[tuple[str, int]]:
    address = f"127.0.0.1:{free_port_block(1)}"
    command = [sys.executable, "-m", "octad", "coordinator", "--etcd", etcd_url]
    environment = {**os.environ, "OCTAD_JOIN_TOKEN": encode_join_token(token)}
    options = ["--listen", address, "--nodes-expected", str(NODES)]
    log = directory / "coordinator.log"
    tree = ProcessTree([*command, *options], log, environment=environment)
    try:
        while READY_LINE not in log.read_text():
            if tree.process.poll() is not None:
                raise RuntimeError(tree.log_tail())
        yield f"http://{address}", tree.pid
    finally:
        tree.kill()
