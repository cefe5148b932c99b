"""A node's state of a shard, as in the index and in the note of retired segments."""

from __future__ import annotations

import msgspec

from octad.sharding.ids import Epoch, Seq


class ShardDigest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The digest of all rows of a shard (`index/shard_digest.py`)."""

    format: int  # Digests of two formats say nothing of each other.
    rows: int
    xor: int  # All rows' hashes, combined by xor.


class ShardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far the rows of a shard go, and the node's promises for it."""

    applied: Seq  # The last entry that the rows show.
    applied_epoch: Epoch  # The epoch in which that entry was first appended.
    view_epoch: Epoch  # The highest epoch acted under: nothing older is listened to.
    start: Seq = Seq(0)  # The log here begins behind this entry, which is of `start_epoch`.
    start_epoch: Epoch = Epoch(0)
    complete_to: Seq | None = None  # The rows have all of history to here; None: to `applied`.
    copied_as_of: Seq | None = None  # As of when the copied history is that is durable here.
    depth: int | None = None  # The shard's, as far as the log here is split; None: never was.
    digest: ShardDigest | None = None  # The rows at `applied`; None: they must be counted.
    usage_known: bool = False  # The sums of buckets (table `b`) agree with the rows.
