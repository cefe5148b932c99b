"""The smaller documents that a coordinator answers with; examples in `coordinator-http.md`.

`age_s` is how long ago the configuration store last confirmed what is shown: a second or two while
it answers, and growing while it does not.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from octad.client.cluster.status_document import NodeStatus, ShardStatus

NODES_PATH = "/cluster/v1/nodes"
SHARDS_PATH = "/cluster/v1/shards"
PLAN_PATH = "/cluster/v1/plan"
MAP_PATH = "/cluster/v1/map"
MAP_BINARY_TYPE = "application/vnd.octad.shard-map"


class NodesDocument(msgspec.Struct, frozen=True):
    nodes: tuple[NodeStatus, ...]
    age_s: float


class ShardsDocument(msgspec.Struct, frozen=True):
    shards: tuple[ShardStatus, ...]
    age_s: float


class ServicesDocument(msgspec.Struct, frozen=True):
    """Records of service instances as they registered, in order of service and instance.

    Watching from `revision` on misses nothing.
    """

    revision: int
    services: tuple[msgspec.Raw, ...]
    age_s: float


class PlanDocument(msgspec.Struct, frozen=True):
    """The targets of shards, by shard (`0/17`), as the leader has written them."""

    revision: int
    plans: dict[str, msgspec.Raw]
    age_s: float


class MapDocument(msgspec.Struct, frozen=True):
    """The map in JSON: values as the configuration store has them."""

    format: Literal[1]
    revision: int
    pools: tuple[msgspec.Raw, ...]
    nodes: tuple[msgspec.Raw, ...]
    shards: dict[str, msgspec.Raw]
    age_s: float


class HealthDocument(msgspec.Struct, frozen=True):
    """`ok`, or why not, a sentence each."""

    ok: bool
    reasons: tuple[str, ...]
