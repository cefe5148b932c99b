"""The address of a cluster's configuration store, as stored on a node's disk, and its client."""

from __future__ import annotations

from typing import Literal

import msgspec

from octad.client.cluster.join_token import JoinToken
from octad.coordinator.store.http_client import HttpStore
from octad.coordinator.store.http_format import PURPOSE
from octad.coordinator.store.interface import ConfigStore


class StoreAddress(msgspec.Struct, frozen=True, omit_defaults=True):
    """`http`: the one URL of an `HttpFace`. `etcd`: the URLs of its members.

    An etcd URL may carry user and password, so treat this as a secret.
    """

    kind: Literal["http", "etcd"]
    endpoints: tuple[str, ...]
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


def encode_store_address(address: StoreAddress) -> bytes:
    return msgspec.json.encode(address)


def decode_store_address(data: bytes) -> StoreAddress:
    """Raises ValueError."""
    address = msgspec.json.decode(data, type=StoreAddress)
    if not address.endpoints or (address.kind == "http" and len(address.endpoints) != 1):
        raise ValueError(f"{len(address.endpoints)} endpoints for a store of kind {address.kind}")
    return address


def open_store(address: StoreAddress, token: JoinToken) -> ConfigStore:
    """Returns a store that connects at its first call."""
    if address.kind == "http":
        return HttpStore(address.endpoints[0], token.key_for(PURPOSE))
    # gRPC is slow to import, and only needed here.
    from octad.coordinator.store.etcd import EtcdStore

    return EtcdStore(
        address.endpoints,
        ca_file=address.ca_file,
        cert_file=address.cert_file,
        key_file=address.key_file,
    )
