"""The next step of a shard's primary on its plan: a pure function of configuration and plan.

    add learner -> (copy) -> learner becomes member -> primary hands over -> old member leaves

Each step is one compare-and-swap of the configuration, made by the primary under the rules of
`docs/reference/replication.md` (R9, R10, R12, R17, R18); after a hand-over the new primary goes on.
A plan's progress is in the configuration alone, so every node, at any time, finds the same next
step.

A learner lives only as long as the plan that names it: where no plan does, it is removed. So a plan
is revoked by deleting it, at any time, and leaves a valid configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

from octad.coordinator.schema.placement_records import Replica, ShardPlan
from octad.sharding.assignment.move_plan import Step
from octad.sharding.ids import NodeId, node_name
from octad.sharding.map.shard_map import Member, ShardConfiguration


@dataclass(frozen=True, slots=True)
class ChangeConfiguration:
    """Swap the configuration: `step` is what happens to `node`."""

    step: Step
    node: NodeId
    incarnation: str


@dataclass(frozen=True, slots=True)
class DropLearner:
    """Swap the configuration: `node` is no learner any more."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class SplitShard:
    """Split the shard in place, to this depth (R18)."""

    depth: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for now; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The plan is impossible: report it in the progress record; the coordinator plans anew."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The configuration matches the plan; the coordinator deletes the plan."""


NextStep = ChangeConfiguration | DropLearner | SplitShard | Wait | Refuse | Finished


def next_step(configuration: ShardConfiguration, plan: ShardPlan | None) -> NextStep:
    """The step that brings `configuration` closer to `plan`.

    PROMOTE is due once the learner has caught up.
    """
    add = plan.add if plan is not None else None
    for learner in configuration.learners:
        if add is None or (learner.node, learner.incarnation) != (add.node, add.incarnation):
            return DropLearner(learner.node)
    if plan is None:
        return Finished()
    return (
        _addition(configuration, plan, plan.add)
        or _hand_over(configuration, plan)
        or _removal(configuration, plan, plan.remove)
        or _split(configuration, plan)
        or Finished()
    )


def full_members(configuration: ShardConfiguration) -> list[Member]:
    """The replicas that have all of history."""
    return [member for member in configuration.members if member.base == 0]


def _addition(
    configuration: ShardConfiguration, plan: ShardPlan, add: Replica | None
) -> NextStep | None:
    if add is None:
        return None
    if configuration.has_given_up(add.node, add.incarnation):
        return Refuse(
            f"the copy on {node_name(add.node)} was given up by a recovery: see octad doctor"
        )
    member = configuration.member(add.node)
    if member is not None and member.incarnation != add.incarnation:
        return Refuse(f"{node_name(add.node)} is a member with another disk")
    if member is not None:
        return Wait(f"{node_name(add.node)} still copies history") if member.base else None
    if any(learner.node == add.node for learner in configuration.learners):
        return ChangeConfiguration(Step.PROMOTE, add.node, add.incarnation)
    if len(configuration.members) > plan.replicas:
        return Refuse("the shard has more members than copies already")
    return ChangeConfiguration(Step.ADD_LEARNER, add.node, add.incarnation)


def _hand_over(configuration: ShardConfiguration, plan: ShardPlan) -> NextStep | None:
    if plan.primary in (None, configuration.primary):
        return None
    assert plan.primary is not None
    member = configuration.member(plan.primary)
    if member is None:
        return Refuse(f"{node_name(plan.primary)} is to lead and is no member")
    if member.base:
        return Wait(f"{node_name(plan.primary)} still copies history")
    return ChangeConfiguration(Step.HAND_OVER, plan.primary, member.incarnation)


def _removal(
    configuration: ShardConfiguration, plan: ShardPlan, remove: Replica | None
) -> NextStep | None:
    member = configuration.member(remove.node) if remove is not None else None
    if remove is None or member is None or member.incarnation != remove.incarnation:
        return None
    left = [other for other in full_members(configuration) if other.node != remove.node]
    if len(left) < plan.replicas <= len(configuration.members) - 1:
        return Wait("a recruit still copies history")
    if len(left) < plan.replicas:
        return Refuse(f"{len(left)} complete copies would be left of {plan.replicas}")
    if configuration.primary == remove.node:
        return Refuse(f"{node_name(remove.node)} leads and no one is named to follow")
    return ChangeConfiguration(Step.REMOVE, remove.node, remove.incarnation)


def _split(configuration: ShardConfiguration, plan: ShardPlan) -> NextStep | None:
    if plan.depth is None or configuration.depth >= plan.depth:
        return None
    if plan.depth != configuration.depth + 1:
        return Refuse(
            f"a shard of depth {configuration.depth} is not split to {plan.depth} at once"
        )
    if len(full_members(configuration)) < len(configuration.members) or configuration.last_full:
        return Wait("the shard is not at full strength")
    return SplitShard(plan.depth)
