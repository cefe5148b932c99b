"""What must be so when everything has worked again for a while: full strength, equal copies, quiet
logs, and every count as it comes out when it is counted anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from octad.sharding.hashing import shard_number
from octad.sharding.ids import NodeId, ShardId, number_of
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.index.index_format import ROW_TABLES, hash_of_row
from octad.storage_node.index.shard_digest import row_hash
from octad.storage_node.replication.replica.shard_replica import ShardReplica

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.node_process import NodeProcess, SimulatedDoors
    from tests.simulation.cluster.world import World


class Copy(NamedTuple):
    """A shard at one node, as all of its members should have it."""

    commit: int
    applied: int
    end: int
    rows: int
    xor: int


def not_whole(world: World) -> str | None:
    """What is not as it should be; None: all is."""
    try:
        return next(_problems(world), None)
    except IndexDamage as damage:
        return str(damage)


def _problems(world: World) -> Iterator[str]:
    by_node = {process.machine.node_id: process for process in world.processes()}
    for machine in world.machines:
        if machine.process is None or not machine.process.is_serving:
            yield f"{machine.host} does not serve"
            return
    copies = {node: dict(_copies_at(process)) for node, process in by_node.items()}
    for shard, configuration in world.invariants.configurations.items():
        yield from _of_shard(world, shard, configuration, by_node, copies)
    for node, process in by_node.items():
        yield from _of_node(process, copies[node])


def _of_shard(
    world: World,
    shard: ShardId,
    configuration: ShardConfiguration,
    by_node: dict[NodeId, NodeProcess],
    copies: dict[NodeId, dict[ShardId, Copy]],
) -> Iterator[str]:
    """Full strength, served, all copies equal."""
    name, members = f"shard {number_of(shard)}", configuration.members
    full = [member for member in members if member.base == 0]
    if len(full) != world.replicas or len(members) != len(full) or configuration.learners:
        yield f"{name} is not at full strength: {configuration}"
    primary = by_node.get(configuration.primary)
    if primary is None or not _serves(primary, shard):
        yield f"{name} is not served by n{configuration.primary}"
    expected = copies.get(configuration.primary, {}).get(shard)
    for member in full:
        copy = copies.get(member.node, {}).get(shard)
        if copy is None or expected is None or copy != expected:
            yield f"n{member.node} differs in {name}: it has {copy}, the primary {expected}"
        elif not copy.commit == copy.applied == copy.end:
            yield f"the log of {name} is not quiet at n{member.node}: {copy}"


def _of_node(process: NodeProcess, copies: dict[ShardId, Copy]) -> Iterator[str]:
    """What is kept as sums is what it comes out as."""
    assert process.parts is not None
    index, journal = process.parts.engine.index, process.parts.engine.journal
    if process.parts.objects.budget.used or process.parts.objects.budget.waiting:
        yield f"{process} keeps memory for bodies"
    if journal.pending_bytes:
        yield f"the journal of {process} is not quiet"
    for shard, copy in copies.items():
        digest, replica = index.digests.now(shard), process.parts.replication.host.replicas[shard]
        counted = None if digest is None else (digest.rows, digest.xor)
        if replica.complete_to is None and counted not in (None, (copy.rows, copy.xor)):
            yield f"{process} has {copy} of shard {shard}, and counts {digest}"
    live = {each: use.live for each, use in index.counted().segments.items() if use.live}
    kept = {each: use.live for each, use in index.ledger.segments.items() if use.live}
    if live != kept:
        yield f"{process} counts {kept} live bytes by segment, and has {live}"


def _copies_at(process: NodeProcess) -> Iterator[tuple[ShardId, Copy]]:
    assert process.parts is not None
    parts: SimulatedDoors = process.parts
    replicas = parts.replication.host.replicas
    rows: dict[ShardId, int] = defaultdict(int)
    xor: dict[ShardId, int] = defaultdict(int)
    for key, value in parts.engine.index.scan(b""):
        if key[0] in ROW_TABLES:
            shard = _shard_of(replicas, hash_of_row(key))
            if shard is not None:
                rows[shard] += 1
                xor[shard] ^= row_hash(key, value)
    for shard, replica in replicas.items():
        log = replica.log
        yield shard, Copy(log.commit, log.applied, log.end, rows[shard], xor[shard])


def _shard_of(replicas: dict[ShardId, ShardReplica], hash_: int) -> ShardId | None:
    """Which replica a row belongs to, as far as each is split here."""
    for shard, replica in replicas.items():
        if replica.depth is not None and shard_number(hash_, replica.depth) == number_of(shard):
            return shard
    return None


def _serves(process: NodeProcess, shard: ShardId) -> bool:
    assert process.parts is not None
    replica = process.parts.replication.host.replicas.get(shard)
    return replica is not None and replica.serves() and replica.has_lease(process.loop.time())
