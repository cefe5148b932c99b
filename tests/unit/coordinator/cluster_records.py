"""Records of a small cluster, for tests: node `n` listens on ports 7000 + n and 9000 + n."""

from __future__ import annotations

from collections.abc import Iterable

from octad.coordinator.schema.cluster_view import ClusterView
from octad.coordinator.schema.join_messages import JoinRequest
from octad.coordinator.schema.records import IdentityRecord, NodeRecord, PoolRecord
from octad.coordinator.store.interface import Revision
from octad.sharding.ids import Epoch, NodeId, PoolId, ShardId, shard_id
from octad.sharding.map.shard_map import Member, ShardConfiguration

CLUSTER = "1a2b3c4d"
POOL = PoolId(0)


def incarnation(number: int) -> str:
    return f"incarnation-{number}"


def node(number: int, *, zone: str = "", version: str = "0.1.0", disk: int = 0) -> NodeRecord:
    return NodeRecord(
        NodeId(number),
        incarnation(disk or number),
        f"127.0.0.1:{7000 + number}",
        f"127.0.0.1:{9000 + number}",
        zone,
        1.0,
        version,
        "boot",
    )


def configuration(*members: int, depth: int = 2) -> ShardConfiguration:
    """A configuration whose first member is the primary."""
    return ShardConfiguration(
        Epoch(1),
        depth,
        NodeId(members[0]),
        tuple(Member(NodeId(number), incarnation(number)) for number in members),
    )


def view(
    *,
    live: Iterable[NodeRecord] = (),
    known: Iterable[int] = (),
    configurations: Iterable[ShardConfiguration] = (),
    replicas: int = 3,
    depth: int = 2,
) -> ClusterView:
    """`known` nodes have joined at some time; configuration i is that of shard i."""
    nodes = {record.id: record for record in live}
    identities = {id_: IdentityRecord(id_, record.incarnation) for id_, record in nodes.items()}
    identities |= {NodeId(n): IdentityRecord(NodeId(n), incarnation(n)) for n in known}
    shards: dict[ShardId, ShardConfiguration] = {
        shard_id(POOL, number): shard for number, shard in enumerate(configurations)
    }
    pools = {POOL: PoolRecord(POOL, replicas, depth)}
    return ClusterView(Revision(9), pools, identities, nodes, shards)


def join_request(
    number: int,
    *,
    cluster: str = CLUSTER,
    wants: int | None = None,
    rpc_address: str | None = None,
    s3_address: str | None = None,
    zone: str = "",
    weight: float = 1.0,
    version: str = "0.1.0",
    disk: str | None = None,
) -> JoinRequest:
    """What node `number` would ask; `wants` an id."""
    return JoinRequest(
        cluster=cluster,
        node=None if wants is None else NodeId(wants),
        incarnation=incarnation(number) if disk is None else disk,
        rpc_address=f"127.0.0.1:{7000 + number}" if rpc_address is None else rpc_address,
        s3_address=f"127.0.0.1:{9000 + number}" if s3_address is None else s3_address,
        zone=zone,
        weight=weight,
        version=version,
    )
