"""A node's disk: a journal that keeps what was synced, and an index that keeps what was flushed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.core.failover.shard_log import Entry

NOTHING, NO_EPOCH = Seq(0), Epoch(0)


@dataclass(slots=True)
class Record:
    """One of the journal: an entry, or that the shard's log begins anew."""

    shard: ShardId
    commit: Seq
    entry: Entry | None
    start: tuple[Seq, Epoch, Seq] | None = None  # (start, its epoch, whole)


@dataclass(slots=True)
class ShardIndex:
    """The rows of a shard, and the state that says how far they go."""

    rows: dict[bytes, tuple[Seq, str | None]] = field(default_factory=dict)  # None: a tombstone.
    request_ids: list[tuple[bytes, Seq]] = field(default_factory=list)
    applied: Seq = NOTHING
    applied_epoch: Epoch = NO_EPOCH
    start: Seq = NOTHING
    start_epoch: Epoch = NO_EPOCH
    whole: Seq | None = None
    copied_as_of: Seq | None = None

    def copy(self) -> ShardIndex:
        return ShardIndex(
            dict(self.rows),
            list(self.request_ids),
            self.applied,
            self.applied_epoch,
            self.start,
            self.start_epoch,
            self.whole,
            self.copied_as_of,
        )

    def put(self, key: bytes, seq: Seq, value: str | None) -> None:
        """The newest wins; while history is missing, deletions leave a mark (rule R12)."""
        known = self.rows.get(key)
        if known is not None and known[0] > seq:
            return
        if value is None and self.whole is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = (seq, value)


class Disk:
    """See the module. `crash` leaves what a power cut would."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.journal: list[Record] = []
        self.synced = 0
        self.index: dict[ShardId, ShardIndex] = {}
        self.flushed: dict[ShardId, ShardIndex] = {}
        self.full = False
        self.slow = 1.0

    def shard(self, shard: ShardId) -> ShardIndex:
        found = self.index.get(shard)
        if found is None:
            found = self.index[shard] = ShardIndex()
        return found

    def flush(self) -> None:
        """The index is durable as it is; the journal goes first, as in the real one."""
        self.synced = len(self.journal)
        self.flushed = {shard: index.copy() for shard, index in self.index.items()}
        settled = 0
        for record in self.journal:
            if record.entry is not None and not record.entry.settled:
                break
            settled += 1
        del self.journal[:settled]
        self.synced -= settled

    def crash(self, random: Random) -> None:
        """Some of what was not synced may be there; the first damage ends the journal."""
        kept = random.randint(self.synced, len(self.journal)) if random.random() < 0.3 else 0
        del self.journal[max(self.synced, kept) :]
        self.synced = len(self.journal)
        self.index = {shard: index.copy() for shard, index in self.flushed.items()}

    def holds(self, shard: ShardId, epoch: Epoch, seq: Seq) -> bool:
        """Whether that entry survives whatever happens now."""
        flushed = self.flushed.get(shard)
        applied = flushed is not None and flushed.applied >= seq
        if flushed is not None and applied and (flushed.whole is None or seq > flushed.start):
            return True
        if flushed is not None and (flushed.copied_as_of or 0) >= seq:
            return True
        for position in range(min(self.synced, len(self.journal)) - 1, -1, -1):
            record = self.journal[position]
            entry = record.entry
            if record.shard == shard and entry is not None and entry.seq == seq:
                return entry.epoch == epoch
        return False
