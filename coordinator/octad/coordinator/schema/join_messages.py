"""What a node and the coordinator say to each other when the node joins.

The request names the cluster and describes the node; the answer gives it its id and tells where the
configuration store is. That may hold a password, so it travels sealed. Examples:
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
REGION = "us-east-1"  # What S3 clients sign for unless told otherwise.
SEAL_PURPOSE = "join-answer"


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself. `node` is the id it was given before or wants; None: any."""

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
    """What an empty node that joins says to whoever connects to its RPC address."""
    return f"octad joins: {incarnation}\n".encode()


class JoinMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `store_sealed` belongs to the request's Authorization header."""

    cluster: str
    node: NodeId
    region: str
    store_sealed: str
