"""What the benchmark runs against: an etcd and one coordinator, as processes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tests.cluster.coordinator.coordinator_site import CoordinatorProcess
from tests.cluster.store.etcd_process import make_etcd

from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.coordinator.recovery.create_cluster import create_cluster, new_join_token
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore, Put
from octad.coordinator.store.open_store import StoreAddress, open_store
from octad.sharding.ids import NodeId

DEPTH = 12
REPLICAS = 3
NODES = 9
START_S_MAX = 120.0
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
            options = ["--join-token", encode_join_token(token), "--nodes-expected", str(NODES)]
            coordinator = CoordinatorProcess(etcd.url, directory / "coordinator.log", options)
            coordinator.start()
            try:
                coordinator.wait_until_ready(START_S_MAX)
                keys = StoreKeys(token.cluster)
                yield Site(token, keys, store, coordinator.url, coordinator.pid)
            finally:
                coordinator.kill()
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
