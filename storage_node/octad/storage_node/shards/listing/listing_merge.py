"""Listing a bucket that is spread over many nodes: what each contributes, and the merge.

Every node lists the keys of the shards that it is primary of, in byte order, and says up to where
its answer is complete. The merge takes entries only up to the least advanced of those frontiers
and says which nodes to ask again. With a delimiter, keys that share a prefix up to it stand as
that one common prefix, and whatever lies under it is skipped by seeking past it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt
from operator import itemgetter
from typing import Generic, TypeVar

from octad.sharding.ids import ShardId, number_of, shard_name
from octad.storage_node.index.key_ranges import past

Name = TypeVar("Name")
ListEntry = tuple[bytes, bytes | None]  # Key and the index's value, or a common prefix and None.


def common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """What `key` (which starts with `prefix`) rolls up into; None when it stands for itself."""
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


def first_candidate(prefix: bytes, delimiter: bytes, after: bytes) -> bytes | None:
    """Where a scan for entries past `after` begins; None when nothing can follow."""
    if after < prefix:
        return prefix
    if after.startswith(prefix) and common_prefix(after, prefix, delimiter) == after:
        return past(after)
    return after + b"\x00"


def pages_share(limit: int, shards: int, of_all: int) -> int:
    """How many keys to ask of `shards` of them, for a page of `limit` to need no second round.

    They are spread evenly, by hash. One page in a thousand lacks some.
    """
    page, share = limit + 1, shards / of_all
    return min(page, ceil(page * share + 3.5 * sqrt(page * share * (1 - share))) + 1)


@dataclass(slots=True)
class _Source:
    frontier: bytes  # Entries up to here have been received.
    waiting: list[ListEntry] = field(default_factory=list)
    complete: bool = False


_key_of = itemgetter(0)


class ListMerge(Generic[Name]):
    """Merges answers from several sources into one page of up to `limit` entries."""

    def __init__(self, sources: Iterable[Name], after: bytes, limit: int) -> None:
        self._sources = {name: _Source(after) for name in sources}
        self._limit = limit
        self._entries: list[ListEntry] = []

    def wanted(self) -> Mapping[Name, bytes]:
        """Whom to ask next, and after which key; empty when the page is decided."""
        if len(self._entries) > self._limit:
            return {}
        return {
            name: source.frontier
            for name, source in self._sources.items()
            if not source.complete and not source.waiting
        }

    def answer(self, answers: Mapping[Name, tuple[Sequence[ListEntry], bytes, bool]]) -> None:
        """What a source has past its frontier: (entries, new frontier, whether that is all)."""
        for name, (entries, frontier, complete) in answers.items():
            source = self._sources[name]
            source.waiting.extend(entries)
            source.frontier, source.complete = frontier, complete
        self._merge()

    def page(self) -> tuple[list[ListEntry], bool]:
        """The entries and whether more follow."""
        return self._entries[: self._limit], len(self._entries) > self._limit

    def _merge(self) -> None:
        """Take every entry below which no source can still bring one."""
        incomplete = [source.frontier for source in self._sources.values() if not source.complete]
        ready: list[ListEntry] = []
        for source in self._sources.values():
            waiting = source.waiting
            taken = len(waiting)
            if incomplete:
                taken = bisect_right(waiting, min(incomplete), key=_key_of)
            ready += waiting[:taken]
            del waiting[:taken]
        ready.sort(key=_key_of)
        for entry in ready:
            # Several sources may hold keys under one common prefix: it stands once.
            if not self._entries or self._entries[-1][0] != entry[0]:
                self._entries.append(entry)


class CoverageError(Exception):
    """Something was listed twice, or changed meanwhile: a map was old. List again."""


class Coverage:
    """Which part of a pool was listed, by shards of any depth: it may be split meanwhile.

    It compares hashes, so a map that does not know of a split yet will do.
    """

    def __init__(self) -> None:
        self._depths: dict[ShardId, int] = {}

    def add(self, covered: Iterable[tuple[ShardId, int]]) -> None:
        """Shards that were listed, with their depths. Raises CoverageError."""
        for shard, depth in covered:
            if shard in self._depths:
                raise CoverageError(f"shard {shard_name(shard)} was listed twice")
            self._depths[shard] = depth

    def missing(self, depths: Mapping[ShardId, int]) -> list[ShardId]:
        """The pool's shards, with depths, that are not fully listed. Raises CoverageError."""
        if not self._depths or self._depths == depths:
            return [] if self._depths else list(depths)
        deepest = max(*self._depths.values(), *depths.values())
        listed: set[int] = set()
        count = 0
        for shard, depth in self._depths.items():
            listed.update(part := _numbers(shard, depth, deepest))
            count += len(part)
        if count > len(listed):
            raise CoverageError("a shard and a part of it were listed")
        return [
            shard
            for shard, depth in depths.items()
            if not listed.issuperset(_numbers(shard, depth, deepest))
        ]


def _numbers(shard: ShardId, depth: int, deepest: int) -> range:
    """The parts that `shard` has once the pool is split to that depth."""
    return range(number_of(shard), 1 << deepest, 1 << depth)
