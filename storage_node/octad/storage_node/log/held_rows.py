"""What is held at a partition, as prepared: fences and pins, each a row of its own (rule L10)."""

from __future__ import annotations

from octad.storage_node.index.partition_rows import (
    NO_TOKEN,
    PIN,
    PartitionId,
    decode_fence,
    decode_pin,
    fence_of,
    named_pin,
    partition_key,
    pin_of,
)
from octad.storage_node.replication.prepared_rows import PreparedRows


def standing_token(rows: PreparedRows, partition: PartitionId, job: str) -> int:
    """The lowest token with which the job may append, or NO_TOKEN: with any, and with none."""
    stored = rows.get(partition_key(partition, fence_of(job)))
    return NO_TOKEN if stored is None else decode_fence(stored).token


def pinned_offset(rows: PreparedRows, partition: PartitionId, owner: str, id: str) -> int | None:
    """What the pin keeps; None: there is none of that name."""
    stored = rows.get(partition_key(partition, pin_of(owner, id)))
    return None if stored is None else decode_pin(stored).offset


def pins(rows: PreparedRows, partition: PartitionId) -> list[tuple[int, str, str]]:
    """All: offset, owner and id, from the lowest offset on."""
    found = rows.under(partition_key(partition, PIN), partition.mark)
    return sorted((decode_pin(value).offset, *named_pin(key)) for key, value in found.items())
