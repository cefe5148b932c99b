"""What a node's shell does for copies of history, and for values whose checksum does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.model.node_disk import FLIPPED, Row, key_hash

from octad.sharding.ids import NodeId, ShardId
from octad.storage_node.replication.replica.shard_replica import ShardReplica

if TYPE_CHECKING:
    from tests.simulation.model.simulated_node import Process

RANGES = 2  # A copy takes a shard's hashes in so many ranges.


def copy_range(key: bytes) -> int:
    """Which range of the hashes a key is in."""
    return key_hash(key) >> 2 & 1


def ask_for_copy(process: Process, shard: ShardId, copy: list[Any]) -> None:
    """One range that is missing, from any source, until none is."""
    if not process.running or process.copies.get(shard) is not copy:
        return
    replica = process.replicas[shard]
    if replica.complete_to is None and replica.history.wanted_start is None:
        del process.copies[shard]
        return
    missing = [number for number in range(RANGES) if number not in copy[2]]
    if missing:
        source = process.world.random.choice(copy[1])
        process.world.send(process.id, source, ("copy", shard, copy[0], missing[0], copy[3]))
    process.world.after(0.2, process.when_awake, ask_for_copy, process, shard, copy)


def serve_copy(
    process: Process, asker: NodeId, replica: ShardReplica, message: tuple[Any, ...]
) -> None:
    """The rows of a range, when they are recent enough and all of them can be read."""
    _, shard, start, number, token = message
    as_of = replica.source_as_of(start)
    if as_of is None or process.applying.get(shard) or replica.depth is None:
        return
    process.look_at_rows()
    index = process.disk.shard(shard)
    rows = [(k, v) for k, v in rows_of(process, replica).items() if copy_range(k) == number]
    if not all(is_readable(process, replica, key) for key, _ in rows):
        return
    reply = ("copied", shard, token, number, as_of, rows, list(index.request_ids))
    process.world.send(process.id, asker, reply)


def rows_of(process: Process, replica: ShardReplica) -> dict[bytes, Row]:
    """The rows of the shard, in its range of the index."""
    assert replica.depth is not None
    return process.disk.rows_of(replica.shard, replica.depth)


def take_copy(process: Process, replica: ShardReplica, message: tuple[Any, ...]) -> None:
    """Merge a range by seq; with the last one, the copy is durable."""
    _, shard, token, number, as_of, rows, request_ids = message
    if shard not in process.copies:
        return
    copy = process.copies[shard]
    if copy[3] != token or number in copy[2] or process.rowless:
        return
    if not replica.history.wants_copy(copy[0]):
        return
    there, here = dict(rows), process.disk.rows
    for key, (seq, value) in rows_of(process, replica).items():
        gone = copy_range(key) == number and key not in there and seq <= as_of
        if gone and value is not None:  # A mark stays: the next copy may be older than this one.
            del here[key]
    for key, (seq, value) in rows:
        known = here.get(key)
        if known is None or known[0] < seq:
            here[key] = (seq, value)
    copy[2][number] = (as_of, request_ids)
    if len(copy[2]) < RANGES:
        return
    index = process.disk.shard(shard)
    newest = max(known for known, _ in copy[2].values())
    ids = [pair for _, pairs in copy[2].values() for pair in pairs]
    del process.copies[shard]
    if replica.complete_to is not None:
        index.copied_as_of = newest
    replica.log.requests.restore(ids, process.now())
    index.request_ids = replica.log.requests.pairs()
    process.disk.flush()
    process.world.tell(f"n{process.id} has copied {shard} as of {newest} behind {copy[0]}")
    process.perform(replica, replica.on_copied(copy[0], newest, ids, process.now()))
    process.save(replica)


def is_readable(process: Process, replica: ShardReplica, key: bytes) -> bool:
    """Whether the value's checksum fits. If not, all who may have that version are asked.

    Former members, too: theirs may be the last good copy.
    """
    if not process.disk.is_flipped(key):
        return True
    seq = process.disk.rows[key][0]
    if replica.configuration is not None:
        configuration = replica.configuration
        nodes = {member.node for member in configuration.members}
        nodes |= {learner.node for learner in configuration.learners}
        nodes |= {former.node for former in configuration.last_full}
        for node in sorted(nodes - {process.id}):
            process.world.send(process.id, node, ("repair", replica.shard, key, seq))
    return False


def serve_repair(process: Process, asker: NodeId, message: tuple[Any, ...]) -> None:
    """That version of a value, if it is here and good."""
    _, shard, key, seq = message
    row = process.disk.rows.get(key)
    if row is not None and row[0] == seq and not process.disk.is_flipped(key):
        process.world.send(process.id, asker, ("repaired", shard, key, row))


def take_repair(process: Process, message: tuple[Any, ...]) -> None:
    """Put the good value in the damaged one's place."""
    _, _, key, row = message
    disk = process.disk
    if disk.is_flipped(key) and disk.rows[key][0] == row[0]:
        process.world.repaired += 1
        assert disk.rows[key][1] == row[1] + FLIPPED
        disk.rows[key] = row
