"""The messages by which a node joins, and the coordinator's answers.

The request names the cluster and describes the node; the answer has its id and the address of
the configuration store, which may hold a password and so is sealed. Examples:
`docs/reference/coordinator-http.md`.
"""

from __future__ import annotations

import msgspec

from octad.client.cluster.refusal import RefusalMessage
from octad.sharding.ids import NodeId

__all__ = [
    "AUTH_PURPOSE",
    "JOIN_PATH",
    "REGION",
    "SEAL_PURPOSE",
    "JoinMessage",
    "JoinRequest",
    "RefusalMessage",
]

JOIN_PATH = "/cluster/v1/join"
AUTH_PURPOSE = "coordinator-http"
REGION = "us-east-1"  # What S3 clients sign for unless configured otherwise.
SEAL_PURPOSE = "join-answer"


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Describes the node. `node` is the id it had before or wants; None: any."""

    cluster: str
    node: NodeId | None
    incarnation: str
    rpc_address: str
    s3_address: str
    zone: str
    weight: float
    version: str
    format_level: int = 1  # The highest that it knows.


def join_proof(incarnation: str) -> bytes:
    """Returns what a joining, empty node sends to each connection to its RPC address."""
    return f"octad joins: {incarnation}\n".encode()


class JoinMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `store_sealed` belongs to the request's Authorization header."""

    cluster: str
    node: NodeId
    region: str
    store_sealed: str
