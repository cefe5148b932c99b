"""What the index keeps of a shard beyond `core/index_format.py`, under the same key.

The fields are appended with defaults, so that a state written by either version is read by both.
"""

from __future__ import annotations

import msgspec

from octad.sharding.ids import Epoch, Seq
from octad.storage_node.core import index_format as running


class ShardState(running.ShardState, frozen=True, array_like=True, gc=False):
    """How far the rows of a shard go, and what of its history they have."""

    start: Seq = Seq(0)  # The log here begins behind this entry, which is of `start_epoch`.
    start_epoch: Epoch = Epoch(0)
    whole: Seq | None = None  # The rows have all of history up to here; None: up to `applied`.
    copied_as_of: Seq | None = None  # Of a copy of history that is installed durably.


decode_shard_state = msgspec.msgpack.Decoder(ShardState).decode
