"""`reports/<node>`: what a node knows of copies that no row says: how many are verified, how far
those are that still copy, and which of its own are of no use. Written by the node when it has
changed; good as long as the process that wrote it is registered."""

from __future__ import annotations

import msgspec

from octad.sharding.ids import Epoch, NodeId


class CopyReport(msgspec.Struct, frozen=True):
    """A copy of a shard's history that the node is fetching."""

    source: NodeId | None  # None: it waits for somebody who has it.
    bytes_done: int
    bytes_total: int | None  # None: not known yet.


class VerifiedCopies(msgspec.Struct, frozen=True, array_like=True):
    """Of a shard that the node leads at `epoch`.

    A copy is verified when its node has all of history, has acknowledged everything that was
    committed, and has been heard within a lease. 0: the shard does not serve yet.
    """

    epoch: Epoch
    copies: int


class NodeReport(msgspec.Struct, frozen=True):
    """See the module. Shards go by their names, as `0/17`."""

    node: NodeId
    boot: str
    led: dict[str, VerifiedCopies]
    copying: dict[str, CopyReport]
    damaged_records: int = 0  # On this node's disk, of which no whole copy has come so far.
    void: tuple[str, ...] = ()  # Shards that an operator recovered without what is here.
    failed: tuple[str, ...] = ()  # Shards whose replica here met a bug since the start.
    read_only: bool = False  # The disk is full: only what gives space back is taken.
    lost_records: int = 0  # Of the damaged: every member has answered that its copy is, too.
    repaired_records: int = 0  # Since the start: brought back from another member.
    passed_read_errors: int = 0  # Since the start: what could not be read could be read then.
