"""`reports/<node>`: what a node knows of copies that no row says: how many are verified, how far
those are that still copy, and which of its own are of no use. Written by the node when it has
changed; good as long as the process that wrote it is registered."""

from __future__ import annotations

from typing import Final

import msgspec

from octad.sharding.ids import Epoch, NodeId

INDEX_REBUILDING: Final = "rebuilding"  # Damaged, and made anew from the journal meanwhile.
INDEX_WAITING: Final = "waiting"  # Damaged; another could not be made yet, and is tried again.
INDEX_LOST: Final = "lost"  # Damaged, and so is the journal that it would be made from.


class CopyReport(msgspec.Struct, frozen=True):
    """A copy of a shard's history that the node is fetching."""

    source: NodeId | None  # None: it waits for someone who has it.
    bytes_done: int
    bytes_total: int | None  # None: not known yet.


class VerifiedCopies(msgspec.Struct, frozen=True, array_like=True):
    """The verified copies of a shard that the node leads at `epoch`.

    A copy is verified when its node has all of history, has acknowledged everything that was
    committed, has been heard within a lease, and its rows' digest was found equal to the
    primary's. 0: the shard has not been served for some seconds.
    """

    epoch: Epoch
    copies: int
    uncompared: int = 0  # Copies that look good and were not compared yet.
    different: tuple[NodeId, ...] = ()  # Members with other rows.


class NodeReport(msgspec.Struct, frozen=True):
    """See the module. Shards go by their names, as `0/17`."""

    node: NodeId
    boot: str
    led: dict[str, VerifiedCopies]
    copying: dict[str, CopyReport]
    damaged_records: int = 0  # On this node's disk, of which no intact copy has come so far.
    void: tuple[str, ...] = ()  # Shards that an operator recovered without this node's copy.
    failed: tuple[str, ...] = ()  # Shards whose replica here hit a bug since the start.
    read_only: bool = False  # The disk is full: only operations that free space are accepted.
    index: str = ""  # INDEX_REBUILDING, _WAITING, _LOST; empty: nothing is wrong with it.
    returning_bytes: int = 0  # On a full disk: deleted bytes that will be free again,
    returning_s: float = 0.0  # within about so long.
    lost_records: int = 0  # Damaged records of which no member has an intact copy.
    repaired_records: int = 0  # Since the start: brought back from another member.
    passed_read_errors: int = 0  # Since the start: what could not be read could be read then.
    anew_waits_for: str = ""  # Its journal is damaged, and this is in the way of filling it anew.
    in_place_of: NodeId = NodeId(0)  # Its data is set aside here until all copies exist; or 0.
