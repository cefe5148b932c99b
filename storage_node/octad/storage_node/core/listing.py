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
from operator import itemgetter

from octad.sharding.ids import Epoch, NodeId, ShardId

ListEntry = tuple[bytes, bytes | None]  # Key and the index's value, or a common prefix and None.


def common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """What `key` (which starts with `prefix`) rolls up into; None when it stands for itself."""
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


def past(prefix: bytes) -> bytes | None:
    """The least key above every key that starts with `prefix`; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])


def first_candidate(prefix: bytes, delimiter: bytes, after: bytes) -> bytes | None:
    """Where a scan for entries past `after` begins; None when nothing can follow."""
    if after < prefix:
        return prefix
    if after.startswith(prefix) and common_prefix(after, prefix, delimiter) == after:
        return past(after)
    return after + b"\x00"


def pages_share(limit: int, nodes: int) -> int:
    """How many entries to ask of each of `nodes` for a page of `limit`, with room for imbalance."""
    return -(-(limit + 1) * 5 // (4 * nodes)) + 8


@dataclass(slots=True)
class _Source:
    frontier: bytes  # Entries up to here have been received.
    waiting: list[ListEntry] = field(default_factory=list)
    complete: bool = False


_key_of = itemgetter(0)


class ListMerge:
    """Merges the nodes' answers into one page of up to `limit` entries."""

    def __init__(self, nodes: Iterable[NodeId], after: bytes, limit: int) -> None:
        self._sources = {node: _Source(after) for node in nodes}
        self._limit = limit
        self._entries: list[ListEntry] = []

    def wanted(self) -> Mapping[NodeId, bytes]:
        """Whom to ask next, and after which key; empty when the page is decided."""
        if len(self._entries) > self._limit:
            return {}
        return {
            node: source.frontier
            for node, source in self._sources.items()
            if not source.complete and not source.waiting
        }

    def answer(self, answers: Mapping[NodeId, tuple[Sequence[ListEntry], bytes, bool]]) -> None:
        """What each node asked has past its frontier: (entries, new frontier, nothing is left)."""
        for node, (entries, frontier, complete) in answers.items():
            source = self._sources[node]
            source.waiting.extend(entries)
            source.frontier, source.complete = frontier, complete
        self._merge()

    def page(self) -> tuple[list[ListEntry], bool]:
        """The entries and whether more follow."""
        return self._entries[: self._limit], len(self._entries) > self._limit

    def _merge(self) -> None:
        """Take every entry that no source could still bring a lesser one than."""
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
            # Several nodes may hold keys under one common prefix: it stands once.
            if not self._entries or self._entries[-1][0] != entry[0]:
                self._entries.append(entry)


class CoverageError(Exception):
    """The answers do not cover every shard exactly once: somebody's map is old. Ask again."""


def check_coverage(
    shards: Iterable[ShardId], covered: Iterable[Sequence[tuple[ShardId, Epoch]]]
) -> None:
    """Every shard was listed by exactly one node, or CoverageError."""
    seen: set[ShardId] = set()
    for of_node in covered:
        for shard, _ in of_node:
            if shard in seen:
                raise CoverageError(f"shard {shard} was listed twice")
            seen.add(shard)
    missing = sum(shard not in seen for shard in shards)
    if missing:
        raise CoverageError(f"{missing} shards were not listed")
