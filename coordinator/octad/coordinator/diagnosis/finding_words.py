"""How the doctor's findings name shards, nodes and moments."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from octad.sharding.ids import NodeId, ShardId, node_name, shard_name

SHARDS_NAMED_MAX = 3


def named(shards: Collection[ShardId]) -> str:
    """`2 shards (0/1, 0/5)`."""
    names = ", ".join(shard_name(shard) for shard in sorted(shards)[:SHARDS_NAMED_MAX])
    more = ", …" if len(shards) > SHARDS_NAMED_MAX else ""
    return f"{counted(len(shards), 'shard')} ({names}{more})"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def nodes_named(nodes: Iterable[NodeId]) -> str:
    return " ".join(node_name(node) for node in nodes)


def any_of(nodes: Collection[NodeId]) -> str:
    """Returns the name of the node, or "one of" their names."""
    return nodes_named(nodes) if len(nodes) == 1 else f"one of {nodes_named(nodes)}"


def are(nodes: Collection[NodeId]) -> str:
    return "is" if len(nodes) == 1 else "are"


def moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
