"""A plan leads from old rows to new ones, one replica of a shard at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.assignment.move_plan import (
    InvalidPlan,
    PlannedStep,
    Step,
    plan,
    plan_shard,
)
from octad.sharding.ids import NodeId

ROWS = st.lists(st.integers(1, 8).map(NodeId), min_size=1, max_size=4, unique=True)


def carried_out(old: Sequence[NodeId], steps: Sequence[PlannedStep]) -> tuple[NodeId, list[NodeId]]:
    """Primary and members at the end; checks what must hold after every step."""
    primary, members, learners = old[0], list(old), list[NodeId]()
    for planned in steps:
        if planned.step is Step.ADD_LEARNER:
            assert planned.node not in members
            assert not learners, "one replica at a time"
            learners.append(planned.node)
        elif planned.step is Step.PROMOTE:
            learners.remove(planned.node)
            members.append(planned.node)
        elif planned.step is Step.HAND_OVER:
            assert planned.node in members
            primary = planned.node
        else:
            members.remove(planned.node)
            assert planned.node != primary, "a primary hands over before it leaves"
    assert not learners
    return primary, members


@given(old=ROWS, new=ROWS)
def test_every_plan_ends_in_the_new_row_and_never_falls_below_both_strengths(
    old: list[NodeId], new: list[NodeId]
) -> None:
    steps = plan_shard(0, old, new)
    primary, members = carried_out(old, steps)
    assert (primary, set(members)) == (new[0], set(new))
    assert len(members) == len(new)
    most = len(old)
    for end in range(len(steps)):
        _, meanwhile = carried_out_so_far(old, steps[:end])
        most = max(most, len(meanwhile))
        assert len(meanwhile) >= min(most, len(new)), "strength once reached is kept"
        assert min(len(old), len(new)) <= len(meanwhile) <= max(len(old), len(new)) + 1
    handed_over = sum(planned.step is Step.HAND_OVER for planned in steps)
    assert handed_over == int(old[0] != new[0]), "a primary changes at most once"


def carried_out_so_far(
    old: Sequence[NodeId], steps: Sequence[PlannedStep]
) -> tuple[NodeId, list[NodeId]]:
    """As `carried_out`, but a learner may still be copying."""
    if steps and steps[-1].step is Step.ADD_LEARNER:
        steps = steps[:-1]
    return carried_out(old, steps)


def test_a_move_of_the_primary_is_learner_member_hand_over_old_one_out() -> None:
    steps = plan_shard(5, [NodeId(1), NodeId(2), NodeId(3)], [NodeId(4), NodeId(2), NodeId(3)])
    assert [(each.step, each.node) for each in steps] == [
        (Step.ADD_LEARNER, 4),
        (Step.PROMOTE, 4),
        (Step.HAND_OVER, 4),
        (Step.REMOVE, 1),
    ]


def test_rows_of_different_depth_or_without_nodes_are_refused() -> None:
    with pytest.raises(InvalidPlan, match="split or merge first"):
        plan([(NodeId(1),)], [(NodeId(1),)] * 2)
    with pytest.raises(InvalidPlan, match="without nodes"):
        plan_shard(3, [], [NodeId(1)])
