"""One page of a listing: every primary is asked for its shards, and the answers are merged.

A shard that is being split or moved is served by no one for a moment, and in a pool that is split
one or another always is. So what was listed stays listed: only what is missing is asked for again.
Each key is then as fresh as a read of it, made at some moment of the request.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from octad.sharding import limits
from octad.sharding.ids import NodeId, ShardId
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.index.index_format import decode_listed
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.listing_merge import Coverage, CoverageError, ListMerge, pages_share
from octad.storage_node.shards.object_store import (
    Bucket,
    ListPage,
    ListQuery,
    NotServed,
    Unavailable,
)
from octad.storage_node.shards.shard_client import LISTINGS, ShardClient


@dataclass(frozen=True, slots=True)
class _Part:
    """What one node has listed, from the beginning of the page on."""

    node: NodeId
    first: messages.KeysListed


class KeyListing:
    """See the module. `attempt` until it returns the page."""

    def __init__(self, client: ShardClient, bucket: Bucket, query: ListQuery) -> None:
        self._client = client
        self._bucket = bucket
        self._query = query
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._parts: list[_Part] = []
        self._coverage = Coverage()

    async def attempt(self) -> ListPage:
        """Raises NotServed, Unavailable: try again, it goes on from there."""
        try:
            await self._list_missing()
            return await self._page()
        except CoverageError as error:
            self._begin_anew()
            raise NotServed(f"listing {self._bucket.name}: {error}") from error

    async def _list_missing(self) -> None:
        configurations = self._configurations()
        wanted: dict[NodeId, list[ShardId]] = defaultdict(list)
        for shard in self._coverage.missing(_depths(configurations)):
            wanted[configurations[shard].primary].append(shard)
        after, limit = self._query.after, self._query.limit
        # At first it is all that a node has, which takes no names.
        names = {n: tuple(shards) if self._parts else () for n, shards in wanted.items()}
        calls = [
            self._ask(
                node, names[node], after, pages_share(limit, len(shards), len(configurations))
            )
            for node, shards in wanted.items()
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        failure: BaseException | None = None
        for node, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, BaseException):
                failure = answer if failure is None or isinstance(failure, Unavailable) else failure
            elif answer.covered:
                self._coverage.add(with_depths(self._client, answer))
                self._parts.append(_Part(node, answer))
        if failure is not None:
            raise failure
        if missing := self._coverage.missing(_depths(self._configurations())):
            raise NotServed(f"listing {self._bucket.name}: {len(missing)} shards are not served")

    async def _page(self) -> ListPage:
        query = self._query
        merge = ListMerge(range(len(self._parts)), query.after, query.limit)
        merge.answer({number: _listed(part.first) for number, part in enumerate(self._parts)})
        while wanted := merge.wanted():
            calls = [self._go_on(self._parts[n], after) for n, after in wanted.items()]
            answers = await asyncio.gather(*calls)
            merge.answer({n: _listed(a) for n, a in zip(wanted, answers, strict=True)})
        entries, truncated = merge.page()
        return ListPage(
            [(k, None if value is None else decode_listed(value).row) for k, value in entries],
            truncated,
        )

    async def _go_on(self, part: _Part, after: bytes) -> messages.KeysListed:
        """More of what the part covers, as it was then."""
        covered = part.first.covered
        shards = tuple(shard for shard, _ in covered)
        share = pages_share(self._query.limit, len(covered), len(self._configurations()))
        answer = await self._ask(part.node, shards, after, share)
        if answer.covered != covered:
            raise CoverageError(f"the shards of n{part.node} changed meanwhile")
        return answer

    async def _ask(
        self, node: NodeId, shards: tuple[ShardId, ...], after: bytes, limit: int
    ) -> messages.KeysListed:
        bucket, query = self._bucket, self._query
        message = messages.ListKeys(
            bucket.pool, bucket.id, query.prefix, query.delimiter, after, limit, shards
        )
        answer, _ = await self._client.call(node, message, b"", limits.READ_TIMEOUT_S, LISTINGS)
        return answer

    def _configurations(self) -> dict[ShardId, ShardConfiguration]:
        client = self._client
        return {
            shard: client.configuration(shard) for shard in client.map.shards_of(self._bucket.pool)
        }


def _depths(configurations: dict[ShardId, ShardConfiguration]) -> dict[ShardId, int]:
    return {shard: configuration.depth for shard, configuration in configurations.items()}


def with_depths(
    client: ShardClient, answer: messages.KeysListed | messages.UploadsListed
) -> list[tuple[ShardId, int]]:
    """The shards that an answer covers. An older node does not say how deep they are."""
    shards = [shard for shard, _ in answer.covered]
    depths = answer.depths or [client.configuration(shard).depth for shard in shards]
    return list(zip(shards, depths, strict=True))


def _listed(answer: messages.KeysListed) -> tuple[list[tuple[bytes, bytes | None]], bytes, bool]:
    return answer.entries, answer.frontier, answer.complete
