"""Is the cluster serving, and may a node go down now? For operators, by configurations and leases.

The answer is momentary; it reserves nothing. What is safe during a failure is
decided by the shards' members themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from octad.coordinator.schema.cluster_view import ClusterView
from octad.coordinator.schema.records import NodeRecord
from octad.coordinator.status.cluster_status import shard_state
from octad.sharding.ids import NodeId, ShardId, node_name, pool_of, shard_name
from octad.sharding.map.shard_map import ShardConfiguration

SHARDS_NAMED_MAX = 3


def not_serving(view: ClusterView) -> list[str]:
    """Why the cluster does not serve all data; empty when it does."""
    if not view.pools:
        return ["the cluster has no pool"]
    reasons = []
    down: list[ShardId] = []
    shard_map = view.shard_map()
    for pool in view.pools.values():
        missing = 0
        for shard in shard_map.shards_of(pool.id):
            state = shard_state(view.configurations.get(shard), view.nodes, pool.replicas)
            missing += state == "forming"
            if state in ("writes-blocked", "unavailable"):
                down.append(shard)
        if missing:
            reasons.append(f"pool {pool.id}: {missing} shards have no configuration yet")
    if down:
        reasons.append(f"{named_shards(down)}: a member is down")
    return reasons


def may_not_go_down(view: ClusterView, node: NodeId) -> list[str]:
    """Why `node` may not be stopped now; empty when every shard can spare it."""
    if node not in view.identities:
        return [f"the cluster has no {node_name(node)}"]
    short = []
    for shard, configuration in view.configurations.items():
        if configuration.member(node) is None:
            continue
        replicas = view.pools[pool_of(shard)].replicas
        if len(_complete_and_live(configuration, view.nodes) - {node}) < copies_min(replicas):
            short.append(shard)
    if not short:
        return []
    return [f"without {node_name(node)} {named_shards(short)} would have too few live copies"]


def copies_min(replicas: int) -> int:
    """How many complete copies a shard must keep while a node is away on purpose."""
    return max(1, replicas - 1)


def _complete_and_live(
    configuration: ShardConfiguration, live: Mapping[NodeId, NodeRecord]
) -> set[NodeId]:
    return {
        member.node
        for member in configuration.members
        if not member.base
        and member.node in live
        and live[member.node].incarnation == member.incarnation
    }


def named_shards(shards: Sequence[ShardId]) -> str:
    """`shards 0/1, 0/5, 0/7 and 3 more`."""
    names = ", ".join(shard_name(shard) for shard in sorted(shards)[:SHARDS_NAMED_MAX])
    more = len(shards) - SHARDS_NAMED_MAX
    noun = "shard" if len(shards) == 1 else "shards"
    return f"{noun} {names}" + (f" and {more} more" if more > 0 else "")
