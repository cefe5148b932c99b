"""A cluster that keeps one copy of everything: what replication adds shows beside it.

`octad dev` makes no cluster of one copy: such a thing keeps nothing safe. Here it is made by
writing `cluster.json` first.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from tests.harness.cluster_process import OCTAD, DevCluster

from octad.client.cluster.join_token import encode_join_token
from octad.coordinator.recovery.create_cluster import new_join_token
from octad.storage_node.dev import dev_directory


class OneCopyCluster(DevCluster):
    """A coordinator and its nodes; each shard has one member."""

    def __init__(self, directory: Path, *, nodes: int) -> None:
        super().__init__(directory, nodes=nodes)
        coordinator_port, store_port = dev_directory.free_ports(2)
        cluster = dev_directory.DevCluster(
            format=dev_directory.FORMAT_VERSION,
            join_token=encode_join_token(new_join_token()),
            access_key=self.access_key,
            secret_key=self.secret_key,
            nodes=nodes,
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
