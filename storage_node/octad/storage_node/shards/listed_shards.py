"""The shards that one list reads at their primary, from its request to its answer (rule R3).

A primary that has just taken over serves a moment before its index has the last of what its
predecessor acknowledged. A read of one key knows by the key whether it has to wait for that; a list
waits until the index shows whatever was committed when it was asked for, and for no later writes.
"""

from __future__ import annotations

from collections.abc import Collection

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import Epoch, PoolId, ShardId, number_of, pool_of
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_state import ReadTicket


class ListedShards:
    """Those of `pool` that this node may list; of `among` alone, where any are named.

    Make it when the request comes, wait `until_shown`, read at once, and answer what is `covered`.
    """

    def __init__(self, host: ShardHost, pool: PoolId, among: Collection[ShardId] = ()) -> None:
        self._applier = host.applier
        self._listed: list[tuple[ShardReplica, ReadTicket]] = []
        replicas, moment = host.replicas, now()
        for shard in among or replicas:
            replica = replicas.get(shard)
            if replica is None or replica.configuration is None or pool_of(shard) != pool:
                continue
            ticket = replica.begin_list(replica.configuration.epoch, moment)
            if ticket is not None:
                self._listed.append((replica, ticket))

    async def until_shown(self) -> None:
        """Leaves out those that this node no longer leads."""
        while not all(replica.shows(ticket) for replica, ticket in self._listed):
            await self._applier.applied()
            self._listed = self._held()

    def places(self, depth_min: int) -> tuple[int, set[int]]:
        """A depth, and the numbers at that depth that are here: while the pool is being split, a
        shard that is not yet has as many of them as it will have parts."""
        depths = [(replica.shard, _depth(replica)) for replica, _ in self._listed]
        deepest = max((depth for _, depth in depths), default=depth_min)
        numbers: set[int] = set()
        for shard, depth in depths:
            numbers.update(range(number_of(shard), 1 << deepest, 1 << depth))
        return deepest, numbers

    def covered(self) -> tuple[list[tuple[ShardId, Epoch]], tuple[int, ...]]:
        """Those led all the while under the lease: their epochs, and their depths."""
        held = self._held()
        epochs = [(replica.shard, ticket.epoch) for replica, ticket in held]
        return epochs, tuple([_depth(replica) for replica, _ in held])

    def _held(self) -> list[tuple[ShardReplica, ReadTicket]]:
        moment = now()
        return [each for each in self._listed if each[0].read_holds(each[1], moment)]


def _depth(replica: ShardReplica) -> int:
    assert replica.configuration is not None, "it is served"
    return replica.configuration.depth
