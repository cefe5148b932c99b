"""Brings a damaged record back from another member, for the scrubber and for reads alike.

The record is appended to this node's journal as compaction appends one that it moves, and its row
moves there (`operations/copy_format.py`): copies are synced first, a row moves only if it still
points at the damaged record, and nothing is appended while an entry for the row is prepared, so
that in the journal no copy lies behind the end of its version.

What comes from elsewhere is the record of the same index key, epoch and seq, whose checksum was
verified over there when it was read, and here when it arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import msgspec
from xxhash import xxh3_64

from octad.sharding import limits
from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index_format import Ordered, decode_ordered, hash_of_row
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import CorruptRecord, UnreadableRecord
from octad.storage_node.journal.record_format import (
    REQUEST_ID_BYTES,
    Record,
    RecordKind,
)
from octad.storage_node.operations.copy_format import (
    FROM_ANOTHER_NODE,
    Copied,
    encode_copied,
    moved,
    original_of,
)
from octad.storage_node.operations.registry import KINDS
from octad.storage_node.rpc.peer import Call
from octad.storage_node.rpc.peer_connection import Buffer
from octad.storage_node.shards.extent_messages import ReadRecord, RecordRead
from octad.storage_node.shards.object_store import Damaged, StoreError, Unavailable

log = logging.getLogger(__name__)

IsDirty: TypeAlias = Callable[[ShardId, bytes], bool]


class Repaired(msgspec.Struct, frozen=True):
    """A record as another member has it."""

    shard: ShardId
    kind: int
    metadata: bytes
    data: bytes


class RecordLost(Exception):
    """Every node that may have the record has reported a damaged one."""


# Brings the record of (index key, epoch, seq) from another member; None when no one who can be
# asked now has it intact. Raises RecordLost.
Repair: TypeAlias = Callable[[bytes, Epoch, Seq], Awaitable[Repaired | None]]


async def replace_record(
    journal: Journal,
    index: CountedIndex,
    is_dirty: IsDirty,
    key: bytes,
    row: Ordered,
    repaired: Repaired,
) -> bool:
    """Append the fetched record and point the row at it. Raises JournalFull.

    False if the row has changed, or is about to, since it was found damaged.
    """
    stored = index.get(key)
    if stored is None or decode_ordered(stored) != row or is_dirty(repaired.shard, key):
        return False
    origin = row.location.segment
    copied = Copied(FROM_ANOTHER_NODE, origin, repaired.kind, repaired.metadata)
    appended = journal.append(
        RecordKind.COPY,
        repaired.shard,
        row.epoch,
        row.seq,
        Seq(0),
        bytes(REQUEST_ID_BYTES),
        encode_copied(copied),
        repaired.data,
    )
    await journal.durable(appended.lsn)
    stored = index.get(key)
    now = None if stored is None else moved(stored, row.location, appended.location)
    if now is None:
        return False
    index.write([(key, now)])
    log.warning("repaired %s (seq %d) from another member", key.hex(), row.seq)
    return True


class RecordRepair:
    """See the module. `fetch` is a Repair; `answer` serves those of other nodes."""

    def __init__(
        self,
        node: NodeId,
        journal: Journal,
        index: CountedIndex,
        shard_map: ShardMap,
        call: Call,
    ) -> None:
        self._node = node
        self._journal = journal
        self._index = index
        self._map = shard_map
        self._call = call

    # -- asking --------------------------------------------------------------------------------

    async def fetch(self, key: bytes, epoch: Epoch, seq: Seq) -> Repaired | None:
        """The record from the first member that has it intact. Raises RecordLost."""
        everywhere_damaged = True
        for node in self._others(key):
            try:
                message = ReadRecord(key, epoch, seq)
                answer, data = await self._call(node, message, b"", limits.READ_TIMEOUT_S)
            except StoreError as error:
                everywhere_damaged = everywhere_damaged and isinstance(error, Damaged)
                log.info("n%d has no copy of %s (seq %d): %s", node, key.hex(), seq, error)
                continue
            if answer.kind not in KINDS:
                everywhere_damaged = False
                log.error(
                    "n%d's copy of %s (seq %d) is of kind %d, which a newer octad wrote:"
                    " upgrade this node",
                    node,
                    key.hex(),
                    seq,
                    answer.kind,
                )
                continue
            if _checksum(answer.metadata, data) == answer.checksum:
                return Repaired(answer.shard, answer.kind, answer.metadata, bytes(data))
            everywhere_damaged = False
            log.error("n%d's copy of %s (seq %d) does not match", node, key.hex(), seq)
        if everywhere_damaged:
            raise RecordLost
        return None

    def _others(self, key: bytes) -> Iterable[NodeId]:
        """The nodes that may have the record: for every pool, since a key does not show its pool.

        Former members, too: theirs may be the last good copy.
        """
        hash_ = hash_of_row(key)
        others: dict[NodeId, None] = {}
        for pool in self._map.pools:
            configuration = self._map.configurations.get(self._map.shard_of_hash(pool, hash_))
            if configuration is not None and configuration.member(self._node) is not None:
                others.update(dict.fromkeys(member.node for member in configuration.members))
                others.update(dict.fromkeys(learner.node for learner in configuration.learners))
                others.update(dict.fromkeys(former.node for former in configuration.last_full))
        others.pop(self._node, None)
        return others

    # -- answering -----------------------------------------------------------------------------

    async def answer(self, message: ReadRecord) -> tuple[RecordRead, memoryview]:
        """To another node. Raises Unavailable, Damaged."""
        stored = self._index.get(message.index_key)
        row = None if stored is None else decode_ordered(stored)
        if row is None or (row.epoch, row.seq) != (message.epoch, message.seq):
            raise Unavailable("the row here is another one")
        try:
            record: Record = await asyncio.to_thread(self._journal.read, row.location)
        except UnreadableRecord as error:  # It may be transient.
            raise Unavailable(str(error)) from error
        except CorruptRecord as error:
            raise Damaged(str(error)) from error
        original = original_of(row.location, record)
        checksum = _checksum(original.metadata, record.data)
        found = RecordRead(record.shard, original.kind, original.metadata, checksum)
        return found, record.data


def _checksum(metadata: bytes, data: Buffer) -> int:
    checksum = xxh3_64(metadata)
    checksum.update(data)
    return checksum.intdigest()
