"""One page of a listing: every primary is asked for its shards, and the answers are merged.

Usually one round is enough, and every primary leads what this node's map says: then no shard is
checked or named by itself, so a page costs no more with thousands of them.

A shard that is being split or moved is served by no one for a moment, and in a pool that is split
one or another always is. So what was listed stays listed: only what is missing is asked for again.
Each key is then as fresh as a read of it, made at some moment of the request.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from octad.sharding import limits
from octad.sharding.ids import NodeId, PoolId, ShardId
from octad.storage_node.index.index_format import decode_listed
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.listing.listing_merge import (
    Coverage,
    CoverageError,
    ListMerge,
    pages_share,
)
from octad.storage_node.shards.listing.pool_view import PoolView
from octad.storage_node.shards.object_store import (
    Bucket,
    ListPage,
    ListQuery,
    NotServed,
    Unavailable,
)
from octad.storage_node.shards.shard_client import LISTINGS, ShardClient


class PoolCoverage:
    """What was listed of a pool, against what there is of it by now."""

    def __init__(self, client: ShardClient, pool: PoolId) -> None:
        self._client = client
        self._pool = pool
        # The view by which a node has listed all that it leads.
        self._known: dict[NodeId, PoolView] = {}
        self._by_shard = Coverage()

    def add(self, answer: messages.KeysListed | messages.UploadsListed) -> None:
        """Raises CoverageError. An older node does not say how deep its shards are."""
        shards = [shard for shard, _ in answer.covered]
        depths = answer.depths or [self._client.configuration(shard).depth for shard in shards]
        self._by_shard.add(zip(shards, depths, strict=True))

    def add_known(self, node: NodeId, view: PoolView) -> None:
        """All that it leads by `view`."""
        self._known[node] = view

    def missing(self) -> list[ShardId]:
        """Raises CoverageError, or NotServed while a shard has no configuration."""
        view = self._client.view(self._pool)
        if self._known.keys() == view.led.keys() and all(v is view for v in self._known.values()):
            return []  # Nothing else was asked then, and nothing has changed since.
        for node, known in self._known.items():
            led = known.led[node]
            self._by_shard.add(zip(led.shards, led.depths, strict=True))
        self._known = {}
        return self._by_shard.missing(view.depths)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Whom to ask, and for which of the shards that it leads."""

    node: NodeId
    count: int
    shards: tuple[ShardId, ...] = ()  # All, where none is named.
    digest: int = 0  # Stands for all that it leads; 0: some shards are named.


@dataclass(frozen=True, slots=True)
class _Part:
    """What one node has listed, from the beginning of the page on."""

    asked: _Asked
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
        self._coverage = PoolCoverage(self._client, self._bucket.pool)

    async def attempt(self) -> ListPage:
        """Raises NotServed, Unavailable: try again, it goes on from there."""
        try:
            await self._list_missing()
            return await self._page()
        except CoverageError as error:
            self._begin_anew()
            raise NotServed(f"listing {self._bucket.name}: {error}") from error

    async def _list_missing(self) -> None:
        view = self._client.view(self._bucket.pool)
        wanted = self._wanted(view)
        calls = [self._ask(asked, self._query.after) for asked in wanted]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        failure: BaseException | None = None
        for asked, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, BaseException):
                failure = answer if failure is None or isinstance(failure, Unavailable) else failure
            elif answer.as_known:
                self._coverage.add_known(asked.node, view)
                self._parts.append(_Part(asked, answer))
            elif answer.covered:
                self._coverage.add(answer)
                self._parts.append(_Part(asked, answer))
        if failure is not None:
            raise failure
        if missing := self._coverage.missing():
            raise NotServed(f"listing {self._bucket.name}: {len(missing)} shards are not served")

    def _wanted(self, view: PoolView) -> list[_Asked]:
        """Whom to ask next; at first, each node for all that it leads."""
        if not self._parts:
            return [_Asked(n, len(led.shards), (), led.digest) for n, led in view.led.items()]
        shards: dict[NodeId, list[ShardId]] = defaultdict(list)
        for shard in self._coverage.missing():
            shards[view.configurations[shard].primary].append(shard)
        return [_Asked(node, len(named), tuple(named)) for node, named in shards.items()]

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
        asked, first = part.asked, part.first
        if not first.as_known:
            shards = tuple([shard for shard, _ in first.covered])
            asked = _Asked(asked.node, len(shards), shards)
        answer = await self._ask(asked, after)
        if (answer.covered, answer.as_known) != (first.covered, first.as_known):
            raise CoverageError(f"the shards of n{asked.node} changed meanwhile")
        return answer

    async def _ask(self, asked: _Asked, after: bytes) -> messages.KeysListed:
        """A node has its share of a page's keys, and may have all of its common prefixes."""
        bucket, query = self._bucket, self._query
        message = messages.ListKeys(
            bucket.pool,
            bucket.id,
            query.prefix,
            query.delimiter,
            after,
            pages_share(query.limit, asked.count, len(self._client.view(bucket.pool).depths)),
            asked.shards,
            query.limit + 1,
            asked.digest,
        )
        answer, _ = await self._client.call(
            asked.node, message, b"", limits.READ_TIMEOUT_S, LISTINGS
        )
        return answer


def _listed(answer: messages.KeysListed) -> tuple[list[tuple[bytes, bytes | None]], bytes, bool]:
    return answer.entries, answer.frontier, answer.complete
