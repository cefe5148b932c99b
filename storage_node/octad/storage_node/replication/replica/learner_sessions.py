"""Sessions between a primary and a learner, from both sides (rule R12).

    learner ── Join{nonce} ──> primary          it asks, and again while there is no answer
    learner <── SessionStart{nonce, session} ── its log begins anew where the primary says
    learner ── Ack{session} ──> primary         counts in the present session alone

The primary never gives the same number twice in an epoch. What an earlier session acknowledged may
be gone with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.limits import RESEND_S
from octad.storage_node.replication.pair_leases import number_digest
from octad.storage_node.replication.replica_actions import Actions, SendJoin


class LearnerSessions:
    """Owns, at the primary, the present session of each learner and what it has acknowledged."""

    __slots__ = ("acked", "numbers", "started", "waiting")

    def __init__(self) -> None:
        self.numbers: dict[NodeId, int] = {}
        self.acked: dict[NodeId, Seq] = {}
        self.started = 0
        self.waiting: dict[NodeId, tuple[Epoch, int]] = {}  # Who asked too early: epoch and nonce.

    def begin(self, learner: NodeId) -> int:
        """A new session: what the last one had counts for nothing."""
        self.started += 1
        self.numbers[learner] = self.started
        self.acked[learner] = Seq(0)
        return self.started

    def acknowledged(self, learner: NodeId, upto: Seq, session: int) -> bool:
        """`learner` has that much durable; False: in another session, whose log may be gone."""
        if self.numbers.get(learner) != session:
            return False
        self.acked[learner] = max(self.acked[learner], upto)
        return True

    def wait(self, learner: NodeId, epoch: Epoch, nonce: int) -> None:
        """Keep a Join that cannot be answered yet."""
        self.waiting[learner] = epoch, nonce

    def take_waiting(self) -> dict[NodeId, tuple[Epoch, int]]:
        """Those who asked too early, once."""
        waiting, self.waiting = self.waiting, {}
        return waiting

    def begin_epoch(self, learners: Iterable[NodeId]) -> None:
        """Sessions of `learners` go on; what they acknowledged in the last epoch counts no more."""
        known = set(learners)
        self.numbers = {node: number for node, number in self.numbers.items() if node in known}
        self.acked = dict.fromkeys(self.numbers, Seq(0))

    def end(self) -> None:
        """This node no longer leads."""
        self.numbers.clear()
        self.waiting.clear()


class OwnSession:
    """Owns, at a learner, the session that it is in or has asked for."""

    __slots__ = ("_boot", "asked_at", "asked_times", "nonce", "number", "rejoin")

    def __init__(self, boot: int) -> None:
        self._boot = boot
        self.number = 0  # 0: none, as of a member.
        self.nonce = 0  # The nonce of the session asked for; 0: none.
        self.asked_times = 0
        self.asked_at = 0.0
        self.rejoin = False  # Something of the session is lost: ask for another one.

    def ask(self, primary: NodeId, now: float) -> Actions:
        """Ask for a session, unless there is one or the answer may still be on its way."""
        waiting = self.nonce or self.number
        if waiting and not self.rejoin and (self.number or now - self.asked_at < RESEND_S):
            return []
        if self.rejoin and now - self.asked_at < RESEND_S:
            return []
        self.asked_times += 1
        self.nonce = number_digest(self._boot, self.asked_times)
        self.number, self.rejoin, self.asked_at = 0, False, now
        return [SendJoin(primary, self.nonce)]

    def begin(self, nonce: int, session: int) -> bool:
        """Whether this answers what was asked; then the session begins."""
        if not nonce or nonce != self.nonce:
            if not self.nonce and session != self.number:
                self.rejoin = True  # The primary counts on a session that is not ours.
            return False
        self.nonce, self.number, self.rejoin = 0, session, False
        return True

    def lost(self) -> None:
        """The learner lacks something that the primary may not have any more: ask again."""
        self.rejoin = True

    def over(self) -> None:
        """There is no session, and none asked for."""
        self.number = self.nonce = 0

    def enter(self, *, learning: bool, same_primary: bool, skipped: bool) -> None:
        """A session is with one primary, and ends when a configuration is skipped."""
        if not same_primary:
            self.over()
        elif skipped:
            self.rejoin = True  # It may have been no learner in between, and lost its session.
        if not learning:
            self.over()
            self.rejoin = False
