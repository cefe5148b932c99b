"""The shard map: every shard's epoch, primary and replicas. Nothing else says where data is.

A shard's row lives under its own key in the configuration store, as JSON, and changes only by
compare-and-swap with `epoch + 1` (rules in `docs/reference/replication.md`). Rows are immutable
values here; whoever changes one makes a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from octad.sharding.hashing import object_hash, shard_number
from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, Seq, ShardId, shard_id

ROW_FORMAT_VERSION = 1


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
    """A removed member of the last full set, complete up to `upto`: kept until strength is back."""

    node: NodeId
    incarnation: str
    upto: Seq


class ShardRow(msgspec.Struct, frozen=True):
    """One shard's configuration at one epoch."""

    epoch: Epoch
    depth: int
    primary: NodeId
    members: tuple[Member, ...]
    learners: tuple[Learner, ...] = ()
    last_full: tuple[FormerMember, ...] = ()
    version: int = ROW_FORMAT_VERSION

    def member(self, node: NodeId) -> Member | None:
        """The entry of `node` among the members, if it is one."""
        for member in self.members:
            if member.node == node:
                return member
        return None


_row_encoder = msgspec.json.Encoder()
_row_decoder = msgspec.json.Decoder(ShardRow)


def encode_row(row: ShardRow) -> bytes:
    """`row` as it is kept in the configuration store."""
    return _row_encoder.encode(row)


def decode_row(data: bytes) -> ShardRow:
    """The row in `data`; raises NewerFormat, or msgspec.ValidationError when it makes no sense."""
    row = _row_decoder.decode(data)
    if row.version > ROW_FORMAT_VERSION:
        raise NewerFormat(
            f"shard row of format {row.version}, this octad knows {ROW_FORMAT_VERSION}"
        )
    return row


class Pool(msgspec.Struct, frozen=True):
    """A replica count with its own shards. A bucket belongs to one pool."""

    id: PoolId
    replicas: int
    depth: int


@dataclass(frozen=True, slots=True)
class ShardMap:
    """All rows of all pools as one node knows them. Missing rows are simply absent."""

    pools: Mapping[PoolId, Pool]
    rows: Mapping[ShardId, ShardRow]

    def shard_of(self, pool: PoolId, bucket: BucketId, key: bytes) -> ShardId:
        """The shard that holds `key`; raises KeyError for a pool that is not known."""
        return self.shard_of_hash(pool, object_hash(bucket, key))

    def shard_of_hash(self, pool: PoolId, hash_: int) -> ShardId:
        """The shard of `pool` that `hash_` falls into."""
        return shard_id(pool, shard_number(hash_, self.pools[pool].depth))

    def shards_of(self, pool: PoolId) -> Iterable[ShardId]:
        """The ids of all shards of `pool`, whether a row is known or not."""
        return (shard_id(pool, number) for number in range(1 << self.pools[pool].depth))
