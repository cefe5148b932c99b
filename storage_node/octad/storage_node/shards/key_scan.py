"""One node's part of a listing: what of the index, in order of names, is in the shards it serves.

Nearly all of a listing's time is spent here, once for every key that the node holds, led here or
not. So of a row that it does not lead only the key is read, and only rows that get on the page are
decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from itertools import islice
from typing import Protocol

from octad.sharding.hashing import placed_hash
from octad.sharding.ids import BucketId
from octad.storage_node.index.index_format import OBJECT_NAME_START, object_key, objects_range
from octad.storage_node.index.key_ranges import past
from octad.storage_node.shards.listing.listing_merge import (
    ListEntry,
    common_prefix,
    first_candidate,
)
from octad.storage_node.shards.object_store import ListQuery

PASSED_OVER_MAX = 12  # Keys under one common prefix; a seek past it costs as much.
SCAN_KEYS_MAX = 20_000  # A listing step looks at no more, so that other requests get their turn.


class Cursor(Protocol):
    """The index's rows, up to the key that it was made for."""

    @property
    def value(self) -> Callable[[], bytes]:
        """Returns the value of the last key."""

    def keys_from(self, start: bytes) -> Iterator[bytes]:
        """The keys in order; every call begins again."""


def scan_keys(
    cursor_to: Callable[[bytes], Cursor],
    bucket: BucketId,
    query: ListQuery,
    prefixes: int,
    depth: int,
    served: Container[int],
) -> tuple[list[ListEntry], bytes, bool]:
    """(entries, complete up to, nothing is left). `cursor_to` makes a cursor up to a key.

    `prefixes`: this many common prefixes count as much as the query's limit of keys.
    """
    start = first_candidate(query.prefix, query.delimiter, query.after)
    if start is None:
        return [], b"", True
    beyond = past(query.prefix)
    cursor = cursor_to(objects_range(bucket)[1] if beyond is None else object_key(bucket, beyond))
    position = object_key(bucket, start)
    if query.delimiter:
        return _rolled_up(cursor, position, bucket, query, prefixes, depth, served)
    mask = (1 << depth) - 1
    entries: list[ListEntry] = []
    append, limit, value = entries.append, query.limit, cursor.value
    keys, name = cursor.keys_from(position), b""
    for index_key in islice(keys, SCAN_KEYS_MAX):
        name = index_key[1:]
        if placed_hash(name) & mask in served:
            append((name[OBJECT_NAME_START:], value()))
            if len(entries) >= limit:
                return entries, entries[-1][0], False
    nothing_left = next(keys, None) is None
    return entries, b"" if nothing_left else name[OBJECT_NAME_START:], nothing_left


def _rolled_up(
    cursor: Cursor,
    position: bytes,
    bucket: BucketId,
    query: ListQuery,
    prefixes: int,
    depth: int,
    served: Container[int],
) -> tuple[list[ListEntry], bytes, bool]:
    """The same with a delimiter."""
    mask = (1 << depth) - 1
    entries: list[ListEntry] = []
    looked_at = 0
    room = query.limit * prefixes
    while True:
        rolled_up: bytes | None = None
        passed_over = 0
        for index_key in cursor.keys_from(position):
            name = index_key[1:]
            key = name[OBJECT_NAME_START:]
            if rolled_up is not None and key.startswith(rolled_up):
                passed_over += 1
                if passed_over >= PASSED_OVER_MAX:
                    break
                continue
            looked_at += 1
            if placed_hash(name) & mask in served:
                rolled_up = common_prefix(key, query.prefix, query.delimiter)
                passed_over = 0
                entries.append((key, cursor.value()) if rolled_up is None else (rolled_up, None))
                room -= prefixes if rolled_up is None else query.limit
                if room <= 0:
                    return entries, entries[-1][0], False
            if looked_at >= SCAN_KEYS_MAX:
                return entries, key, False
        else:
            return entries, b"", True
        assert rolled_up is not None
        skip_to = past(rolled_up)
        if skip_to is None:
            return entries, b"", True
        position = object_key(bucket, skip_to)
