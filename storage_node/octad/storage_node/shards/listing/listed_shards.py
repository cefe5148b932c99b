"""The shards that one list reads at their primary, from its request to its answer (rule R3).

A primary that has just taken over serves a moment before its index has the last of what its
predecessor acknowledged. A read of one key knows by the key whether it has to wait for that; a list
waits until the index shows whatever was committed when it was asked for, and for no later writes.

A node leads thousands of shards, and usually none of them changes: then all are checked together,
and a list costs as much as with one shard. Otherwise each is checked by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from dataclasses import dataclass

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import Epoch, PoolId, Seq, ShardId, number_of, pool_of
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.pair_leases import digest_of_pairs
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_state import ReadTicket

Listed = list[tuple[ShardReplica, ReadTicket]]
Places = tuple[int, Set[int]]


@dataclass(frozen=True, slots=True)
class LedShards:
    """All of a pool that this node leads, each past its barrier: at `tick` of the leases."""

    tick: int
    replicas: tuple[ShardReplica, ...]
    covered: list[tuple[ShardId, Epoch]]
    depths: tuple[int, ...]
    digest: int
    places: Places

    @classmethod
    def of(cls, tick: int, listed: Listed) -> LedShards:
        """For every shard that is led."""
        replicas = tuple([replica for replica, _ in listed])
        covered = [(replica.shard, ticket.epoch) for replica, ticket in listed]
        depths = tuple(map(_depth, replicas))
        return cls(tick, replicas, covered, depths, digest_of_pairs(covered), _places(replicas))


class PoolsLed:
    """What a node leads of each pool, kept until that changes."""

    def __init__(self, host: ShardHost) -> None:
        self._host = host
        self._pools: dict[PoolId, LedShards] = {}

    def of(self, pool: PoolId, moment: float) -> LedShards | None:
        """None if each shard must be checked by itself."""
        host = self._host
        if not host.holds_all(moment):
            return None
        known = self._pools.get(pool)
        if known is not None and known.tick == host.leases.tick:
            return known
        led = [each for each in host.replicas.values() if each.leading]
        led = [each for each in led if pool_of(each.shard) == pool]
        listed = _tickets(led, moment)
        if len(listed) < len(led):  # One is not past its barrier.
            return None
        known = self._pools[pool] = LedShards.of(host.leases.tick, listed)
        return known

    def stands(self, led: LedShards, moment: float) -> bool:
        """Whether this node leads them as it did, each under its lease."""
        return led.tick == self._host.leases.tick and self._host.holds_all(moment)


class ListedShards:
    """The shards of `pool` that this node may list; only those `among` them, if any are named.

    Make it when the request comes, wait `until_shown`, read at once, and answer what is `covered`.
    """

    def __init__(
        self, host: ShardHost, pools: PoolsLed, pool: PoolId, among: Collection[ShardId] = ()
    ) -> None:
        self._applier = host.applier
        self._pools = pools
        moment, replicas = now(), host.replicas
        self._led = None if among else pools.of(pool, moment)
        if self._led is not None:
            here = [r for r in self._applier.behind() if pool_of(r.shard) == pool]
        else:
            here = [replicas[shard] for shard in among or replicas if shard in replicas]
            here = [replica for replica in here if pool_of(replica.shard) == pool]
        # Those of the shards led together that must be waited for.
        self._listed = _tickets(here, moment)

    async def until_shown(self) -> None:
        """Leaves out those that this node no longer leads."""
        while not all(replica.shows(ticket) for replica, ticket in self._listed):
            await self._applier.applied()
            self._look_again()

    def places(self) -> Places:
        """A depth, and the numbers at that depth that are here.

        While a pool is being split, a shard that is not split yet counts as all its future parts.
        """
        return _places(self._replicas()) if self._led is None else self._led.places

    def covered(self) -> tuple[list[tuple[ShardId, Epoch]], tuple[int, ...], int]:
        """The shards led all the while under the lease: (epochs, depths, digest).

        The digest is 0 unless they are all that this node leads.
        """
        self._look_again()
        if self._led is not None:
            return self._led.covered, self._led.depths, self._led.digest
        epochs = [(replica.shard, ticket.epoch) for replica, ticket in self._listed]
        return epochs, tuple(map(_depth, self._replicas())), 0

    def _replicas(self) -> list[ShardReplica]:
        return [replica for replica, _ in self._listed]

    def _look_again(self) -> None:
        moment, led = now(), self._led
        if led is not None:
            if self._pools.stands(led, moment):
                return
            waited_for = dict(self._listed)
            self._led = None
            self._listed = [
                (replica, waited_for.get(replica) or ReadTicket(epoch, Seq(0)))
                for replica, (_, epoch) in zip(led.replicas, led.covered, strict=True)
            ]
        self._listed = [each for each in self._listed if each[0].read_holds(each[1], moment)]


def _tickets(replicas: Collection[ShardReplica], moment: float) -> Listed:
    """The tickets of the replicas that may be listed now."""
    listed: Listed = []
    for replica in replicas:
        if replica.configuration is not None:
            ticket = replica.begin_list(replica.configuration.epoch, moment)
            if ticket is not None:
                listed.append((replica, ticket))
    return listed


def _places(replicas: Collection[ShardReplica]) -> Places:
    depths = [(replica.shard, _depth(replica)) for replica in replicas]
    deepest = max((depth for _, depth in depths), default=0)
    numbers: set[int] = set()
    for shard, depth in depths:
        numbers.update(range(number_of(shard), 1 << deepest, 1 << depth))
    return deepest, numbers


def _depth(replica: ShardReplica) -> int:
    assert replica.configuration is not None, "it is served"
    return replica.configuration.depth
