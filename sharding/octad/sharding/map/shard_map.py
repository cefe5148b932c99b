"""The shard map: every shard's epoch, primary and replicas. Nothing else says where data is.

A shard's configuration lives under its own key in the configuration store, as JSON, and changes
only by compare-and-swap with `epoch + 1` (rules in `docs/reference/replication.md`). Configurations
are immutable values here; to change one is to make a new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from octad.sharding.hashing import object_hash, shard_number
from octad.sharding.ids import (
    SHARD_NUMBER_BITS,
    BucketId,
    Epoch,
    NodeId,
    PoolId,
    Seq,
    ShardId,
    shard_id,
)

CONFIGURATION_FORMAT_VERSION = 1


class NewerFormat(ValueError):
    """The bytes were written by a newer octad, in a format that this one does not know."""


class Member(msgspec.Struct, frozen=True):
    """A replica that must acknowledge every write.

    `incarnation` names the disk: a wiped node comes back with another one and is no member then.
    `base` is 0 for a full member; otherwise the member is a *recruit*, which has every write from
    `base` on (its predecessor was appended in `base_epoch`) and lacks the history before.
    """

    node: NodeId
    incarnation: str
    base: Seq = Seq(0)
    base_epoch: Epoch = Epoch(0)


class Learner(msgspec.Struct, frozen=True):
    """A replica that still copies history; its acknowledgements do not count yet."""

    node: NodeId
    incarnation: str


class FormerMember(msgspec.Struct, frozen=True):
    """A removed member of the last full set, complete up to `upto`; kept until strength is back."""

    node: NodeId
    incarnation: str
    upto: Seq


class GivenUp(msgspec.Struct, frozen=True):
    """A disk whose copy of a shard is void, since it may show writes that a recovery gave up."""

    node: NodeId
    incarnation: str


class Recovery(msgspec.Struct, frozen=True):
    """An operator put `node`, complete up to `upto`, in the place of members gone for good.

    What was committed behind `upto` before `epoch` may be lost: a node that has it cannot take
    part.
    """

    epoch: Epoch
    node: NodeId
    incarnation: str
    upto: Seq
    given_up: tuple[GivenUp, ...] = ()


class SplitPoint(msgspec.Struct, frozen=True):
    """Up to `seq`, which was appended in `epoch`, both halves of a split have the same log."""

    seq: Seq
    epoch: Epoch


class ShardConfiguration(msgspec.Struct, frozen=True):
    """One shard's configuration at one epoch."""

    epoch: Epoch
    depth: int
    primary: NodeId
    members: tuple[Member, ...]
    learners: tuple[Learner, ...] = ()
    last_full: tuple[FormerMember, ...] = ()
    version: int = CONFIGURATION_FORMAT_VERSION
    splits: tuple[SplitPoint, ...] | msgspec.UnsetType = msgspec.UNSET
    recoveries: tuple[Recovery, ...] | msgspec.UnsetType = msgspec.UNSET  # Written when there are.

    def split_points(self) -> tuple[SplitPoint, ...]:
        """The shard's splits, by depth: the last one made it."""
        return () if self.splits is msgspec.UNSET else self.splits

    @property
    def recovered(self) -> tuple[Recovery, ...]:
        """Every recovery by force that there was."""
        return () if self.recoveries is msgspec.UNSET else self.recoveries

    def has_given_up(self, node: NodeId, incarnation: str) -> bool:
        """Whether that disk's copy of the shard is void."""
        return any(
            (gone.node, gone.incarnation) == (node, incarnation)
            for recovery in self.recovered
            for gone in recovery.given_up
        )

    def member(self, node: NodeId) -> Member | None:
        """The entry of `node` among the members, if it is one."""
        for member in self.members:
            if member.node == node:
                return member
        return None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ShardConfiguration)


def encode_configuration(configuration: ShardConfiguration) -> bytes:
    """`configuration` as stored in the configuration store."""
    return _encoder.encode(configuration)


def decode_configuration(data: bytes) -> ShardConfiguration:
    """The configuration in `data`; raises NewerFormat or msgspec.ValidationError."""
    configuration = _decoder.decode(data)
    if configuration.version > CONFIGURATION_FORMAT_VERSION:
        raise NewerFormat(
            f"shard configuration of format {configuration.version},"
            f" this octad knows {CONFIGURATION_FORMAT_VERSION}"
        )
    return configuration


class Pool(msgspec.Struct, frozen=True):
    """A replica count with its own shards. A bucket belongs to one pool."""

    id: PoolId
    replicas: int
    depth: int


@dataclass(frozen=True, slots=True)
class ShardMap:
    """All configurations of all pools as one node knows them; what is missing is absent.

    A configuration may be deeper than its pool: the pool is being split, and that shard already
    was.
    """

    pools: Mapping[PoolId, Pool]
    configurations: Mapping[ShardId, ShardConfiguration]

    def shard_of(self, pool: PoolId, bucket: BucketId, key: bytes) -> ShardId:
        """The shard that holds `key`; raises KeyError for a pool that is not known."""
        return self.shard_of_hash(pool, object_hash(bucket, key))

    def shard_of_hash(self, pool: PoolId, hash_: int) -> ShardId:
        """The shard of `pool` that `hash_` falls into."""
        depth = self.pools[pool].depth
        shard = ShardId(pool << SHARD_NUMBER_BITS | hash_ & ((1 << depth) - 1))
        configuration = self.configurations.get(shard)
        if configuration is None or configuration.depth <= depth:
            return shard
        return self._split_shard_of(pool, hash_, depth, configuration)

    def shards_of(self, pool: PoolId) -> Iterator[ShardId]:
        """The ids of all shards of `pool`, whether a configuration is known or not."""
        depth = self.pools[pool].depth
        for number in range(1 << depth):
            yield from self._split_shards_of(pool, number, depth)

    def _split_shard_of(
        self, pool: PoolId, hash_: int, depth: int, configuration: ShardConfiguration
    ) -> ShardId:
        """While a pool is split, each configuration says whether its shard is: `splitting.py`."""
        known: ShardConfiguration | None = configuration
        while known is not None and known.depth > depth:
            depth += 1
            shard = shard_id(pool, shard_number(hash_, depth))
            known = self.configurations.get(shard)
        return shard

    def _split_shards_of(self, pool: PoolId, number: int, depth: int) -> Iterator[ShardId]:
        shard = shard_id(pool, number)
        configuration = self.configurations.get(shard)
        if configuration is None or configuration.depth <= depth:
            yield shard
        else:
            yield from self._split_shards_of(pool, number, depth + 1)
            yield from self._split_shards_of(pool, number + (1 << depth), depth + 1)
