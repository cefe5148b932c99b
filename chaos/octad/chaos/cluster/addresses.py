"""Where the parts of a cluster under test listen, and where the others reach them.

    node N        listens on 127.0.1.N, is reached by the others on 127.0.2.N (same RPC port)
    store         listens on 127.0.1.201, is reached on 127.0.2.201
    coordinator   listens on 127.0.1.202

Where nothing is to come between them, each is reached where it listens.
"""

from __future__ import annotations

from dataclasses import dataclass

from octad.chaos.cluster.free_ports import free_port
from octad.client.runtime.address import Address
from octad.coordinator.store.open_store import StoreAddress

# After the first.
S3_PORT, RPC_PORT, ADMIN_PORT, STORE_PORT, COORDINATOR_PORT, ETCD_PEER_PORT = range(6)
STORE_NUMBER, STORE_HOST, COORDINATOR_HOST = 201, "127.0.1.201", "127.0.1.202"


@dataclass(frozen=True, slots=True)
class Shape:
    """The parts of a cluster. `etcd`: the path of an etcd to run; None for octad's own store."""

    nodes: int = 3
    replicas: int = 3
    etcd: str | None = None
    proxies: bool = True

    @property
    def numbers(self) -> range:
        """The nodes' places, from 1."""
        return range(1, self.nodes + 1)


class Addresses:
    """See the module. The ports are free when it is made."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        hosts = [STORE_HOST, self.reached_at(STORE_NUMBER), COORDINATOR_HOST]
        hosts += [at for n in shape.numbers for at in (f"127.0.1.{n}", self.reached_at(n))]
        self._first_port = free_port(range(ETCD_PEER_PORT + 1), hosts)

    def reached_at(self, number: int) -> str:
        """A node's host for the other processes."""
        return f"127.0.{2 if self._shape.proxies else 1}.{number}"

    def s3(self, number: int) -> Address:
        return self._address(f"127.0.1.{number}", S3_PORT)

    def admin(self, number: int) -> Address:
        return self._address(f"127.0.1.{number}", ADMIN_PORT)

    def rpc_reached(self, number: int) -> Address:
        return self._address(self.reached_at(number), RPC_PORT)

    def links(self, number: int) -> list[tuple[Address, Address]]:
        """Where a node is reached, and where it listens; by S3 for who looks whether it answers."""
        return [
            (self._address(self.reached_at(number), port), self._address(f"127.0.1.{number}", port))
            for port in (RPC_PORT, S3_PORT)
        ]

    @property
    def store(self) -> Address:
        return self._address(STORE_HOST, STORE_PORT)

    @property
    def store_reached(self) -> Address:
        return self._address(self.reached_at(STORE_NUMBER), STORE_PORT)

    @property
    def store_url(self) -> str:
        return f"http://{self.store}"

    @property
    def store_for_clients(self) -> StoreAddress:
        """The store itself, past any proxy."""
        return StoreAddress("etcd" if self._shape.etcd else "http", (self.store_url,))

    @property
    def etcd_peer(self) -> Address:
        return self._address(STORE_HOST, ETCD_PEER_PORT)

    @property
    def coordinator(self) -> Address:
        return self._address(COORDINATOR_HOST, COORDINATOR_PORT)

    @property
    def coordinator_url(self) -> str:
        return f"http://{self.coordinator}"

    def _address(self, host: str, port: int) -> Address:
        return Address(host, self._first_port + port)
