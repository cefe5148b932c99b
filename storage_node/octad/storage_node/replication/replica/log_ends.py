"""Before a node that has restarted leads, it asks the other full members where their logs end.

Damage to the last batch before a crash looks like the torn tail of that crash: what this node had
acknowledged may be missing in its log, and be committed. Each of the others has it (rule R23 of
`docs/reference/replication.md`).
"""

from __future__ import annotations

from collections.abc import Collection

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.limits import GRACE_S
from octad.storage_node.replication.replica.shard_leases import ShardLeases
from octad.storage_node.replication.replica_actions import Actions, LogEnd, SendLogEnd
from octad.storage_node.replication.replica_state import Place
from octad.storage_node.replication.shard_log import ShardLog

# Of a node whose disk is another one than the member's: that one's log is gone for good.
_NO_LOG: LogEnd = (Epoch(0), Seq(-1))


class LogEnds:
    """Owns what the others have said in the present configuration, and whether it matters."""

    __slots__ = ("_asked_at", "_ends", "_first_epoch", "leases", "log", "place", "restarted")

    def __init__(self, place: Place, log: ShardLog, leases: ShardLeases) -> None:
        self.place = place
        self.log = log
        self.leases = leases
        self.restarted = False  # And nothing of an epoch that began later was taken since.
        self._first_epoch = Epoch(0)  # The first known after the restart; 0: none yet.
        self._ends: dict[NodeId, LogEnd] = {}
        self._asked_at: float | None = None

    def recovered(self) -> None:
        """The log is what a restart has found."""
        self.restarted = True

    def enter(self) -> None:
        """There is another configuration."""
        self.forget()
        if self.restarted and not self._first_epoch:
            self._first_epoch = self.place.epoch

    def forget(self) -> None:
        """What was heard may be old by the time at which it matters."""
        self._ends.clear()
        self._asked_at = None

    def own(self) -> LogEnd:
        """The epoch and number of our last entry."""
        epoch = self.log.epoch_at(self.log.end)
        assert epoch is not None
        return epoch, self.log.end

    def allow(self, others: Collection[NodeId], now: float) -> bool:
        """Whether this node may lead, as far as the logs of `others` go.

        What is committed is in the log of every other, so in that of any who answers. An entry of
        an epoch that began after the restart proves our own log up to it.
        """
        if not self.restarted:
            return True
        own = self.own()
        if own[0] > self._first_epoch:
            self.restarted = False
            return True
        if self._asked_at is None:
            self._asked_at = now
        asked_at = self._asked_at
        ends = {node: self._ends[node] for node in others if node in self._ends}
        if logs := [end for end in ends.values() if end != _NO_LOG]:
            return max(logs) <= own
        return all(node in ends or self._may_do_without(node, asked_at, now) for node in others)

    def _may_do_without(self, node: NodeId, asked_at: float, now: float) -> bool:
        """A primary waits for whom it could not remove; who replaces one has waited before."""
        if self.place.is_primary():
            return self.leases.grace_over(node, now)
        return node in self.leases.pairs.dead or now >= asked_at + GRACE_S

    def ask(self, others: Collection[NodeId]) -> Actions:
        """Those that have not answered yet, and those with more: their disks may be lost by now."""
        own, ends = self.own(), self._ends
        asked = [node for node in others if node not in ends or ends[node] > own]
        return [SendLogEnd(node, own, True) for node in asked]

    def hear(self, sender: NodeId, epoch: Epoch, end: LogEnd, *, asks: bool) -> Actions:
        """Where the log of another member ends."""
        place = self.place
        if epoch != place.epoch or place.configuration is None:
            return []
        if asks:
            end = _NO_LOG if place.member is None else self.own()
            return [SendLogEnd(sender, end, False)]
        self._ends[sender] = end
        return []
