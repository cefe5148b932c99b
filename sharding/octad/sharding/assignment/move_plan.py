"""From the rows as they are to the rows as they should be, in steps that are each safe.

    add a learner -> it becomes a member -> (the primary hands over) -> the old member leaves

A shard changes one replica at a time: the next replacement starts when the one before has ended,
and at no time are there fewer members than before. The steps of different shards are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from octad.sharding.ids import NodeId


class Step(Enum):
    """A step for one replica of one shard."""

    ADD_LEARNER = "add learner"
    PROMOTE = "learner becomes member"
    HAND_OVER = "primary hands over"
    REMOVE = "member leaves"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step: `node` is who is added, promoted, made primary or removed."""

    shard: int
    step: Step
    node: NodeId


class InvalidPlan(ValueError):
    """The rows cannot be led from one to the other."""


def plan_shard(shard: int, old: Sequence[NodeId], new: Sequence[NodeId]) -> list[PlannedStep]:
    """The steps that lead `shard` from row `old` to row `new`; both have the primary first."""
    if not old or not new:
        raise InvalidPlan(f"shard {shard}: a row without nodes")
    joining = [node for node in new if node not in old]  # The new primary first, if it joins.
    leaving = [node for node in old[1:] if node not in new]
    leaving += [node for node in old[:1] if node not in new]  # The old primary last.
    steps: list[PlannedStep] = []
    primary, members = old[0], len(old)
    while joining or leaving or primary != new[0]:
        if joining:
            steps.append(PlannedStep(shard, Step.ADD_LEARNER, joining[0]))
            steps.append(PlannedStep(shard, Step.PROMOTE, joining.pop(0)))
            members += 1
        if primary != new[0] and new[0] not in joining:
            steps.append(PlannedStep(shard, Step.HAND_OVER, new[0]))
            primary = new[0]
        if leaving and members > len(new):
            steps.append(PlannedStep(shard, Step.REMOVE, leaving.pop(0)))
            members -= 1
    return steps


def plan(
    old: Sequence[Sequence[NodeId]], new: Sequence[Sequence[NodeId]]
) -> dict[int, list[PlannedStep]]:
    """The steps of every shard whose row changes, by shard number."""
    if len(old) != len(new):
        raise InvalidPlan(f"{len(old)} old rows, {len(new)} new: split or merge first")
    plans = (
        (shard, plan_shard(shard, a, b)) for shard, (a, b) in enumerate(zip(old, new, strict=True))
    )
    return {shard: steps for shard, steps in plans if steps}
