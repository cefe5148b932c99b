"""A replica's journal records after a restart, in the order of the journal (rule R14).

A record supersedes every earlier record of the shard with the same or a higher seq. What lies above
the highest commit point that any record carries stays prepared and dirty.
"""

from __future__ import annotations

from octad.sharding.ids import Epoch, Seq
from octad.storage_node.replication.replica.shard_history import ShardHistory
from octad.storage_node.replication.replica.shard_splitter import Splitter
from octad.storage_node.replication.replica_actions import Actions, commit_to
from octad.storage_node.replication.shard_log import Entry, ShardLog


class Replay:
    """Owns what a replay has found and cannot place yet. See the module."""

    __slots__ = ("applied_ids", "history", "log", "missing_before", "splitter")

    def __init__(self, log: ShardLog, history: ShardHistory, splitter: Splitter) -> None:
        self.log = log
        self.history = history
        self.splitter = splitter
        self.missing_before: Seq | None = None  # A record without its predecessor.
        self.applied_ids: list[bytes] = []  # Requests that are not in the window yet.

    def recover(self, entry: Entry, committed: Seq) -> None:
        """One entry. It supersedes every earlier one with the same or a higher seq.

        An entry whose predecessor is missing must be superseded later: replay began behind the
        predecessor because that is no longer needed.
        """
        log, seq = self.log, entry.seq
        self.history.acted_in(entry.epoch)
        self.missing_before = None
        if seq > log.end + 1:
            self.missing_before = seq
            return
        known = seq <= log.applied or (seq <= log.end and log.at(seq).epoch == entry.epoch)
        log.keep_to(seq if known else Seq(seq - 1))
        if seq == log.end + 1:
            log.append(entry)
        log.note_committed(committed)

    def recover_start(
        self, start: Seq, epoch: Epoch, committed: Seq, complete_to: Seq, depth: int | None = None
    ) -> Actions:
        """A record that `StartLog` wrote. Perform the actions before the next record.

        Records from before it may have been replayed: drop what the start cut off.
        """
        log = self.log
        self.history.acted_in(epoch)
        self.missing_before = None
        if start <= log.start:
            log.uncommit()
            log.keep_to(log.applied)
            return []
        log.note_committed(committed)
        newly = log.uncommit()
        actions = commit_to(log, newly)
        self.applied_ids += log.applied_to(newly)
        self.history.restarted(complete_to)
        self.splitter.restore(depth)
        log.restart_at(start, epoch)
        return actions

    def recover_split(self, depth: int, seq: Seq) -> Actions:
        """A record that `SplitLog` wrote. Perform the actions before the next record."""
        self.missing_before = None
        return self.splitter.recover_split(depth, seq)

    def recovered(self) -> Actions:
        """The journal is replayed to its end: everything read from it is durable."""
        log = self.log
        assert self.missing_before is None, f"what precedes seq {self.missing_before} is missing"
        log.replayed()
        self.history.becomes_complete()  # It may have been so at the stop, and no entry may follow.
        return commit_to(log, log.uncommit())

    def take_applied_ids(self) -> list[bytes]:
        """The ids for the window, once; the caller that applies next knows the time."""
        found, self.applied_ids = self.applied_ids, []
        return found
