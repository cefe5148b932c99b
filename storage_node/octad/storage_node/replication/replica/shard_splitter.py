"""Splitting a shard's log in place: shard i becomes i and i + 2^depth, with the same replicas.

Rule R18 of `docs/reference/replication.md`. The primary drains the shard and one transaction writes
both configurations (`shard_reconfigurer.py`). Each says behind which entry each split of its
ancestors was. So a replica that sees one deeper than its log, however late, splits its log before
it looks at anything else in it:

    its log has that entry     it was a member: all of the log up to there is committed, and is
                               the beginning of both halves
    it has not                 it was none: what it knows to be committed is the past of both halves

A node that has a replica of the first half must make that of the second by splitting it: otherwise
it would be a member without the data, and would go on reading it in the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from octad.sharding.ids import Seq, ShardId, number_of, pool_of, shard_id
from octad.sharding.map.shard_map import ShardConfiguration, SplitPoint
from octad.storage_node.replication.replica.pending_swap import PendingSwap
from octad.storage_node.replication.replica.shard_history import ShardHistory
from octad.storage_node.replication.replica_actions import Actions, SplitLog, commit_to
from octad.storage_node.replication.replica_state import Place
from octad.storage_node.replication.shard_log import ShardLog


def ancestors(shard: ShardId) -> Iterator[tuple[ShardId, int]]:
    """The shards that `shard` was a part of, each with its depth.

    If a replica of one of them here `may_contain` that depth, it must be split before a replica of
    `shard` is made for any reason.
    """
    number = number_of(shard)
    for depth in range(number.bit_length()):
        yield shard_id(pool_of(shard), number & ((1 << depth) - 1)), depth


class Splitter:
    """Owns to which depth the log here is split, and the configuration that waits for that."""

    __slots__ = ("depth", "due", "held", "history", "log", "place", "swaps")

    def __init__(
        self, place: Place, log: ShardLog, history: ShardHistory, swaps: PendingSwap
    ) -> None:
        self.place = place
        self.log = log
        self.history = history
        self.swaps = swaps
        self.depth: int | None = None  # None: as the first configuration.
        self.due = False  # The log is split once everything committed is applied.
        # A deeper one, which waits until the log is split.
        self.held: ShardConfiguration | None = None

    def may_contain(self, depth: int) -> bool:
        """Whether the log here is split to `depth` at most, or knows no configuration yet."""
        return self.depth is None or self.depth <= depth

    def covers(self, hash_: int) -> bool:
        """Whether a key of this hash is in this shard; requests for others are misdirected."""
        configuration = self.place.configuration
        depth = configuration.depth if configuration is not None else self.depth
        return depth is not None and hash_ & ((1 << depth) - 1) == number_of(self.place.shard)

    def inherit(self, split: SplitLog) -> None:
        """This replica is the second half; it has been made with the log of `split`."""
        self.depth = split.depth
        self.history.restore(split.complete_to, split.copied_as_of, split.acted_epoch)
        self.swaps.inherit(split.swap)

    def restore(self, depth: int | None) -> None:
        """The depth that the index or a record says."""
        self.depth = depth

    def split_for(self, configuration: ShardConfiguration) -> Actions:
        """Bring the log to the depth of `configuration`, which is `held` until that is done.

        A void one has another log than those that were split.
        """
        if self.history.is_void_under(configuration):
            self.held = None
            return []
        if self.depth is None:
            known = self.log.end > 0
            self.depth = (
                configuration.depth - len(configuration.split_points())
                if known
                else configuration.depth
            )
        assert self.depth <= configuration.depth, "shards are not merged"
        actions: Actions = []
        self.held = configuration
        while self.depth < configuration.depth:
            if self.history.wanted_start is not None or self.due:
                return actions
            actions += self.split_behind(
                self._inherited(configuration.split_points()[self.depth - configuration.depth])
            )
        self.held = None
        return actions

    def split_behind(self, seq: Seq) -> Actions:
        """Up to `seq` all is committed, what is behind it is void. Split once that is applied."""
        if self.log.end > seq:
            self.log.truncate(Seq(seq + 1))
        self.due = True
        return commit_to(self.log, seq) + self.split_if_due()

    def split_if_due(self) -> Actions:
        """Called again after each Apply."""
        log, history, pending = self.log, self.history, self.swaps.pending
        if not self.due or log.applied < log.commit:
            return []
        if log.end > log.commit:
            log.truncate(Seq(log.commit + 1))
        assert self.depth is not None
        self.due = False
        sibling = ShardId(self.place.shard + (1 << self.depth))
        self.depth += 1
        ours = pending if pending is not None and pending.sibling == sibling else None
        return [
            SplitLog(
                sibling,
                self.depth,
                log.applied,
                log.applied_epoch,
                log.half(),
                history.complete_to,
                history.copied_as_of,
                history.acted_epoch,
                ours,
            )
        ]

    def recover_split(self, depth: int, seq: Seq) -> Actions:
        """Replay a record that `SplitLog` wrote. Perform the actions before the next record."""
        log = self.log
        log.keep_to(seq)
        if self.depth is not None and self.depth >= depth:
            return []
        assert log.end == seq, f"the log ends at {log.end} and was split behind {seq}"
        self.depth = depth - 1
        log.uncommit()
        return self.split_behind(seq)

    def _inherited(self, point: SplitPoint) -> Seq:
        """Behind which of our entries the shard was split."""
        log = self.log
        assert log.commit <= point.seq, "more is committed than the split has left to both halves"
        return point.seq if log.epoch_at(point.seq) == point.epoch else log.commit
