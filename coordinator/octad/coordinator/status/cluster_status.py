"""The status document, made from the configuration store's records.

Liveness here is that of the store's leases: a hint for people. What is *safe* is decided by the
nodes themselves and not by this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from octad.client.cli.format_units import counted, shown_copies
from octad.client.cluster.status_document import (
    UNVERIFIED,
    ClusterState,
    ClusterStatus,
    CoordinatorStatus,
    NodeStatus,
    PoolStatus,
    ShardState,
    ShardStatus,
    StoreStatus,
)
from octad.coordinator.placement.first_map import nodes_missing
from octad.coordinator.schema.cluster_view import ClusterView, Departure
from octad.coordinator.schema.node_report import INDEX_LOST, INDEX_REBUILDING, INDEX_WAITING
from octad.coordinator.schema.records import NodeRecord, PoolRecord
from octad.coordinator.status.known_copies import NOTHING_KNOWN, KnownCopies, copying_status
from octad.sharding.ids import NodeId, node_name, shard_name
from octad.sharding.map.shard_map import Member, ShardConfiguration, ShardMap

SHARDS_NAMED_MAX = 3
_INDEXES = {
    INDEX_REBUILDING: "is made anew",
    INDEX_WAITING: "waits to be made anew: see octad doctor",
    INDEX_LOST: "is lost: see octad doctor",
}
NO_FAILURES: Mapping[NodeId, NodeFailure] = {}


@dataclass(frozen=True, slots=True)
class NodeFailure:
    """Why a node does not run, and what fixes it: a supervisor's word, who starts it again."""

    what: str
    fix: str


def shown_endpoint(url: str) -> str:
    """`url` without the user and password that it may carry."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def cluster_status(
    cluster: str,
    view: ClusterView,
    departures: Mapping[NodeId, Departure],
    store: StoreStatus,
    coordinator: CoordinatorStatus,
    *,
    nodes_expected: int,
    removed: Collection[NodeId] = (),
    problems: tuple[str, ...] = (),
    copies: KnownCopies = NOTHING_KNOWN,
    time_left_s: float | None = None,
    failures: Mapping[NodeId, NodeFailure] = NO_FAILURES,
) -> ClusterStatus:
    """The status that `view` amounts to; `problems` are those the caller knows of already.

    Nodes that an operator `removed` are forgotten: that they are not there is no problem.
    """
    shard_map = view.shard_map()
    pools = tuple(
        _pool_status(pool, view, shard_map, nodes_expected, copies) for pool in _sorted_pools(view)
    )
    nodes = _node_statuses(view, departures, removed, copies)
    failed = [f"{failure.what}; {failure.fix}" for _, failure in sorted(failures.items())]
    found = (*problems, *_pool_problems(pools), *_node_problems(nodes, copies), *failed)
    if any(pool.shards["forming"] for pool in pools) or not pools:
        state: ClusterState = "forming"
    else:
        state = "degraded" if found else "healthy"
    return ClusterStatus(
        cluster=cluster,
        state=state,
        problems=found,
        store=store,
        coordinator=coordinator,
        pools=pools,
        nodes=nodes,
        copies=dict(sum((Counter(pool.copies) for pool in pools), Counter())),
        copying=copying_status(copies, time_left_s),
    )


def shard_statuses(view: ClusterView, copies: KnownCopies = NOTHING_KNOWN) -> list[ShardStatus]:
    """Every shard of every pool, in order."""
    statuses = []
    shard_map = view.shard_map()
    for pool in _sorted_pools(view):
        for shard in sorted(shard_map.shards_of(pool.id)):
            configuration, verified = view.configurations.get(shard), copies.verified.get(shard)
            statuses.append(
                ShardStatus(
                    name=shard_name(shard),
                    state=shard_state(configuration, view.nodes, pool.replicas, verified),
                    epoch=configuration.epoch if configuration else 0,
                    primary=node_name(configuration.primary) if configuration else "",
                    members=tuple(node_name(m.node) for m in configuration.members)
                    if configuration
                    else (),
                    verified=verified,
                )
            )
    return statuses


def shard_state(
    configuration: ShardConfiguration | None,
    live: Mapping[NodeId, NodeRecord],
    replicas: int,
    verified: int | None = None,
) -> ShardState:
    """The state of a shard as clients see it. A member on a wiped disk counts as down.

    A recruit is a member that is not complete, so it is no copy yet. The primary may miss a member,
    and have fewer copies `verified`, before anyone else does.
    """
    if configuration is None:
        return "forming"
    down = {member.node for member in configuration.members if not _is_live(member, live)}
    if configuration.primary in down:
        return "unavailable"
    if down:
        return "writes-blocked"
    complete = sum(not member.base for member in configuration.members)
    if verified is not None:
        complete = min(complete, verified)
    return "degraded" if complete < replicas else "ok"


def _is_live(member: Member, live: Mapping[NodeId, NodeRecord]) -> bool:
    node = live.get(member.node)
    return node is not None and node.incarnation == member.incarnation


def _sorted_pools(view: ClusterView) -> list[PoolRecord]:
    return [view.pools[pool] for pool in sorted(view.pools)]


def _pool_status(
    pool: PoolRecord,
    view: ClusterView,
    shard_map: ShardMap,
    nodes_expected: int,
    copies: KnownCopies,
) -> PoolStatus:
    shards: dict[ShardState, int] = {
        "ok": 0,
        "degraded": 0,
        "writes-blocked": 0,
        "unavailable": 0,
        "forming": 0,
    }
    counts: Counter[str] = Counter()
    for shard in shard_map.shards_of(pool.id):
        verified = copies.verified.get(shard)
        shards[
            shard_state(view.configurations.get(shard), view.nodes, pool.replicas, verified)
        ] += 1
        counts[UNVERIFIED if verified is None else str(verified)] += 1
    missing = nodes_missing(pool, list(view.nodes.values()), nodes_expected)
    return PoolStatus(
        pool.id,
        pool.replicas,
        pool.depth,
        missing if shards["forming"] else 0,
        shards,
        dict(sorted(counts.items())),
    )


def _node_statuses(
    view: ClusterView,
    departures: Mapping[NodeId, Departure],
    removed: Collection[NodeId],
    copies: KnownCopies,
) -> tuple[NodeStatus, ...]:
    primaries = Counter(configuration.primary for configuration in view.configurations.values())
    members = Counter(
        member.node
        for configuration in view.configurations.values()
        for member in configuration.members
    )
    statuses = []
    for id_ in sorted({*view.identities.keys() - removed, *view.nodes}):
        live = view.nodes.get(id_)
        departure = None if live else departures.get(id_)
        record = live or (departure.record if departure else None)
        incarnation = record.incarnation if record else view.identities[id_].incarnation
        statuses.append(
            NodeStatus(
                name=node_name(id_),
                live=live is not None,
                gone_since_ms=departure.gone_since_ms if departure else None,
                incarnation=incarnation,
                rpc_address=record.rpc_address if record else None,
                s3_address=record.s3_address if record else None,
                zone=record.zone if record else None,
                weight=record.weight if record else None,
                version=record.version if record else None,
                primary_of=primaries[id_],
                member_of=members[id_],
                admin_address=record.admin_address or None if record else None,
                void=tuple(map(shard_name, copies.void.get(id_, ()))),
                failed=tuple(map(shard_name, copies.failed.get(id_, ()))),
                read_only=id_ in copies.read_only,
                index=copies.indexes.get(id_, ""),
                different=tuple(map(shard_name, copies.different.get(id_, ()))),
                s3_tls=record.s3_tls if record else False,
                log_address=record.log_address or None if record else None,
                log_tls=record.log_tls if record else False,
            )
        )
    return tuple(statuses)


def _pool_problems(pools: tuple[PoolStatus, ...]) -> list[str]:
    problems = []
    for pool in pools:
        if pool.nodes_missing:
            nodes = counted(pool.nodes_missing, "more node")
            problems.append(f"pool {pool.id} waits for {nodes} to join")
        if unavailable := pool.shards["unavailable"]:
            verb = "has" if unavailable == 1 else "have"
            problems.append(f"{counted(unavailable, 'shard')} {verb} no live primary")
        if blocked := pool.shards["writes-blocked"]:
            verb = "refuses" if blocked == 1 else "refuse"
            problems.append(f"{counted(blocked, 'shard')} {verb} writes: a member is down")
        if degraded := pool.shards["degraded"]:
            verb = "has" if degraded == 1 else "have"
            problems.append(
                f"{counted(degraded, 'shard')} {verb} fewer than {shown_copies(pool.replicas)}"
            )
    return problems


def _named(shards: Collection[str]) -> str:
    """`2 shards (0/1, 0/5)`."""
    names = list(shards)[:SHARDS_NAMED_MAX]
    more = ", …" if len(shards) > len(names) else ""
    return f"{counted(len(shards), 'shard')} ({', '.join(names)}{more})"


def _node_problems(nodes: tuple[NodeStatus, ...], copies: KnownCopies) -> list[str]:
    replaced = {node_name(old): node_name(new) for old, new in copies.replaced.items()}
    problems = [
        f"{replaced[node.name]} is filled in the place of {node.name}, whose journal was damaged"
        if node.name in replaced
        else f"{node.name} is not live"
        for node in nodes
        if not node.live
    ]
    waiting = {node_name(node) for node in copies.anew_wait_for}
    problems += [
        f"the journal of {node.name} is damaged, and it is not filled anew yet: octad doctor"
        for node in nodes
        if node.name in waiting
    ]
    for node in nodes:
        if node.index:
            problems.append(
                f"the damaged index of {node.name} {_INDEXES.get(node.index, node.index)}"
            )
        if node.read_only:
            problems.append(f"{node.name} refuses writes: its disk is full")
        if node.failed:
            problems.append(f"{node.name} failed in {_named(node.failed)}: restart it")
        if node.different:
            problems.append(
                f"{node.name} and the primaries of {_named(node.different)} have different rows:"
                " they count them anew (octad doctor)"
            )
        if node.void:
            problems.append(
                f"{node.name} has void copies of {_named(node.void)}: octad doctor tells what to do"
            )
    versions = sorted({node.version for node in nodes if node.live and node.version})
    if len(versions) > 1:
        problems.append(f"nodes run different versions: {', '.join(versions)}")
    return problems
