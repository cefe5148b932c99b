"""What a shard's log says beyond `core/operations.py`: that it begins anew."""

from __future__ import annotations

from typing import Final

import msgspec

from octad.sharding.ids import Seq

LOG_START: Final = 20  # The record kind of LogStart, beside those of RecordKind.


class LogStart(msgspec.Struct, frozen=True, array_like=True):
    """The shard's log begins anew behind the record's seq: no entry of the log itself.

    `whole`: the rows had all of history up to here.
    """

    whole: Seq


decode_log_start = msgspec.msgpack.Decoder(LogStart).decode
