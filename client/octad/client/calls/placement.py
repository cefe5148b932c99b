"""Which node answers for a key: decided from the shard map, where a client has one.

All of it is a hint. A map that is old, or a bucket's id that is wrong, sends a request to a node
that passes it on; it costs that one way more, and changes no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from octad.client.http.transport import Address
    from octad.sharding.ids import BucketId, NodeId, PoolId
    from octad.sharding.map.pool_lookup import PoolLookup

PLACEMENT_HEADER: Final = "x-octad-placement"
VERSION_HEADER: Final = "x-octad-version"
BUCKETS_MAX: Final = 10_000


def parse_placement(text: str) -> tuple[PoolId, BucketId] | None:
    """`<pool>/<bucket id>`, or None where it makes no sense."""
    from octad.sharding.ids import BucketId, PoolId

    pool, slash, bucket = text.partition("/")
    if not slash or not all(part.isascii() and part.isdecimal() for part in (pool, bucket)):
        return None
    if len(pool) > 10 or len(bucket) > 10 or int(bucket) > 0xFFFF_FFFF:
        return None
    return PoolId(int(pool)), BucketId(int(bucket))


class Placement:
    """What a client knows of where data is."""

    def __init__(self) -> None:
        self.addresses: dict[NodeId, Address] = {}
        self._lookups: dict[PoolId, PoolLookup] = {}
        self._buckets: dict[str, tuple[PoolId, BucketId] | None] = {}

    def set_map(self, lookups: Mapping[PoolId, PoolLookup]) -> None:
        """Of every pool."""
        self._lookups = dict(lookups)

    def knows(self, bucket: str) -> bool:
        """Whether it was asked where `bucket` is, whatever the answer."""
        return bucket in self._buckets

    def set_bucket(self, bucket: str, placement: tuple[PoolId, BucketId] | None) -> None:
        """What HeadBucket said; None where it said nothing."""
        if len(self._buckets) >= BUCKETS_MAX:
            self._buckets.clear()
        self._buckets[bucket] = placement

    def on_answer(self, bucket: str, headers: Mapping[str, str]) -> None:
        """A bucket that was made again has another id, which begins the version of each object."""
        placement = self._buckets.get(bucket)
        version = headers.get(VERSION_HEADER)
        if placement and version and not version.startswith(f"{placement[1]:x}-"):
            self.forget(bucket)

    def forget(self, bucket: str) -> None:
        """Ask again where it is."""
        self._buckets.pop(bucket, None)

    def address(self, bucket: str, key: str) -> Address | None:
        """Where the primary of the key's shard listens; None where that is not known."""
        placement = self._buckets.get(bucket)
        if placement is None:
            return None
        lookup = self._lookups.get(placement[0])
        if lookup is None:
            return None
        from octad.sharding.hashing import object_hash

        configuration = lookup.configuration(object_hash(placement[1], key.encode()))
        return None if configuration is None else self.addresses.get(configuration.primary)
