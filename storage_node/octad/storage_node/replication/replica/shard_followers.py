"""How much of a primary's log the others have, and what is sent again (R1b, R2, R10, R12).

Committed is what all members have durable: `shard_primary.py` takes the least of `match`.
"""

from __future__ import annotations

from octad.sharding.ids import NodeId, Seq
from octad.sharding.limits import MEMBER_STUCK_S, RESEND_S
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.replication.replica.learner_sessions import LearnerSessions
from octad.storage_node.replication.replica_actions import (
    Actions,
    SendCommit,
    SendPrepare,
    SendSession,
    Targets,
)
from octad.storage_node.replication.replica_state import Place
from octad.storage_node.replication.shard_log import ShardLog

RESEND_ENTRIES_MAX = 64


class Followers:
    """Owns what each member and learner has acknowledged in this epoch. See the module."""

    __slots__ = (
        "complete",
        "copying",
        "log",
        "match",
        "place",
        "progress",
        "rowless",
        "sessions",
        "targets",
    )

    def __init__(self, place: Place, log: ShardLog) -> None:
        self.place = place
        self.log = log
        self.sessions = LearnerSessions()
        self.match: dict[NodeId, Seq] = {}  # What each member has durable, this node included.
        self.targets: Targets = ()  # Whom to send Prepares.
        self.complete: set[NodeId] = set()  # Recruits and learners with all of history.
        self.rowless: set[NodeId] = set()  # Full members that cannot read their rows.
        self.copying: set[NodeId] = set()  # Those that do not have all of history yet.
        self.progress: dict[NodeId, tuple[Seq, float, float]] = {}  # Acked, since, send again at.

    # -- who they are --------------------------------------------------------------------------

    def begin_epoch(self, configuration: ShardConfiguration) -> None:
        """A new epoch: what earlier ones acknowledged counts no more (rule R2).

        A recruit has whatever is committed from its base on: while it was a member, nothing was
        committed without it, and the swap that made it one froze the commit point below its base.
        """
        self.sessions.begin_epoch(learner.node for learner in configuration.learners)
        commit = self.log.commit
        self.match = {m.node: Seq(max(commit, m.base - 1)) for m in configuration.members}
        self.match[self.place.node] = self.log.durable
        self.complete.clear()
        self.rowless.clear()  # Each acknowledges the barrier, and says so again.
        self.progress.clear()
        self._set_targets(configuration)

    def end(self) -> None:
        """This node no longer leads."""
        self.match, self.targets = {}, ()
        self.sessions.end()

    def begin_session(self, learner: NodeId, configuration: ShardConfiguration) -> int:
        """Rule R12: the number of a new one."""
        session = self.sessions.begin(learner)
        self.complete.discard(learner)
        self._set_targets(configuration)
        return session

    def _set_targets(self, configuration: ShardConfiguration) -> None:
        """Whom Prepares go to: members, and learners in a session."""
        members = [(node, 0) for node in self.place.other_members()]
        numbers = self.sessions.numbers
        self.targets = (*members, *numbers.items())
        partial = {member.node for member in configuration.members if member.base}
        self.copying = (partial | numbers.keys()) - self.complete

    # -- what they have ------------------------------------------------------------------------

    def has_more(self, member: NodeId, upto: Seq, complete: bool) -> bool:
        """An ack of `member`: whether it has more than it was known to have."""
        known = self.match.get(member)
        if known is None:
            return False
        if not complete and member not in self.copying:
            self.rowless.add(member)
        elif complete:
            self.rowless.discard(member)
            if member in self.copying:
                self.has_become_complete(member)
        if upto > known:
            self.match[member] = upto
            return True
        return False

    def on_learner_ack(self, learner: NodeId, upto: Seq, session: int, complete: bool) -> Actions:
        """It counts only in the present session; a learner in another is told of it."""
        if not self.sessions.acknowledged(learner, upto, session):
            return [self.session_of(learner, 0)]
        if complete:
            self.has_become_complete(learner)
        return []

    def has_become_complete(self, node: NodeId) -> None:
        """A recruit or learner has all of history: it may become a full member."""
        self.complete.add(node)
        self.copying.discard(node)

    def we_have(self, durable: Seq) -> None:
        """Our own journal is synced up to there."""
        self.match[self.place.node] = durable

    def is_stuck(self, node: NodeId, now: float) -> bool:
        """Whether a member has had something to acknowledge for too long, and did not."""
        known = self.progress.get(node)
        return known is not None and known[0] < self.log.end and now - known[1] > MEMBER_STUCK_S

    # -- what they are sent --------------------------------------------------------------------

    def session_of(self, learner: NodeId, nonce: int) -> SendSession:
        """The present session, for a learner; an answer to its Join if that had this `nonce`."""
        start_epoch = self.log.epoch_at(self.log.commit)
        assert start_epoch is not None
        session = self.sessions.numbers.get(learner, 0)
        return SendSession(learner, nonce, session, self.log.commit, start_epoch)

    def commit_point(self, *nodes: NodeId) -> SendCommit:
        """With the epoch of its entry (rule R1b)."""
        commit_epoch = self.log.epoch_at(self.log.commit)
        assert commit_epoch is not None
        return SendCommit(nodes, self.log.commit, commit_epoch)

    def prepare_again(self, node: NodeId, session: int, after: Seq) -> Actions:
        """Everything behind `after`, which is committed or acknowledged."""
        actions: Actions = []
        previous_epoch = self.log.epoch_at(after)
        assert previous_epoch is not None
        commit = self.log.commit
        target = ((node, session),)
        for entry in self.log.above(after):
            actions.append(SendPrepare(target, entry, previous_epoch, commit))
            previous_epoch = entry.epoch
        return actions

    def prepare_tail(self) -> Actions:
        """To everyone, under a new epoch (rule R11)."""
        return [
            action
            for node, session in self.targets
            for action in self.prepare_again(node, session, self._tail_start(node))
        ]

    def _tail_start(self, node: NodeId) -> Seq:
        return Seq(max(self.log.commit, min(self.match.get(node, Seq(0)), self.log.end)))

    def resend(self, now: float) -> Actions:
        """Send again to nodes that have acknowledged nothing new for a while."""
        actions: Actions = []
        for node, session in self.targets:
            got = self.sessions.acked[node] if session else self.match[node]
            if got >= self.log.end and node not in self.copying:
                self.progress.pop(node, None)
                continue
            known = self.progress.get(node)
            if known is None or (known[0] != got and got < self.log.end):
                self.progress[node] = (got, now, now + RESEND_S)
            elif now >= known[2]:
                self.progress[node] = (got, known[1], now + RESEND_S)
                actions.append(self.commit_point(node))
                if not session:
                    again = self.prepare_again(node, 0, self._tail_start(node))
                    actions += again[:RESEND_ENTRIES_MAX]
        return actions
