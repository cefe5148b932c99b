"""May this node join, and as whom? Decided from its request and what the store knows.

A node has an id, handed out once and never again, and an incarnation, which names its disk. Both
are kept on that disk: a node that asks with an id proves nothing but that it remembers. So an id is
given back only to the same incarnation, and only while no one else is live under it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from octad.client.runtime.address import BadAddress, parse_address
from octad.coordinator.schema.cluster_view import ClusterView
from octad.coordinator.schema.join_messages import JoinRequest
from octad.coordinator.schema.records import IdentityRecord, NodeRecord
from octad.sharding.ids import NodeId, node_name
from octad.sharding.limits import NODE_ID_MAX, NODE_WEIGHT_MAX

ADDRESS_IN_USE = "address-in-use"
_ZONE = re.compile(r"[A-Za-z0-9._-]{0,64}")
_INCARNATION = re.compile(r"[A-Za-z0-9_-]{8,64}")
_VERSION = re.compile(r"[A-Za-z0-9.+-]{1,64}")


class JoinRefused(Exception):
    """The node may not join; `reason` says why, for people. `passes`: waiting may help."""

    def __init__(self, code: str, reason: str, *, passes: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.passes = passes


@dataclass(frozen=True, slots=True)
class Admission:
    """The id the node gets; `is_new` when it must be recorded first."""

    node: NodeId
    is_new: bool


def admit(cluster: str, request: JoinRequest, view: ClusterView, last_node: NodeId) -> Admission:
    """The node's id, or JoinRefused. `last_node` is the highest id ever handed out (0: none)."""
    _check_cluster(cluster, request)
    _check_fields(request)
    _check_addresses(request, view.nodes.values())
    admission = _identity(request, view.identities, last_node)
    _check_nobody_else_is_live(request, admission.node, view.nodes)
    return admission


def _check_cluster(cluster: str, request: JoinRequest) -> None:
    if request.cluster != cluster:
        raise JoinRefused(
            "other-cluster", f"the node belongs to cluster {request.cluster}, this one is {cluster}"
        )


def _check_fields(request: JoinRequest) -> None:
    if not _INCARNATION.fullmatch(request.incarnation):
        raise JoinRefused("bad-incarnation", f"{request.incarnation[:80]!r} names no disk")
    if not _ZONE.fullmatch(request.zone):
        raise JoinRefused(
            "bad-zone",
            f"zone {request.zone[:80]!r}: up to 64 letters, digits, dots, dashes and underscores",
        )
    if not (math.isfinite(request.weight) and 0 < request.weight <= NODE_WEIGHT_MAX):
        raise JoinRefused(
            "bad-weight", f"weight {request.weight}: above 0 and at most {NODE_WEIGHT_MAX:.0f}"
        )
    if not _VERSION.fullmatch(request.version):
        raise JoinRefused("bad-version", f"{request.version[:80]!r} is not a version of octad")


def _check_addresses(request: JoinRequest, nodes: Iterable[NodeRecord]) -> None:
    for role, text in (("RPC", request.rpc_address), ("S3", request.s3_address)):
        try:
            address = parse_address(text)
        except BadAddress as error:
            raise JoinRefused("bad-address", f"{role} address: {error}") from error
        if address.port == 0 or address.is_wildcard:
            raise JoinRefused(
                "bad-address",
                f"{role} address {text}: no one can connect to it; advertise a host and a port",
            )
    if request.rpc_address == request.s3_address:
        raise JoinRefused("bad-address", f"RPC and S3 have the same address {request.s3_address}")
    _check_reach(request, nodes)


def _check_reach(request: JoinRequest, nodes: Iterable[NodeRecord]) -> None:
    """Nodes on loopback addresses and nodes on real ones cannot talk to each other."""
    is_loopback = parse_address(request.rpc_address).is_loopback
    for node in nodes:
        if parse_address(node.rpc_address).is_loopback != is_loopback:
            raise JoinRefused(
                "bad-address",
                f"{node_name(node.id)} advertises {node.rpc_address} and this node "
                f"{request.rpc_address}: a loopback address is for clusters on one machine",
            )


def _identity(
    request: JoinRequest, identities: Mapping[NodeId, IdentityRecord], last_node: NodeId
) -> Admission:
    for known in identities.values():
        if known.incarnation == request.incarnation:
            if request.node not in (None, known.id):
                raise JoinRefused(
                    "identity-differs",
                    f"this disk is {node_name(known.id)}, not {node_name(request.node)}",
                )
            return Admission(known.id, is_new=False)
    if request.node is not None:
        return _wanted_id(request.node, identities)
    node = NodeId(max([last_node, *identities]) + 1)
    if node > NODE_ID_MAX:
        raise JoinRefused("too-many-nodes", f"all {NODE_ID_MAX} node ids have been handed out")
    return Admission(node, is_new=True)


def _wanted_id(node: NodeId, identities: Mapping[NodeId, IdentityRecord]) -> Admission:
    if not 0 < node <= NODE_ID_MAX:
        raise JoinRefused("bad-id", f"node id {node}: from 1 to {NODE_ID_MAX}")
    if node in identities:
        raise JoinRefused(
            "wiped",
            f"{node_name(node)} has another disk (incarnation {identities[node].incarnation}): "
            "a node that lost its data comes back as a new one, without an id",
        )
    return Admission(node, is_new=True)


def _check_nobody_else_is_live(
    request: JoinRequest, node: NodeId, nodes: Mapping[NodeId, NodeRecord]
) -> None:
    live = nodes.get(node)
    if live is not None and live.rpc_address != request.rpc_address:
        raise JoinRefused(
            "identity-in-use",
            f"{node_name(node)} is live at {live.rpc_address}: either it stopped a moment ago, "
            "or two processes run on copies of one data directory",
            passes=True,
        )
    for other in nodes.values():
        taken = {other.rpc_address, other.s3_address} & {request.rpc_address, request.s3_address}
        if other.id != node and taken:
            raise JoinRefused(
                ADDRESS_IN_USE,
                f"{node_name(other.id)} is live at {taken.pop()}",
                passes=True,
            )
