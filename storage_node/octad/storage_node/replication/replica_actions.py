"""What a shard replica asks its shell to do, and the refusals it raises.

What the shell owes for each action is in `docs/reference/replication.md`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId, shard_name
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.replication.shard_log import Entry, ShardLog

# Each node with its session as a learner; 0 for a member.
Targets: TypeAlias = tuple[tuple[NodeId, int], ...]


class NotPrimary(Exception):
    """Another node orders this shard's writes (or no one that this node knows of)."""

    def __init__(self, shard: ShardId, primary: NodeId | None) -> None:
        super().__init__(f"shard {shard_name(shard)}: the primary is {primary}")
        self.primary = primary


class NotServing(Exception):
    """This node is the primary but cannot take the request now."""


class TooFewCopies(NotServing):
    """Fewer members are left than an acknowledged write must have."""


class AlreadyOrdered(Exception):
    """The request is in the log already (rule R16)."""

    def __init__(self, seq: Seq, entry: Entry | None, refusal: int) -> None:
        super().__init__(f"the request was ordered before, as {seq}")
        self.seq = seq  # The answer to an append is looked up by it.
        self.entry = entry  # The entry to wait for; None: it is applied.
        self.refusal = refusal  # The code with which the entry refuses it; 0: it is executed.


class AlreadyRefused(Exception):
    """The request was answered with a refusal before: it is refused again, never executed."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the request was refused before, with code {code}")
        self.code = code


class OutcomeUnknown(Exception):
    """Whether the request was ordered before is unknown: it is neither executed nor refused."""


class Swap(msgspec.Struct, eq=False):
    """Compare-and-swap the shard's configuration from `expected` to `proposed` (rule R8)."""

    expected: ShardConfiguration
    proposed: ShardConfiguration
    sibling: ShardId | None = None  # R18: write `proposed` there, too, where none may be yet.


class Append(msgspec.Struct, frozen=True, gc=False):
    """Journal `entry` with `commit` in its record; tell `on_durable` when it is synced."""

    entry: Entry
    commit: Seq


class SendPrepare(msgspec.Struct, frozen=True, gc=False):
    """Send `targets` this entry, whose predecessor was appended in `previous_epoch`."""

    targets: Targets
    entry: Entry
    previous_epoch: Epoch
    commit: Seq


class SendAck(msgspec.Struct, frozen=True, gc=False):
    """Tell the primary: the log up to `upto` is this epoch's and durable here."""

    node: NodeId
    upto: Seq
    session: int
    complete: bool  # The history before it is here, too.


class SendNack(msgspec.Struct, frozen=True, gc=False):
    """Ask the primary to send again what is above `verified`."""

    node: NodeId
    verified: Seq


LogEnd: TypeAlias = tuple[Epoch, Seq]
"""The epoch of a log's last entry, and its number. Of two logs, the greater one is further."""


class SendLogEnd(msgspec.Struct, frozen=True, gc=False):
    """Tell `node` where our log ends, and ask for its own if it `asks` (rule R23)."""

    node: NodeId
    end: LogEnd
    asks: bool


class SendCommit(msgspec.Struct, frozen=True, gc=False):
    """Tell `nodes`: everything up to `commit`, appended in `commit_epoch`, is committed.

    It may wait a short while for a Prepare, which says so too.
    """

    nodes: tuple[NodeId, ...]
    commit: Seq
    commit_epoch: Epoch


class SendJoin(msgspec.Struct, frozen=True):
    """Ask the primary to start a session with this learner."""

    node: NodeId
    nonce: int


class SendSession(msgspec.Struct, frozen=True):
    """Tell a learner: your log begins behind `start`; Prepares of `session` follow."""

    node: NodeId
    nonce: int
    session: int
    start: Seq
    start_epoch: Epoch


class StartLog(msgspec.Struct, frozen=True):
    """Journal that the log begins anew behind `start`, before any Append that follows.

    `commit`, `complete_to`: for the record, as they were before; `depth` as the shard is split now.
    """

    start: Seq
    start_epoch: Epoch
    commit: Seq
    complete_to: Seq
    depth: int | None = None


class SplitLog(msgspec.Struct, frozen=True):
    """The log here is split behind its last entry: make the replica of `sibling` by `inherit`.

    Journal a record of it, with `seq`, `epoch` and `depth`, before any later Append of either half.
    """

    sibling: ShardId
    depth: int  # The depth of both halves.
    seq: Seq  # Everything up to here is committed and applied.
    epoch: Epoch  # The epoch of the entry at `seq`.
    log: ShardLog  # The sibling's.
    complete_to: Seq | None
    copied_as_of: Seq | None
    acted_epoch: Epoch  # The highest under which the log was changed (R19).
    swap: Swap | None  # This replica's, if it made the split: the sibling leads by it, too.


class FlushIndex(msgspec.Struct, frozen=True):
    """Make durable whatever the index shows, before any later action."""


class Copy(msgspec.Struct, frozen=True):
    """Copy the shard's rows from one of `sources`, as of `start` or later; then `on_copied`.

    Replaces an earlier Copy of the shard; a retry is the shell's own affair.
    """

    start: Seq
    sources: tuple[NodeId, ...]


class Apply(msgspec.Struct, frozen=True, gc=False):
    """Change the index by these committed entries, in order; then call `on_applied`."""

    entries: tuple[Entry, ...]


class SubmitSwap(msgspec.Struct, frozen=True):
    """Submit `swap`; give its outcome to `on_swap_outcome` once it is known for certain."""

    swap: Swap


class Refetch(msgspec.Struct, frozen=True):
    """A message spoke of a newer epoch: read the configuration again, linearizably."""


class Abandon(msgspec.Struct, frozen=True):
    """This replica can no longer answer these proposals: their outcome is unknown here."""

    entries: tuple[Entry, ...]


Action: TypeAlias = (
    Append
    | SendPrepare
    | SendAck
    | SendLogEnd
    | SendNack
    | SendCommit
    | SendJoin
    | SendSession
    | StartLog
    | SplitLog
    | Copy
    | FlushIndex
    | Apply
    | SubmitSwap
    | Refetch
    | Abandon
)
Actions: TypeAlias = list[Action]


def commit_to(log: ShardLog, seq: Seq) -> Actions:
    """Move the commit point: newly committed entries go to the index."""
    entries = log.commit_to(seq)
    return [Apply(entries)] if entries else []
