"""The bytes of the batches that were committed last, so that readers at the end ask no disk.

It is fed as entries are applied, and asked by the keys of rows: a batch has one row for ever, and
its bytes never change. The oldest go first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from octad.sharding.limits import MIB
from octad.storage_node.index.partition_rows import PartitionId, batch_key
from octad.storage_node.journal.several_records import Several
from octad.storage_node.operations.partitions import AppendBatch
from octad.storage_node.operations.registry import operations_in
from octad.storage_node.replication.shard_log import Entry

TAIL_CACHE_BYTES: Final = 64 * MIB  # Of a node.


class TailCache:
    """See the module. `size`: the bytes in it, `bytes_max` at most."""

    def __init__(self, bytes_max: int = TAIL_CACHE_BYTES) -> None:
        self._bytes_max = bytes_max
        self._batches: OrderedDict[bytes, bytes] = OrderedDict()
        self.size = 0
        self.hits = 0
        self.misses = 0

    def note(self, entry: Entry) -> None:
        """The entry is about to be applied; its bytes are not kept anywhere else in memory."""
        if entry.data is None:  # It comes from a replay.
            return
        operation, data = entry.operation, memoryview(entry.data)
        if isinstance(operation, AppendBatch):
            self._add(operation, data)
            return
        assert isinstance(operation, Several), "it is noted for appends alone"
        end = 0
        for record, append in zip(operation.records, operations_in(operation), strict=True):
            end += record.length
            self._add(append, data[end - record.data_bytes : end])

    def get(self, key: bytes) -> bytes | None:
        """The batch whose row has the index key `key`, if it is here."""
        found = self._batches.get(key)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found

    def _add(self, append: AppendBatch, data: memoryview) -> None:
        key = batch_key(PartitionId(append.topic, append.partition), append.base)
        self.size += len(data) - len(self._batches.pop(key, b""))
        self._batches[key] = bytes(data)  # A view would keep the whole frame that it came in.
        while self.size > self._bytes_max:
            _, dropped = self._batches.popitem(last=False)
            self.size -= len(dropped)
