"""A replica's place in the shard's configuration, and values that its parts share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.map.shard_map import Learner, Member, ShardConfiguration

# The arguments: the shard, its configuration, and nodes not to choose.
ChooseSpare: TypeAlias = Callable[[ShardId, ShardConfiguration, Collection[NodeId]], Learner | None]


@dataclass(frozen=True, slots=True)
class Strength:
    """How many copies a shard should have, and with how few a write may be acknowledged."""

    replicas: int
    min_copies: int

    def __post_init__(self) -> None:
        assert 1 <= self.min_copies <= self.replicas


class ReadTicket(msgspec.Struct, frozen=True, gc=False):
    """What held before a read, and must still hold after it (rule R3)."""

    epoch: Epoch
    wait_for: Seq  # A refusal is good once it is committed, a list once it is applied; a read: 0.


class Place:
    """Owns the configuration as it is known here, and which place this disk has in it (rule R14).

    It is found once, when the configuration is entered, because every message needs it. A replica
    that must not act has no place.
    """

    __slots__ = (
        "configuration",
        "epoch",
        "failed",
        "incarnation",
        "learning",
        "member",
        "node",
        "shard",
    )

    def __init__(self, shard: ShardId, node: NodeId, incarnation: str) -> None:
        self.shard = shard
        self.node = node
        self.incarnation = incarnation
        self.configuration: ShardConfiguration | None = None
        self.epoch = Epoch(0)  # The configuration's; 0: none is known.
        self.member: Member | None = None  # Our place in it, if it means this disk,
        self.learning = False  # or whether it has this disk as a learner.
        self.failed = False  # It hit a bug: no part in anything until the node starts again.

    def enter(self, configuration: ShardConfiguration, *, void: bool) -> None:
        """From now on it is the shard's; a void replica has no place in it (rule R19)."""
        self.configuration = configuration
        self.epoch = configuration.epoch
        self.member = None if void else self.own_member()
        self.learning = not void and self._is_learner()

    def fail(self) -> None:
        """No place in anything any more."""
        self.failed = True
        self.member, self.learning = None, False

    def own_member(self) -> Member | None:
        """Our place among the members, if the configuration means this disk."""
        assert self.configuration is not None
        member = self.configuration.member(self.node)
        return None if member is None or member.incarnation != self.incarnation else member

    def _is_learner(self) -> bool:
        """Whether the configuration names this disk as a learner."""
        assert self.configuration is not None
        return any(
            learner.node == self.node and learner.incarnation == self.incarnation
            for learner in self.configuration.learners
        )

    def is_primary(self) -> bool:
        """Whether the configuration names this node as primary: it may not lead yet (rule R15)."""
        return self.configuration is not None and self.configuration.primary == self.node

    def other_full_members(self) -> list[NodeId]:
        """Those of them that have all of history."""
        assert self.configuration is not None
        members = self.configuration.members
        return [each.node for each in members if each.base == 0 and each.node != self.node]

    def other_members(self) -> list[NodeId]:
        """All members but this node."""
        assert self.configuration is not None
        return [member.node for member in self.configuration.members if member.node != self.node]
