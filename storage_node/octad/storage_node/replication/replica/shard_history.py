"""What a replica has of its shard's history: all, or a copy under way (R10, R12, R13).

A replica whose log begins behind entries that it never had copies what they did. It may also have
more than it should: what an operator's recovery gave up (R19). And what it has may be unreadable
for a while, when the index is damaged (R20).
"""

from __future__ import annotations

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.replication.replica_actions import (
    Actions,
    Copy,
    FlushIndex,
    StartLog,
    commit_to,
)
from octad.storage_node.replication.replica_state import Place
from octad.storage_node.replication.shard_log import ShardLog


class ShardHistory:
    """Owns how far the index and the log together have everything. See the module."""

    __slots__ = (
        "acted_epoch",
        "complete_to",
        "copied_as_of",
        "log",
        "place",
        "rowless",
        "unflushed",
        "void",
        "wanted_start",
    )

    def __init__(self, place: Place, log: ShardLog) -> None:
        self.place = place
        self.log = log
        self.complete_to: Seq | None = None  # The index has all up to here; None: up to `applied`.
        self.copied_as_of: Seq | None = None  # As of when the installed copy is.
        # Where it begins, once everything committed is applied.
        self.wanted_start: tuple[Seq, Epoch] | None = None
        self.acted_epoch = Epoch(0)  # The highest before this one under which the log was changed.
        self.void = False  # It may show what an operator's recovery gave up (R19): no part in it.
        self.unflushed = False  # A recovery made the rows of an unfinished copy count.
        # The index is damaged, the log is not: it acknowledges what it makes durable, and never
        # reads, lists, challenges, becomes full or is a source until the node starts again.
        self.rowless = False

    def restore(
        self, complete_to: Seq | None, copied_as_of: Seq | None, acted_epoch: Epoch
    ) -> None:
        """What the index says, or what the replica had that was split."""
        self.complete_to, self.copied_as_of = complete_to, copied_as_of
        self.acted_epoch = acted_epoch

    def acted_in(self, epoch: Epoch) -> None:
        """A record of `epoch` is in the journal."""
        self.acted_epoch = max(self.acted_epoch, epoch)

    def restarted(self, complete_to: Seq) -> None:
        """A record says that the log began anew, when the index had all up to `complete_to`."""
        self.complete_to, self.copied_as_of = complete_to, None

    def lose_rows(self) -> None:
        """The index is damaged (rule R20)."""
        self.rowless = True

    def regain_rows(self) -> None:
        """There is an index again that shows all that is applied."""
        self.rowless = False

    # -- a log that begins anew ----------------------------------------------------------------

    def want_start(self, start: Seq, epoch: Epoch, depth: int | None) -> Actions:
        """The log is to begin anew behind `start`, when what is committed is in the index."""
        self.wanted_start = (start, epoch)
        return self.start_log(depth)

    def start_log(self, depth: int | None) -> Actions:
        """Rules R12, R13: nothing that is committed and only here is lost on the way."""
        log = self.log
        if self.wanted_start is None or log.applied < log.commit:
            return []
        start, epoch = self.wanted_start
        self.wanted_start = None
        assert start >= log.commit, "a new member starts behind everything committed"
        if self.complete_to is None:
            self.complete_to = log.applied
        committed = log.commit
        log.restart_at(start, epoch)
        self.copied_as_of = None
        return [StartLog(start, epoch, committed, self.complete_to, depth)]

    # -- history that others have --------------------------------------------------------------

    def copy_again(self) -> Actions:
        """From the primary, or from any node that was complete up to our base (rule R10)."""
        member, configuration = self.place.member, self.place.configuration
        if member is None or member.base == 0 or self.complete_to is None or configuration is None:
            return []
        if self.copied_as_of is not None:
            return []
        former = [f.node for f in configuration.last_full if f.upto >= member.base - 1]
        sources = [
            configuration.primary,
            *(node for node in former if node != configuration.primary),
        ]
        return [Copy(Seq(member.base - 1), tuple(n for n in sources if n != self.place.node))]

    def wants_copy(self, start: Seq) -> bool:
        """Whether a copy behind `start` would be of use."""
        return (
            not self.place.failed
            and not self.rowless
            and start == self.log.start
            and self.complete_to is not None
            and self.wanted_start is None
        )

    def copied(self, as_of: Seq) -> None:
        """Every row as of `as_of` or later is durable here."""
        assert as_of >= self.log.start
        self.copied_as_of = as_of

    def becomes_complete(self) -> bool:
        """The copy mixes rows of different ages: complete once our log has passed them."""
        if self.copied_as_of is None or self.log.applied < self.copied_as_of:
            return False
        self.copied_as_of = self.complete_to = None
        return True

    def is_complete(self) -> bool:
        """Whether our index and log together have all of history: rule R11's guard."""
        if self.complete_to is None:
            return True
        return self.copied_as_of is not None and self.copied_as_of <= self.log.durable

    def source_as_of(self, start: Seq) -> Seq | None:
        """For a copy behind `start` from this replica: how recent it is at least; None: too old.

        A void replica is no source: it may have what was given up (rule R19).
        """
        if self.void or self.place.failed or self.rowless:
            return None
        as_of = self.log.applied if self.complete_to is None else self.complete_to
        return Seq(as_of) if as_of >= start else None

    def learn_former(self, configuration: ShardConfiguration) -> Actions:
        """A removed member had everything up to `upto`: that is committed, says the configuration.

        Also one that became full with a copy, and went down before it had applied what made it so.
        """
        for former in configuration.last_full:
            if self._is_us(former.node, former.incarnation):
                known = min(former.upto, self.log.end)
                if self.is_complete() and known > self.log.commit:
                    return commit_to(self.log, Seq(known))
        return []

    # -- an operator's recovery ----------------------------------------------------------------

    def learn_recoveries(self, configuration: ShardConfiguration) -> None:
        """Rule R19: a copy from before a recovery is good only as far as that recovery went.

        The replica that an operator has put in the place of lost members is complete from then on,
        whatever a copy that was under way has left.
        """
        self.void = self.is_void_under(configuration)
        if self._is_put_in_charge(configuration):
            self.unflushed |= self.complete_to is not None
            self.complete_to = self.copied_as_of = self.wanted_start = None
        if not self.void:
            self.acted_epoch = configuration.epoch

    def is_void_under(self, configuration: ShardConfiguration) -> bool:
        """Whether it may show what a recovery has given up, as far as that is known (rule R19)."""
        void, complete_to = self.void, self.complete_to
        for recovery in configuration.recovered:
            if self._is_us(recovery.node, recovery.incarnation):
                if self._is_put_in_charge(configuration):
                    # An earlier recovery voided it: now it is all there is.
                    void, complete_to = False, None
            elif self.acted_epoch < recovery.epoch:
                void = void or self.log.commit > recovery.upto or complete_to is not None
        return void

    def flush_due(self) -> Actions:
        """Once after a recovery that made an interrupted copy count."""
        flush: Actions = [FlushIndex()] if self.unflushed else []
        self.unflushed = False
        return flush

    def _is_put_in_charge(self, configuration: ShardConfiguration) -> bool:
        """Whether a recovery has once named this disk, which is a full primary now."""
        me = self.place.node
        member = configuration.member(me)
        return (
            configuration.primary == me
            and member is not None
            and member.base == 0
            and any(
                self._is_us(recovery.node, recovery.incarnation)
                for recovery in configuration.recovered
            )
        )

    def _is_us(self, node: NodeId, incarnation: str) -> bool:
        return node == self.place.node and incarnation == self.place.incarnation
