"""Rows that may follow a row: one function for each way in which a shard's configuration changes.

Pure: a row and what is to change in, the next row out. When each may be proposed is decided in
`shard_primary.py` and `shard_backup.py`; what must hold of any two rows in succession is in
`check_succession`.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.map.shard_map import FormerMember, Learner, Member, ShardRow, SplitPoint
from octad.sharding.map.splitting import split_row

_replace = msgspec.structs.replace


class Plan(msgspec.Struct, frozen=True):
    """`plans/<pool>/<n>`: what a shard should become. The primary carries it out, step by step."""

    members: tuple[NodeId, ...]
    primary: NodeId
    depth: int  # More than the row's: to be split, once everything else is as planned.


def resumed(row: ShardRow) -> ShardRow:
    """The primary that the row names begins a new epoch (rule R15)."""
    return _next(row)


def without(row: ShardRow, removed: Collection[NodeId], commit: Seq, replicas: int) -> ShardRow:
    """`removed` leave; those with all of history up to `commit` are remembered (R10, R13)."""
    former = {former.node: former for former in row.last_full}
    for member in row.members:
        if member.node in removed and member.base == 0:
            former[member.node] = FormerMember(member.node, member.incarnation, commit)
    members = tuple(member for member in row.members if member.node not in removed)
    return without_former(_next(row, members=members, last_full=tuple(former.values())), replicas)


def without_former(row: ShardRow, replicas: int) -> ShardRow:
    """`row`, where nobody is remembered if it has full members enough (rule R13)."""
    if sum(member.base == 0 for member in row.members) < replicas:
        return row
    return _replace(row, last_full=())


def at_strength(row: ShardRow) -> ShardRow:
    """Nobody is missed any more: full members are there without those who were."""
    return _next(row, last_full=())


def taken_over(row: ShardRow, node: NodeId, commit: Seq) -> ShardRow:
    """`node` becomes primary and the old one leaves; nobody is recruited (rule R11)."""
    former = {former.node: former for former in row.last_full}
    old = row.member(row.primary)
    assert old is not None
    former[old.node] = FormerMember(old.node, old.incarnation, commit)
    members = tuple(member for member in row.members if member.node != row.primary)
    return _next(row, primary=node, members=members, last_full=tuple(former.values()))


def with_recruit(row: ShardRow, recruit: Member) -> ShardRow:
    """`recruit` has to acknowledge everything from its base on. `row` is already the next one."""
    learners = tuple(learner for learner in row.learners if learner.node != recruit.node)
    return _replace(row, members=(*row.members, recruit), learners=learners)


def recruited(row: ShardRow, recruit: Member) -> ShardRow:
    """As `with_recruit`, as a change of its own."""
    return with_recruit(_next(row), recruit)


def with_learner(row: ShardRow, learner: Learner) -> ShardRow:
    """`learner` begins to copy (rule R12)."""
    return _next(row, learners=(*row.learners, learner))


def without_learner(row: ShardRow, node: NodeId) -> ShardRow:
    """`node` is gone, or not wanted any more."""
    return _next(row, learners=tuple(known for known in row.learners if known.node != node))


def promoted(row: ShardRow, node: NodeId, replicas: int) -> ShardRow:
    """The learner or recruit `node` is a full member from now on (rules R12, R13)."""
    members = [
        Member(member.node, member.incarnation) if member.node == node else member
        for member in row.members
    ]
    members += [
        Member(known.node, known.incarnation) for known in row.learners if known.node == node
    ]
    learners = tuple(known for known in row.learners if known.node != node)
    former = tuple(former for former in row.last_full if former.node != node)
    promoted_row = _next(row, members=tuple(members), learners=learners, last_full=former)
    return without_former(promoted_row, replicas)


def handed_over(row: ShardRow, target: NodeId) -> ShardRow:
    """`target` is the primary from now on (rule R17)."""
    return _next(row, primary=target)


def split(row: ShardRow, point: SplitPoint) -> ShardRow:
    """The row of both halves (rule R18)."""
    return _replace(split_row(row)[0], splits=(*row.split_points(), point))


def is_at_full_strength(row: ShardRow, replicas: int) -> bool:
    """Whether nobody is missed and nobody copies: the shard may be split."""
    full = all(member.base == 0 for member in row.members)
    return full and len(row.members) >= replicas and not row.learners and not row.last_full


def check_succession(old: ShardRow, new: ShardRow) -> None:
    """What must hold of every change, whoever proposes it."""
    assert new.epoch == old.epoch + 1
    if new.depth != old.depth:
        assert new == split(old, new.split_points()[-1]), "a split changes nothing else"
        assert is_at_full_strength(old, 1)
    assert new.split_points()[: len(old.split_points())] == old.split_points()
    nodes = [member.node for member in new.members] + [known.node for known in new.learners]
    assert len(set(nodes)) == len(nodes), "a node has one place in a row"
    primary = new.member(new.primary)
    assert primary is not None, "the primary is a member"
    assert new.recoveries == old.recoveries, "what an operator gave up stays given up"
    disks = [(member.node, member.incarnation) for member in new.members]
    disks += [(known.node, known.incarnation) for known in new.learners]
    assert not any(new.has_given_up(*disk) for disk in disks), "its copy is void"
    kept = {member.node for member in new.members} & {member.node for member in old.members}
    assert kept, "no member of the old row is left to know what was committed"
    assert primary.node in kept, "only a member of the old row can be primary"


def _next(row: ShardRow, **changes: object) -> ShardRow:
    return _replace(row, epoch=Epoch(row.epoch + 1), **changes)
