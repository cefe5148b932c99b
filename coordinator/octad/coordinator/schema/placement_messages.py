"""Messages over HTTP about placement: requests of operators, and progress.

`POST /cluster/v1/plan/<action>` takes a `PlanRequest` and answers a `PlanAnswer`;
`GET /cluster/v1/plan/status` answers a `PlanStatus`. Unknown sizes are null.
"""

from __future__ import annotations

import msgspec

PLAN_ACTIONS_PATH = "/cluster/v1/plan/"
PLAN_STATUS_PATH = f"{PLAN_ACTIONS_PATH}status"
PLAN_NODES_PATH = f"{PLAN_ACTIONS_PATH}nodes"
PLAN_POOLS_PATH = f"{PLAN_ACTIONS_PATH}pools"
ACTIONS = (
    "add",
    "drain",
    "remove",
    "rebalance",
    "split",
    "create-pool",
    "stop",
    "resume",
    "revert",
)


class PlanRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The arguments of an action; a field that it does not use is refused."""

    nodes: tuple[str, ...] = ()
    zone: str | None = None  # drain: every node in it; add: the zone that the nodes get.
    weight: float | None = None
    pool: int | None = None
    replicas: int | None = None
    depth: int | None = None
    moves_max: int | None = None
    moves_per_node_max: int | None = None
    fewer_zones: bool = False  # Let copies share a zone that stand apart now.
    dry_run: bool = False


class NodeTraffic(msgspec.Struct, frozen=True):
    """How much one node receives and gives up."""

    name: str
    receives: int  # Copies of shards.
    gives: int
    receives_bytes: int | None


class PlanAnswer(msgspec.Struct, frozen=True):
    """The effects of a request, or of its dry run."""

    what: str
    dry_run: bool
    operation: str | None  # Its id; None: nothing has to be done, or a dry run.
    moves: int
    moves_bytes: int | None
    shards: int  # The number that change in any way.
    primaries: int
    splits: int
    nodes: tuple[NodeTraffic, ...] = ()
    warnings: tuple[str, ...] = ()
    pool: int | None = None  # The one that was made.


class PlanUnderWay(msgspec.Struct, frozen=True):
    """The present step of one shard's primary."""

    shard: str
    reason: str
    add: str | None
    remove: str | None
    primary: str | None
    state: str  # "ordered" until its primary says more.
    bytes_done: int | None
    bytes_total: int | None
    detail: str


class PlanStatus(msgspec.Struct, frozen=True):
    """Progress of the last operation, and repairs under way."""

    operation: str | None
    what: str | None
    state: str  # idle, running, stopped, reverting, done, reverted
    moves: int
    moves_left: int
    bytes_left: int | None
    splits_left: int
    primaries_left: int
    repairs_left: int
    under_way: tuple[PlanUnderWay, ...]
    problems: tuple[str, ...]


class PlacedNode(msgspec.Struct, frozen=True):
    """A node as placement sees it."""

    name: str
    state: str  # live, down, draining, drained, removed
    zone: str | None
    weight: float | None
    replicas: int
    primary_of: int
    used_bytes: int | None
    free_bytes: int | None


class PlacedNodes(msgspec.Struct, frozen=True):
    """Answer of `GET /cluster/v1/plan/nodes`."""

    nodes: tuple[PlacedNode, ...]
    age_s: float = 0.0  # How long ago the configuration store last confirmed this.


class PlacedPool(msgspec.Struct, frozen=True):
    """A pool as placement sees it."""

    id: int
    name: str  # Chosen when a bucket is created.
    replicas: int
    depth: int
    shards: int
    splitting: bool
    bytes: int | None


class PlacedPools(msgspec.Struct, frozen=True):
    """Answer of `GET /cluster/v1/plan/pools`."""

    pools: tuple[PlacedPool, ...]
