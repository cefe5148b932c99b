"""One try to delete many objects together: a message to each node that leads some of their shards.

What a shard cannot say at once to be done as a whole is left to be asked for key by key: each has a
request id of its own, so what was done already is not done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from octad.client.runtime.steady_clock import now
from octad.sharding import limits
from octad.sharding.hashing import object_hash
from octad.sharding.ids import NodeId, ShardId
from octad.storage_node.shards.object_messages import NOT_SERVED, DeleteKeys
from octad.storage_node.shards.object_store import Bucket, Degraded, NotServed, StoreError
from octad.storage_node.shards.shard_client import LISTINGS, ShardClient

# Of one message: what a node orders at once holds up everybody else's requests.
SHARDS_AT_ONCE_MAX: Final = 64
KEYS_AT_ONCE_MAX: Final = 256  # With keys of 1 KiB, so much fits a frame many times over.

Asked: TypeAlias = list[tuple[ShardId, list[tuple[bytes, bytes]]]]


class DeletingTogether:
    """Objects of one bucket, by key with the request id of the deletion. `run` once.

    Then `done` has the keys that are deleted, and `left` the others, with the moment of a try that
    may have taken effect.
    """

    def __init__(self, client: ShardClient, bucket: Bucket, keys: Mapping[bytes, bytes]) -> None:
        self._client = client
        self._bucket = bucket
        self._keys = keys
        self.done: dict[bytes, Degraded | None] = {}
        self.left: dict[bytes, float | None] = {}

    async def run(self) -> None:
        """Ask all nodes at once, and each for a part after the other."""
        await asyncio.gather(*[self._ask(*each) for each in self._by_node().items()])

    def _by_node(self) -> dict[NodeId, Asked]:
        shard_map, bucket = self._client.map, self._bucket
        by_shard: dict[ShardId, list[tuple[bytes, bytes]]] = {}
        for key, request_id in self._keys.items():
            try:
                shard = shard_map.shard_of_hash(bucket.pool, object_hash(bucket.id, key))
            except KeyError:  # The pool is not known here yet.
                self.left[key] = None
            else:
                by_shard.setdefault(shard, []).append((key, request_id))
        by_node: dict[NodeId, Asked] = {}
        for shard, keys in by_shard.items():
            configuration = shard_map.configurations.get(shard)
            if configuration is None:
                self.left.update((key, None) for key, _ in keys)
                continue
            asked = by_node.setdefault(configuration.primary, [])
            for begin in range(0, len(keys), KEYS_AT_ONCE_MAX):
                asked.append((shard, keys[begin : begin + KEYS_AT_ONCE_MAX]))
        return by_node

    async def _ask(self, node: NodeId, asked: Asked) -> None:
        client, bucket = self._client, self._bucket
        self.left.update((key, None) for _, keys in asked for key, _ in keys)
        for part in _parts(asked):
            message, tried_at = DeleteKeys(bucket.id, part), now()
            try:
                answer, _ = await client.call(node, message, b"", limits.CALL_TIMEOUT_S, LISTINGS)
            except StoreError as error:
                if not isinstance(error, NotServed):
                    self.left.update((key, tried_at) for _, keys in part for key, _ in keys)
                return  # The node is not asked for the rest, which may be led by another by now.
            for (_, keys), (code, copies) in zip(part, answer.outcomes, strict=True):
                degraded = client.degraded(bucket.pool, copies)
                for key, _ in keys:
                    if not code:
                        del self.left[key]
                        self.done[key] = degraded
                    elif code != NOT_SERVED:
                        self.left[key] = tried_at


def _parts(asked: Asked) -> Iterator[Asked]:
    part: Asked = []
    count = 0
    for shard, keys in asked:
        if part and (len(part) >= SHARDS_AT_ONCE_MAX or count + len(keys) > KEYS_AT_ONCE_MAX):
            yield part
            part, count = [], 0
        part.append((shard, keys))
        count += len(keys)
    if part:
        yield part
