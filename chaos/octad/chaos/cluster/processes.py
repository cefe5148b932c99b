"""The processes of a cluster under test, as they are started: commands, environment, logs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from octad.chaos.cluster.addresses import Addresses, Shape
from octad.chaos.cluster.process import ClusterProcess
from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.client.s3.sigv4 import Credentials
from octad.sharding.ids import NodeId, node_name
from octad.storage_node.cli.supervision import SUPERVISOR_VARIABLE

STORE, COORDINATOR = "store", "coordinator"
OCTAD = (sys.executable, "-m", "octad")
CONTROL = (sys.executable, "-m", "octad.chaos.cluster.control_processes")


class Processes:
    """Makes each process, not started. Files are in `directory`."""

    def __init__(
        self,
        directory: Path,
        shape: Shape,
        addresses: Addresses,
        token: JoinToken,
        credentials: Credentials,
    ) -> None:
        self._directory = directory
        self._shape = shape
        self._addresses = addresses
        self._token = token
        self._credentials = credentials

    def data(self, number: int) -> Path:
        return self._directory / f"n{number}"

    def store(self) -> ClusterProcess:
        if self._shape.etcd is not None:
            return self._process(STORE, *self._etcd_command(self._shape.etcd))
        file = str(self._directory / "store.sqlite")
        return self._process(STORE, *CONTROL, "store", file, str(self._addresses.store))

    def _etcd_command(self, etcd: str) -> list[str]:
        client = self._addresses.store_url
        peer = f"http://{self._addresses.etcd_peer}"
        return [
            etcd,
            "--name=m0",
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=m0={peer}",
        ]

    def coordinator(self) -> ClusterProcess:
        addresses, shape = self._addresses, self._shape
        return self._process(
            *(COORDINATOR, *CONTROL, "coordinator", addresses.store_for_clients.kind),
            f"http://{addresses.store_reached}",
            str(addresses.coordinator),
            *(str(shape.replicas), str(shape.nodes)),
        )

    def node(self, number: int, *, is_new: bool = False) -> ClusterProcess:
        """`is_new`: it is given another id than its place's number."""
        addresses = self._addresses
        return self._process(
            *(node_name(NodeId(number)), *OCTAD, "node", "--data", str(self.data(number))),
            *("--listen", str(addresses.s3(number))),
            *("--rpc-port", str(addresses.rpc_reached(number).port)),
            *("--admin-listen", str(addresses.admin(number))),
            *("--log-listen", f"{addresses.admin(number).host}:0"),
            *("--advertise", addresses.reached_at(number), "--zone", f"zone-{number}"),
            *("--coordinator", addresses.coordinator_url),
            *(() if is_new else ("--id", str(number))),
        )

    def _process(self, name: str, *command: str) -> ClusterProcess:
        environment = {
            **os.environ,
            "OCTAD_JOIN_TOKEN": encode_join_token(self._token),
            "OCTAD_ACCESS_KEY": self._credentials.access_key,
            "OCTAD_SECRET_KEY": self._credentials.secret_key,
            SUPERVISOR_VARIABLE: str(os.getpid()),
        }
        return ClusterProcess(command, self._directory / f"{name}.log", environment=environment)
