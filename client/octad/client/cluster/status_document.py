"""The status document: a cluster's status, as its coordinator serves it over HTTP, in JSON.

It is an interface that scripts rely on (`docs/reference/coordinator-http.md`): fields are added,
never renamed or given another meaning. A reader passes over fields it does not know.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from octad.sharding.ids import PoolId

STATUS_PATH = "/cluster/v1/status"
STATUS_FORMAT_VERSION = 1

UNVERIFIED = "unverified"  # Key of unknown ones in counts of shards by verified copies.

ShardState = Literal["ok", "degraded", "writes-blocked", "unavailable", "forming"]
ClusterState = Literal["healthy", "degraded", "forming"]


class NodeStatus(msgspec.Struct, frozen=True):
    """One node that ever joined. What only the node itself reports is None until it was live."""

    name: str
    live: bool
    gone_since_ms: int | None  # Wall clock; None while it is live or when no one saw it go.
    incarnation: str
    rpc_address: str | None
    s3_address: str | None
    zone: str | None
    weight: float | None
    version: str | None
    primary_of: int  # Shards.
    member_of: int
    admin_address: str | None = None  # Where its metrics are; often for its own machine alone.
    void: tuple[str, ...] = ()  # Shards that were recovered by force without what it has.
    failed: tuple[
        str, ...
    ] = ()  # Shards in which it takes no part, after a bug, until it restarts.
    read_only: bool = False  # Its disk is full.
    index: str = ""  # "rebuilding", "waiting", "lost": what comes of a damaged one; or empty.
    different: tuple[str, ...] = ()  # Shards of which it has other rows than their primary.
    s3_tls: bool = False  # S3 clients reach it with https.
    log_address: str | None = None  # Where it serves the log.
    log_tls: bool = False  # Clients of the log reach it with https.


class PoolStatus(msgspec.Struct, frozen=True):
    """One pool: its shards by state, and what its first map still waits for."""

    id: PoolId
    replicas: int
    depth: int
    nodes_missing: int  # How many more must join before the first map is made.
    shards: dict[ShardState, int]
    copies: dict[str, int] = {}  # Shards by how many of their copies are verified; see UNVERIFIED.


class ShardStatus(msgspec.Struct, frozen=True):
    """One shard. `primary` and `members` are empty while it has no configuration."""

    name: str
    state: ShardState
    epoch: int
    primary: str
    members: tuple[str, ...]
    verified: int | None = None  # Copies; None: no one who could know has said so lately.


class CopyingStatus(msgspec.Struct, frozen=True):
    """Copies being restored or moved. None: not known, so it is not guessed."""

    missing: int = 0  # Copies that pools lack.
    under_way: int = 0  # Missing and moving copies that are being made.
    waiting: int = 0  # Those under way that can reach no source.
    bytes_left: int | None = 0
    time_left_s: float | None = 0.0


class StoreStatus(msgspec.Struct, frozen=True):
    """The configuration store: its kind, its address, and the revision of this document.

    `age_s` is how long ago it last confirmed that.
    """

    kind: str
    endpoints: tuple[str, ...]
    revision: int
    age_s: float = 0.0


class CoordinatorStatus(msgspec.Struct, frozen=True):
    """The coordinator that answered, and the leader (None while there is none)."""

    address: str
    version: str
    leading: bool
    leader_address: str | None


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The complete document."""

    format: int = STATUS_FORMAT_VERSION
    cluster: str
    state: ClusterState
    problems: tuple[str, ...]  # One sentence each, for people.
    store: StoreStatus
    coordinator: CoordinatorStatus
    pools: tuple[PoolStatus, ...]
    nodes: tuple[NodeStatus, ...]
    copies: dict[str, int] = {}  # The sum over all pools.
    copying: CopyingStatus = CopyingStatus()


class BadStatus(ValueError):
    """The bytes are no status document, or one of a newer format."""


def decode_status(data: bytes) -> ClusterStatus:
    """The document in `data`; raises BadStatus."""
    try:
        status = msgspec.json.decode(data, type=ClusterStatus)
    except msgspec.DecodeError as error:
        raise BadStatus(str(error)) from error
    if status.format > STATUS_FORMAT_VERSION:
        raise BadStatus(
            f"status of format {status.format}, this octad knows {STATUS_FORMAT_VERSION}"
        )
    return status
