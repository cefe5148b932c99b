"""The engine's operations through one real node: a process of its own, S3, one copy of everything.

`octad dev` makes no cluster of one copy: such a thing keeps nothing safe. Here it is made by
writing `cluster.json` first, so that what is measured is one node and not its peers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tests.cluster.cluster_process import OCTAD, DevCluster
from tools.bench.load import Cell, Load, build

from octad.client.core.join_token import encode_join_token
from octad.coordinator.shell.create_cluster import new_join_token
from octad.storage_node.shell import dev_directory

IN_FLIGHT = 64
KEYS = 5_000
SMALL, TINY = 4096, 100


class OneNodeCluster(DevCluster):
    """A coordinator and one node; one copy, which a write waits for."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, nodes=1)
        coordinator_port, store_port = dev_directory.free_ports(2)
        cluster = dev_directory.DevCluster(
            format=dev_directory.FORMAT_VERSION,
            join_token=encode_join_token(new_join_token()),
            access_key=self.access_key,
            secret_key=self.secret_key,
            nodes=1,
            replicas=1,
            etcd=(),
            coordinator_port=coordinator_port,
            store_port=store_port,
            rpc_ports=[],
        )
        self.data.mkdir(parents=True)
        (self.data / dev_directory.CLUSTER_FILE).write_bytes(msgspec.json.encode(cluster))

    def command(self) -> list[str | Path]:
        """The shape is what the directory says."""
        return [OCTAD, "dev", "--data", self.data, "--s3-port", str(self.s3_port)]


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: what was done, and what the load generator saw."""

    name: str
    cell: Cell

    def measured(self) -> str:
        cell = self.cell
        failed = f", {cell.errors} FAILED" if cell.errors else ""
        return (
            f"{cell.server_cpu_us_op:.0f} µs CPU of the node ({cell.ops_s:,.0f}/s, "
            f"p50 {cell.p50_ms:.1f} ms, p99 {cell.p99_ms:.1f} ms; "
            f"other programs took {cell.foreign_cores:.1f} cores){failed}"
        )


def figures(directory: Path, seconds: float) -> Iterator[Figure]:
    """Each operation for `seconds`, one after the other. Raises LoadFailed, ClusterFailed."""
    binary = build()
    cluster = OneNodeCluster(directory)
    try:
        cluster.start()
        (node,) = cluster.nodes
        keys = (cluster.access_key, cluster.secret_key)
        load = Load(binary, node.s3, *keys, str(node.pid), seconds)
        load.make_bucket()
        load.fill("tiny_", KEYS, TINY)
        load.fill("small_", KEYS, SMALL)
        put = load.cell("put", SMALL, IN_FLIGHT, "-prefix", "put_")
        yield Figure(f"put of 4 KiB, synced, {IN_FLIGHT} in flight", put)
        for name, prefix, size in (("100 B", "tiny_", TINY), ("4 KiB", "small_", SMALL)):
            cell = load.cell("get", size, IN_FLIGHT, "-prefix", prefix, "-n", str(KEYS))
            yield Figure(f"get of {name}, {IN_FLIGHT} in flight", cell)
        yield Figure("LIST of 1,000", load.cell("list", TINY, 1, "-prefix", "tiny_"))
        cluster.stop()
    finally:
        cluster.kill()
