"""Splitting a shard's log in place: shard i becomes i and i + 2^depth, with the same replicas.

Rule R18 of `docs/reference/replication.md`. The primary drains the shard and one transaction writes
both rows (`shard_reconfigurer.py`). A row says behind which entry each split of its ancestors was.
So whoever sees a row that is deeper than its log, however late and whoever it is by then, splits
its own log before it looks at anything else in that row:

    its log has that entry     it was a member: all of the log up to there is committed, and is
                               the beginning of both halves
    it has not                 it was none: what it knows to be committed is the past of both halves

A node must not make a replica of the second half but by splitting that of the first, if it has one:
else it would be a member without the data, and would go on reading it in the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from octad.sharding.ids import Seq, ShardId, number_of, pool_of, shard_id
from octad.sharding.map.shard_map import ShardRow, SplitPoint
from octad.storage_node.replication.replica_actions import Actions, SplitLog
from octad.storage_node.replication.replica_state import ReplicaState


def ancestors(shard: ShardId) -> Iterator[tuple[ShardId, int]]:
    """What `shard` was a part of, and at which depth.

    One of them here that `may_contain` that depth has to be split before there may be a replica of
    `shard`: by a row, a message or whatever.
    """
    number = number_of(shard)
    for depth in range(number.bit_length()):
        yield shard_id(pool_of(shard), number & ((1 << depth) - 1)), depth


class Splitter(ReplicaState):
    """See the module."""

    def may_contain(self, depth: int) -> bool:
        """Whether the log here is not split to more than `depth`, or has not seen a row to tell."""
        return self.depth is None or self.depth <= depth

    def covers(self, hash_: int) -> bool:
        """Whether a key of this hash is in this shard; another one's requests are misdirected."""
        depth = self.row.depth if self.row is not None else self.depth
        return depth is not None and hash_ & ((1 << depth) - 1) == number_of(self.shard)

    def inherit(self, split: SplitLog) -> None:
        """This replica is the second half; it has been made with the log of `split`."""
        self.depth = split.depth
        self.whole, self.copied_as_of = split.whole, split.copied_as_of
        self.acted_epoch = split.acted_epoch
        self.pending = split.swap

    def split_for(self, row: ShardRow) -> Actions:
        """Bring the log to the depth of `row`, which is `held` until that is done.

        A void one has another log than those that were split.
        """
        if self.is_void_under(row):
            self.held = None
            return []
        if self.depth is None:
            known = self.log.end > 0
            self.depth = row.depth - len(row.split_points()) if known else row.depth
        assert self.depth <= row.depth, "shards are not merged"
        actions: Actions = []
        self.held = row
        while self.depth < row.depth:
            if self.wanted_start is not None or self.split_due:
                return actions
            actions += self.split_behind(
                self._inherited(row.split_points()[self.depth - row.depth])
            )
        self.held = None
        return actions

    def split_behind(self, seq: Seq) -> Actions:
        """Up to `seq` all is committed, what is behind it is void. Split once that is applied."""
        if self.log.end > seq:
            self.log.truncate(Seq(seq + 1))
        self.split_due = True
        actions = self.commit_to(seq)
        return actions + self.split_if_due()

    def split_if_due(self) -> Actions:
        """Called again after each Apply."""
        log = self.log
        if not self.split_due or log.applied < log.commit:
            return []
        if log.end > log.commit:
            log.truncate(Seq(log.commit + 1))
        assert self.depth is not None
        self.split_due = False
        sibling = ShardId(self.shard + (1 << self.depth))
        self.depth += 1
        ours = self.pending if self.pending and self.pending.sibling == sibling else None
        return [
            SplitLog(
                sibling,
                self.depth,
                log.applied,
                log.applied_epoch,
                log.half(),
                self.whole,
                self.copied_as_of,
                self.acted_epoch,
                ours,
            )
        ]

    def recover_split(self, depth: int, seq: Seq) -> Actions:
        """Replay a record that `SplitLog` wrote. Perform the actions before the next record."""
        log = self.log
        self.missing_before = None
        last = Seq(max(log.applied, seq))
        if log.end > last:
            log.truncate(Seq(last + 1))
        if self.depth is not None and self.depth >= depth:
            return []
        assert log.end == seq, f"the log ends at {log.end} and was split behind {seq}"
        self.depth = depth - 1
        newly, log.commit = seq, log.applied
        return self.split_behind(newly)

    def _inherited(self, point: SplitPoint) -> Seq:
        """Behind which of our entries the shard was split."""
        log = self.log
        assert log.commit <= point.seq, "more is committed than the split has left to both halves"
        return point.seq if log.epoch_at(point.seq) == point.epoch else log.commit
