"""One function for each way in which a shard's configuration changes.

Pure: a configuration and what is to change in, the next one out. When each may be proposed is
decided in `shard_reconfigurer.py` and `shard_backup.py`; what must hold of any two in succession is
in `check_succession`.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from octad.sharding.ids import Epoch, NodeId, Seq
from octad.sharding.map.shard_map import (
    FormerMember,
    Learner,
    Member,
    ShardConfiguration,
    SplitPoint,
)
from octad.sharding.map.splitting import split_configuration

_replace = msgspec.structs.replace


class Plan(msgspec.Struct, frozen=True):
    """`plans/<pool>/<n>`: what a shard should become. The primary carries it out, step by step."""

    members: tuple[NodeId, ...]
    primary: NodeId
    depth: int  # More than it is: to be split, once everything else is as planned.


def resumed(configuration: ShardConfiguration) -> ShardConfiguration:
    """The primary that the configuration names begins a new epoch (rule R15)."""
    return _next(configuration)


def without(
    configuration: ShardConfiguration, removed: Collection[NodeId], commit: Seq, replicas: int
) -> ShardConfiguration:
    """`removed` leave; those with all of history up to `commit` are remembered (R10, R13)."""
    former = {former.node: former for former in configuration.last_full}
    for member in configuration.members:
        if member.node in removed and member.base == 0:
            former[member.node] = FormerMember(member.node, member.incarnation, commit)
    members = tuple(member for member in configuration.members if member.node not in removed)
    return without_former(
        _next(configuration, members=members, last_full=tuple(former.values())), replicas
    )


def without_former(configuration: ShardConfiguration, replicas: int) -> ShardConfiguration:
    """`configuration`, without former members if it has enough full ones (rule R13)."""
    if sum(member.base == 0 for member in configuration.members) < replicas:
        return configuration
    return _replace(configuration, last_full=())


def at_strength(configuration: ShardConfiguration) -> ShardConfiguration:
    """Former members are forgotten: there are enough full members without them."""
    return _next(configuration, last_full=())


def taken_over(configuration: ShardConfiguration, node: NodeId, commit: Seq) -> ShardConfiguration:
    """`node` becomes primary and the old one leaves; no one is recruited (rule R11)."""
    former = {former.node: former for former in configuration.last_full}
    old = configuration.member(configuration.primary)
    assert old is not None
    former[old.node] = FormerMember(old.node, old.incarnation, commit)
    members = tuple(
        member for member in configuration.members if member.node != configuration.primary
    )
    return _next(configuration, primary=node, members=members, last_full=tuple(former.values()))


def with_recruit(configuration: ShardConfiguration, recruit: Member) -> ShardConfiguration:
    """`recruit` must acknowledge all from its base on. `configuration` is already the next."""
    learners = tuple(learner for learner in configuration.learners if learner.node != recruit.node)
    return _replace(configuration, members=(*configuration.members, recruit), learners=learners)


def recruited(configuration: ShardConfiguration, recruit: Member) -> ShardConfiguration:
    """As `with_recruit`, as a change of its own."""
    return with_recruit(_next(configuration), recruit)


def with_learner(configuration: ShardConfiguration, learner: Learner) -> ShardConfiguration:
    """`learner` begins to copy (rule R12)."""
    return _next(configuration, learners=(*configuration.learners, learner))


def without_learner(configuration: ShardConfiguration, node: NodeId) -> ShardConfiguration:
    """The learner `node` is gone, or no longer wanted."""
    return _next(
        configuration,
        learners=tuple(known for known in configuration.learners if known.node != node),
    )


def promoted(configuration: ShardConfiguration, node: NodeId, replicas: int) -> ShardConfiguration:
    """The learner or recruit `node` is a full member from now on (rules R12, R13)."""
    members = [
        Member(member.node, member.incarnation) if member.node == node else member
        for member in configuration.members
    ]
    members += [
        Member(known.node, known.incarnation)
        for known in configuration.learners
        if known.node == node
    ]
    learners = tuple(known for known in configuration.learners if known.node != node)
    former = tuple(former for former in configuration.last_full if former.node != node)
    after = _next(configuration, members=tuple(members), learners=learners, last_full=former)
    return without_former(after, replicas)


def handed_over(configuration: ShardConfiguration, target: NodeId) -> ShardConfiguration:
    """`target` is the primary from now on (rule R17)."""
    return _next(configuration, primary=target)


def split(configuration: ShardConfiguration, point: SplitPoint) -> ShardConfiguration:
    """The configuration of both halves (rule R18)."""
    return _replace(
        split_configuration(configuration)[0], splits=(*configuration.split_points(), point)
    )


def is_at_full_strength(configuration: ShardConfiguration, replicas: int) -> bool:
    """Whether no member is missing and none still copies, so that the shard may be split."""
    full = all(member.base == 0 for member in configuration.members)
    return (
        full
        and len(configuration.members) >= replicas
        and not configuration.learners
        and not configuration.last_full
    )


def check_succession(old: ShardConfiguration, new: ShardConfiguration) -> None:
    """What must hold of every change, no matter who proposes it."""
    assert new.epoch == old.epoch + 1
    if new.depth != old.depth:
        assert new == split(old, new.split_points()[-1]), "a split changes nothing else"
        assert is_at_full_strength(old, 1)
    assert new.split_points()[: len(old.split_points())] == old.split_points()
    nodes = [member.node for member in new.members] + [known.node for known in new.learners]
    assert len(set(nodes)) == len(nodes), "a node has one place in a configuration"
    primary = new.member(new.primary)
    assert primary is not None, "the primary is a member"
    assert new.recoveries == old.recoveries, "what an operator gave up stays given up"
    disks = [(member.node, member.incarnation) for member in new.members]
    disks += [(known.node, known.incarnation) for known in new.learners]
    assert not any(new.has_given_up(*disk) for disk in disks), "its copy is void"
    kept = {member.node for member in new.members} & {member.node for member in old.members}
    assert kept, "no member of the old configuration is left to know what was committed"
    assert primary.node in kept, "only a member of the old configuration can be primary"


def _next(configuration: ShardConfiguration, **changes: object) -> ShardConfiguration:
    return _replace(configuration, epoch=Epoch(configuration.epoch + 1), **changes)
