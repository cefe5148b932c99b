"""What a shard replica asks its shell to do, and the refusals it raises.

What the shell owes for each action is in `docs/reference/replication.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId, shard_name
from octad.sharding.shard_map import ShardRow
from octad.storage_node.core.failover.shard_log import Entry, ShardLog


class NotPrimary(Exception):
    """Another node orders this shard's writes (or nobody that this node knows of)."""

    def __init__(self, shard: ShardId, primary: NodeId | None) -> None:
        super().__init__(f"shard {shard_name(shard)}: the primary is {primary}")
        self.primary = primary


class NotServing(Exception):
    """This node is the primary but cannot take the request now."""


class TooFewCopies(NotServing):
    """Fewer members are left than an acknowledged write must have."""


class AlreadyOrdered(Exception):
    """The request stands in the log: it was made before (rule R16)."""

    def __init__(self, seq: Seq, entry: Entry | None) -> None:
        super().__init__(f"the request was ordered before, as {seq}")
        self.seq = seq  # An append's answer is found by it.
        self.entry = entry  # None: it is applied, and the answer is "done".


class AlreadyRefused(Exception):
    """The request was answered with a refusal before: it is refused again, never executed."""


class OutcomeUnknown(Exception):
    """Whether the request was ordered before, nobody can say any more: neither do nor refuse it."""


@dataclass(slots=True, eq=False)
class Swap:
    """Compare-and-swap the shard's row from `expected` to `proposed` (rule R8)."""

    expected: ShardRow
    proposed: ShardRow
    sibling: ShardId | None = None  # R18: write `proposed` there, too, where no row may be yet.


@dataclass(slots=True)
class Append:
    """Journal `entry` with `commit` in its record; tell `on_durable` when it is synced."""

    entry: Entry
    commit: Seq


@dataclass(slots=True)
class SendPrepare:
    """To `node`: have this entry, whose predecessor was appended in `previous_epoch`."""

    node: NodeId
    entry: Entry
    previous_epoch: Epoch
    commit: Seq
    session: int  # Of a learner; 0 for a member.


@dataclass(slots=True)
class SendAck:
    """To the primary: everything up to `upto` is this epoch's and durable here."""

    node: NodeId
    upto: Seq
    session: int
    whole: bool  # The history before it is here, too.


@dataclass(frozen=True, slots=True)
class SendNack:
    """To the primary: send again what is above `verified`."""

    node: NodeId
    verified: Seq


@dataclass(frozen=True, slots=True)
class SendCommit:
    """To `node`: everything up to `commit`, which was appended in `commit_epoch`, is committed."""

    node: NodeId
    commit: Seq
    commit_epoch: Epoch


@dataclass(frozen=True, slots=True)
class SendJoin:
    """To the primary: start a session with this learner."""

    node: NodeId
    nonce: int


@dataclass(frozen=True, slots=True)
class SendSession:
    """To a learner: your log begins behind `start`; Prepares of `session` follow."""

    node: NodeId
    nonce: int
    session: int
    start: Seq
    start_epoch: Epoch


@dataclass(frozen=True, slots=True)
class StartLog:
    """Journal that the log begins anew behind `start`, before any Append that follows.

    `commit`, `whole`: for the record, as they were before; `depth` as the shard is split now.
    """

    start: Seq
    start_epoch: Epoch
    commit: Seq
    whole: Seq
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class SplitLog:
    """The log here is split behind its last entry: make the replica of `sibling` by `inherit`.

    Journal a record of it, with `seq`, `epoch` and `depth`, before any later Append of either half.
    """

    sibling: ShardId
    depth: int  # Of both halves.
    seq: Seq  # Everything up to here is committed and applied.
    epoch: Epoch  # Of the entry at `seq`.
    log: ShardLog  # The sibling's.
    whole: Seq | None
    copied_as_of: Seq | None
    acted_epoch: Epoch  # The highest under which the log was changed (R19).
    swap: Swap | None  # Ours, when that made the split: the sibling leads by it, too.


@dataclass(frozen=True, slots=True)
class FlushIndex:
    """Make durable whatever the index shows, before any later action."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy the shard's rows from one of `sources`, as of `start` or later; then `on_copied`.

    Replaces an earlier Copy of the shard; a retry is the shell's own affair.
    """

    start: Seq
    sources: tuple[NodeId, ...]


@dataclass(slots=True)
class Apply:
    """Change the index by these committed entries, in order; then call `on_applied`."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Propose:
    """Submit `swap`; give its outcome to `on_swap_outcome` once it is known for certain."""

    swap: Swap


@dataclass(frozen=True, slots=True)
class Refetch:
    """A message spoke of a newer epoch: read the row again, linearizably."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """These proposals are no longer ours to answer: their outcome is unknown here."""

    entries: tuple[Entry, ...]


Action: TypeAlias = (
    Append
    | SendPrepare
    | SendAck
    | SendNack
    | SendCommit
    | SendJoin
    | SendSession
    | StartLog
    | SplitLog
    | Copy
    | FlushIndex
    | Apply
    | Propose
    | Refetch
    | Abandon
)
Actions: TypeAlias = list[Action]
