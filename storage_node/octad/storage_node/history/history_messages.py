"""The requests by which a node copies a shard's history: rows first, then records.

A page of rows lists the source's rows, so that only records missing at the caller are transferred.
A range of the shard is named by two keys of table `h` (`index/index_format.py`), which are also the
cursor: a page covers [begin, its end) wholly.
"""

from __future__ import annotations

import msgspec

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.rpc.messages import Message, Request, message

# Codes of refusals.
NO_HISTORY = "no-history"  # The shard is not here, or not recent enough to copy from.
DAMAGED = "damaged"  # A record that was asked for cannot be read here.


class HistoryRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row of the source: by which entry it was made, and how large its record is."""

    order_key: bytes  # A key of table `h`.
    epoch: Epoch
    seq: Seq
    size: int


@message
class HistoryRead(Message, frozen=True, array_like=True, tag=65):
    """Every row of [requested begin, end), each as of `as_of` or some later point.

    `newest`: no row is of a later point. The request ids come with the range's last page.
    """

    as_of: Seq
    newest: Seq
    end: bytes
    rows: list[HistoryRow]
    request_ids: list[tuple[bytes, Seq]]


@message
class ReadHistory(Request[HistoryRead], frozen=True, array_like=True, tag=64):
    """Rows of `shard` in [begin, end), as of `start` or later."""

    shard: ShardId
    start: Seq
    begin: bytes
    end: bytes
    rows_max: int


class HistoryRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record without its data."""

    number: int  # Among the rows asked for.
    kind: int
    request_id: bytes
    metadata: bytes
    data_bytes: int


@message
class RecordsRead(Message, frozen=True, array_like=True, tag=67):
    """The unchanged ones of the first `looked_at` requested rows. Their data is the body.

    Other rows have a later entry by now, but none after `newest`.
    """

    looked_at: int
    newest: Seq
    records: list[HistoryRecord]


@message
class ReadRecords(Request[RecordsRead], frozen=True, array_like=True, tag=66):
    """The records of rows, each (row's key, epoch, seq)."""

    shard: ShardId
    start: Seq
    rows: list[tuple[bytes, Epoch, Seq]]
