"""The configuration store and the coordinator of a cluster under test, each as a process.

    python -m octad.chaos.cluster.control_processes store FILE HOST:PORT
    python -m octad.chaos.cluster.control_processes coordinator KIND URL HOST:PORT REPLICAS NODES

`octad dev` has both of them in its supervisor; here each can be killed and frozen by itself. The
cluster is the one of OCTAD_JOIN_TOKEN, and OCTAD_ACCESS_KEY and OCTAD_SECRET_KEY are made its first
keys. Either ends when the process that started it is gone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from octad.client.cluster.join_token import JoinToken, decode_join_token
from octad.client.runtime.address import parse_address
from octad.client.runtime.listener import listen_on
from octad.client.runtime.logs.log_lines import set_up_logging
from octad.client.version import VERSION
from octad.coordinator.http.http_service import HttpService
from octad.coordinator.recovery.create_cluster import create_cluster
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.server.coordinator_config import CoordinatorConfig
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.http_format import PURPOSE
from octad.coordinator.store.http_server import HttpFace
from octad.coordinator.store.interface import StoreUnavailable
from octad.coordinator.store.open_store import StoreAddress, open_store
from octad.sharding.limits import SHARD_DEPTH_DEFAULT

PARENT_POLL_S = 0.5
READY = "is ready"


async def run_store(token: JoinToken, file: Path, listen: str) -> None:
    """The embedded store, behind HTTP."""
    store = await EmbeddedStore.open(file)
    face = HttpFace(store, token.key_for(PURPOSE))
    address = parse_address(listen)
    try:
        await face.start(address.host, address.port)
        print(f"the store {READY}", flush=True)
        await _until_orphaned()
    finally:
        await face.stop()
        await store.close()


async def run_coordinator(
    token: JoinToken,
    kind: Literal["http", "etcd"],
    url: str,
    listen: str,
    replicas: int,
    nodes: int,
) -> None:
    """A coordinator that makes the cluster if there is none, and sends nodes the store's URL."""
    store_address = StoreAddress(kind, (url,))
    store = open_store(store_address, token)
    coordinator = Coordinator(
        store,
        CoordinatorConfig(
            token=token,
            store_address=store_address,
            store_kind="etcd" if kind == "etcd" else "embedded",
            address=listen,
            version=VERSION,
            nodes_expected=nodes,
        ),
    )
    service = HttpService(coordinator)
    try:
        keys = os.environ["OCTAD_ACCESS_KEY"], os.environ["OCTAD_SECRET_KEY"]
        await create_cluster(store, token, replicas, SHARD_DEPTH_DEFAULT, *keys)
        await coordinator.start()
        await service.start(listen_on(listen, "HOST:PORT"))
        print(f"the coordinator {READY}", flush=True)
        await _until_orphaned()
    finally:
        await service.stop()
        await coordinator.stop()
        await store.close()


async def _until_orphaned() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_POLL_S)


def main(arguments: Sequence[str]) -> int:
    set_up_logging()
    token = decode_join_token(os.environ["OCTAD_JOIN_TOKEN"])
    match arguments:
        case ["store", file, listen]:
            asyncio.run(run_store(token, Path(file), listen))
        case ["coordinator", ("http" | "etcd") as kind, url, listen, replicas, nodes]:
            try:
                asyncio.run(run_coordinator(token, kind, url, listen, int(replicas), int(nodes)))
            except StoreUnavailable as error:
                print(f"the store does not answer: {error}", flush=True)
                return 1
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
