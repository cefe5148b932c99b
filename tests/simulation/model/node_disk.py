"""A node's disk: a journal that keeps what was synced, and an index that keeps what was flushed.

As in the real one, the rows of all shards stand in one index, and a shard is a range of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from tests.harness.simulated_disk import Change, SimulatedDisk

from octad.sharding.ids import Epoch, Seq, ShardId, number_of
from octad.storage_node.replication.shard_log import Entry

JOURNAL = Path("/disk/journal")
NOTHING, NO_EPOCH = Seq(0), Epoch(0)
FLIPPED = "~"  # At the end of a value: its checksum does not fit.

Row = tuple[Seq, str | None]  # None: a mark that the key was deleted.


def is_damaged(row: Row | None) -> bool:
    """Whether the checksum of the value does not fit."""
    return row is not None and row[1] is not None and row[1].endswith(FLIPPED)


def key_hash(key: bytes) -> int:
    """What decides the shard of a key: its first byte."""
    return key[0]


@dataclass(slots=True)
class Record:
    """One of the journal: an entry, or that the shard's log begins anew, or was split."""

    shard: ShardId
    commit: Seq
    entry: Entry | None
    start: tuple[Seq, Epoch, Seq, int | None] | None = None  # (start, its epoch, whole, depth)
    split: tuple[int, Seq] | None = None  # (depth, behind which entry)


@dataclass(slots=True)
class ShardIndex:
    """The state of a shard that says how far its rows go."""

    request_ids: list[tuple[bytes, Seq]] = field(default_factory=list)
    applied: Seq = NOTHING
    applied_epoch: Epoch = NO_EPOCH
    start: Seq = NOTHING
    start_epoch: Epoch = NO_EPOCH
    complete_to: Seq | None = None
    copied_as_of: Seq | None = None
    depth: int | None = None
    acted_epoch: Epoch = NO_EPOCH


class JournalDisk(SimulatedDisk):
    """The first damage ends a journal: only a beginning of what was not synced counts."""

    def torn(self, changes: list[Change]) -> list[Change]:
        return changes[: self.rng.randint(0, len(changes))] if self.rng.random() < 0.3 else []


class NodeDisk:
    """See the module. A byte of the journal's file stands for a record, `journal` has its meaning.

    Of the file only what is behind `_begin` is of use.
    """

    def __init__(self, incarnation: str, random: Random) -> None:
        self.incarnation = incarnation
        self.journal: list[Record] = []
        self._begin = 0
        self._hardware = JournalDisk(random)
        self._file = self._hardware.open(JOURNAL, os.O_RDWR | os.O_CREAT)
        self._hardware.sync_directory(JOURNAL.parent)
        self.rows: dict[bytes, Row] = {}
        self.index: dict[ShardId, ShardIndex] = {}
        self.flushed_rows: dict[bytes, Row] = {}
        self.flushed: dict[ShardId, ShardIndex] = {}
        self.full = False
        self.slow = 1.0
        self.failing = False  # The next sync says EIO.
        self.damaged: Record | None = None  # Its checksum does not fit.

    # -- the journal ---------------------------------------------------------------------------

    @property
    def synced(self) -> int:
        """How many records of the journal survive whatever happens now."""
        return self._hardware.durable_size(self._file) - self._begin

    def append(self, record: Record) -> None:
        self._hardware.write(self._file, [b"r"], self._begin + len(self.journal))
        self.journal.append(record)

    def begin_sync(self) -> int:
        """Gives what `end_sync` asks for; records that are appended meanwhile are none of it."""
        return self._hardware.begin_sync(self._file)

    def end_sync(self, begun: int) -> None:
        self._hardware.end_sync(self._file, begun)

    def end_at(self, length: int) -> None:
        """What is behind so many records is gone for good."""
        del self.journal[length:]
        self._hardware.truncate(self._file, self._begin + length)
        self.end_sync(self.begin_sync())

    # -- the index -----------------------------------------------------------------------------

    def shard(self, shard: ShardId) -> ShardIndex:
        found = self.index.get(shard)
        if found is None:
            found = self.index[shard] = ShardIndex()
        return found

    def rows_of(self, shard: ShardId, depth: int) -> dict[bytes, Row]:
        """The shard's range of the index."""
        mask, number = (1 << depth) - 1, number_of(shard)
        return {key: row for key, row in self.rows.items() if key_hash(key) & mask == number}

    def put(self, index: ShardIndex, key: bytes, seq: Seq, value: str | None) -> None:
        """The newest wins; while history is missing, deletions leave a mark (rule R12)."""
        known = self.rows.get(key)
        if known is not None and known[0] > seq:
            return
        if value is None and index.complete_to is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = (seq, value)

    def is_flipped(self, key: bytes) -> bool:
        """Whether the checksum of the key's value does not fit."""
        return is_damaged(self.rows.get(key))

    def has_flips(self) -> bool:
        """Whether any value is damaged, as it is read now or will be after a crash."""
        return any(is_damaged(row) for _, row in self._lying_rows())

    def is_sound(self, shard: ShardId, depth: int) -> bool:
        """Whether all of the shard can be read here, now and after a crash."""
        mask, number = (1 << depth) - 1, number_of(shard)
        here = [row for key, row in self._lying_rows() if key_hash(key) & mask == number]
        return self.damaged is None and not any(map(is_damaged, here))

    def _lying_rows(self) -> list[tuple[bytes, Row]]:
        return [*self.rows.items(), *self.flushed_rows.items()]

    def flip(self, key: bytes) -> None:
        """Damage a value where it lies."""
        seq, value = self.rows[key]
        assert value is not None
        self.rows[key] = (seq, value + FLIPPED)
        if self.flushed_rows.get(key) == (seq, value):
            self.flushed_rows[key] = self.rows[key]

    def flush(self) -> None:
        """The index is durable as it is; the journal goes first, as in the real one."""
        self.end_sync(self.begin_sync())
        self.flushed = {shard: replace(index) for shard, index in self.index.items()}
        self.flushed_rows = dict(self.rows)
        settled = 0
        for record in self.journal:
            if record.entry is not None and not record.entry.settled:
                break
            settled += 1
        del self.journal[:settled]
        self._begin += settled

    # -- what happens to it --------------------------------------------------------------------

    def crash(self) -> None:
        """Some of what was not synced may be there; the first damage ends the journal."""
        self._hardware = self._hardware.after_power_cut()
        self._file = self._hardware.open(JOURNAL, os.O_RDWR)
        del self.journal[self.synced :]
        self.index = {shard: replace(index) for shard, index in self.flushed.items()}
        self.rows = dict(self.flushed_rows)

    def is_whole(self) -> bool:
        """Whether a replay meets no damage in what was synced. It is not a torn tail."""
        return self.damaged is None or all(record is not self.damaged for record in self.journal)

    def holds(self, shard: ShardId, epoch: Epoch, seq: Seq) -> bool:
        """Whether that entry survives whatever happens now."""
        flushed = self.flushed.get(shard)
        applied = flushed is not None and flushed.applied >= seq
        if flushed is not None and applied and (flushed.complete_to is None or seq > flushed.start):
            return True
        if flushed is not None and (flushed.copied_as_of or 0) >= seq:
            return True
        for position in range(self.synced - 1, -1, -1):
            record = self.journal[position]
            entry = record.entry
            if record.shard == shard and entry is not None and entry.seq == seq:
                return entry.epoch == epoch
        return False
