"""The one change of its configuration that a replica has under way (rules R8 and R9).

From just before a swap is proposed until its outcome is certain, nothing is committed and no read
is granted; a challenger promises and acknowledges nothing. The parts that do these things check
`pending`.
"""

from __future__ import annotations

from octad.storage_node.replication.reconfiguration import check_succession
from octad.storage_node.replication.replica.shard_leases import ShardLeases
from octad.storage_node.replication.replica_actions import Actions, SubmitSwap, Swap


class PendingSwap:
    """Owns the swap whose outcome is not known yet."""

    __slots__ = ("leases", "pending")

    def __init__(self, leases: ShardLeases) -> None:
        self.leases = leases
        self.pending: Swap | None = None

    def submit(self, swap: Swap, now: float) -> Actions:
        """From now until its outcome is known, nothing is committed or granted."""
        assert self.pending is None
        check_succession(swap.expected, swap.proposed)
        self.pending = swap
        self.leases.block(now)
        return [SubmitSwap(swap)]

    def inherit(self, swap: Swap | None) -> None:
        """The split shard's swap made this half, and is this replica's, too (rule R18)."""
        self.pending = swap

    def lose(self) -> None:
        """It changed nothing, and never will."""
        self.pending = None
        self.leases.unblock()

    def end(self) -> None:
        """There is a newer configuration, whether by this swap or by another."""
        self.pending = None
