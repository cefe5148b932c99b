"""What a coordinator is started with."""

from __future__ import annotations

from dataclasses import dataclass

from octad.client.cluster.join_token import JoinToken
from octad.coordinator.checks.check_rules import Network
from octad.coordinator.store.open_store import StoreAddress

# Nodes are started one after the other: the first map waits until this long no one new has come.
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """`store_address` is sent to nodes; the first map waits for `nodes_expected` of them.

    With 0 nodes expected it waits until there are enough and none has come for `settle_s`.
    """

    token: JoinToken
    store_address: StoreAddress
    store_kind: str  # For people: "embedded" or "etcd".
    address: str  # host:port of this coordinator's HTTP.
    version: str
    nodes_expected: int = 0
    settle_s: float = SETTLE_S
    check_networks: tuple[Network, ...] = ()  # Where services may be checked; none: nowhere.
    checks_reach: bool = False  # Turn away new nodes at addresses that no one answers at.
