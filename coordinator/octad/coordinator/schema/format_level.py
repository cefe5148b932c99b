"""The format level of a cluster: which kinds of record its nodes may write.

An octad that brings kinds which older ones do not know calls that a level, one above the last. They
are written once every node of the cluster knows them, so that any node may still be started with
the octad of before until the last one has been upgraded, and from then on none:

    a node starts       says in `format-level` what it knows, if that has changed; refused where
                        the level in use is higher
    the leader          raises the level in use to the lowest that is known, once all nodes that
                        were not removed have said so; like etcd's cluster version, by itself
    a node sees it      orders the new kinds from then on
    the store is put    to an older state: each node that runs or starts says again what it knows,
    back                and that the level which it has seen in use is in use

All of it is one key that changes by compare and swap, so no node can come in with less than what is
decided. A node that is away counts with what it said last; one that lives says it once more in its
record, where an octad that knows nothing of levels says nothing: 1. So in its request to
join, which is written down before it is let in: it may be away before it is seen to live.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from octad.coordinator.schema.records import FormatLevelRecord, NodeRecord
from octad.sharding.ids import NodeId

CODE = "format-level"  # The code of a refusal to a node that knows too little.


def too_old(level: int, known: int) -> str | None:
    """Why a node that knows `known` is refused where `level` is in use; None: it is not."""
    if known >= level:
        return None
    return (
        f"the cluster uses format level {level} and this octad knows {known}: its records are"
        " a newer octad's; upgrade this node, what is on its disk is intact"
    )


def saying(
    record: FormatLevelRecord, node: NodeId, known: int, in_use: int = 1
) -> FormatLevelRecord | None:
    """The record with `node` at level `known`, and no level below `in_use`; None if it says so."""
    if record.known.get(node, 1) == known and record.level >= in_use:
        return None
    return FormatLevelRecord(max(record.level, in_use), {**record.known, node: known})


def level_of_all(
    record: FormatLevelRecord, members: Iterable[NodeId], live: Mapping[NodeId, NodeRecord]
) -> int:
    """The highest level that all `members` know, and never less than what is in use."""
    known = [_known_by(node, record, live) for node in members]
    return max(record.level, min(known, default=1))


def _known_by(node: NodeId, record: FormatLevelRecord, live: Mapping[NodeId, NodeRecord]) -> int:
    said = record.known.get(node, 1)
    return min(said, live[node].format_level) if node in live else said
