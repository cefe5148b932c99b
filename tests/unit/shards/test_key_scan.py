"""A node's part of a listing is exactly what it serves, however the pages are cut."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.hashing import object_hash, shard_number
from octad.sharding.ids import BucketId
from octad.storage_node.index.index_format import object_key
from octad.storage_node.shards import key_scan
from octad.storage_node.shards.key_scan import scan_keys
from octad.storage_node.shards.listing.listing_merge import ListEntry, common_prefix
from octad.storage_node.shards.object_store import ListQuery

BUCKET, OTHER = BucketId(7), BucketId(8)
DEPTH = 3
PREFIXES = 1001

names = st.text("a/b\x7fé", min_size=1, max_size=6).map(str.encode)
short = st.text("a/bé", max_size=2).map(str.encode)


class Rows:
    """Sorted entries, read as an index is."""

    def __init__(self, keys: set[bytes]) -> None:
        rows = [(object_key(BUCKET, key), key) for key in keys]
        self.rows = sorted([*rows, (object_key(OTHER, b"a"), b""), (b"m", b"")])
        self.seen = 0

    def cursor(self, end: bytes) -> Cursor:
        return Cursor(self, end)


class Cursor:
    def __init__(self, rows: Rows, end: bytes) -> None:
        self.rows = rows
        self.end = end
        self.last = b""

    def value(self) -> bytes:
        return self.last

    def keys_from(self, start: bytes) -> Iterator[bytes]:
        rows = self.rows.rows
        for key, self.last in rows[bisect_left(rows, (start, b"")) :]:
            if key >= self.end:
                return
            self.rows.seen += 1
            yield key


def expected(keys: set[bytes], query: ListQuery, served: set[int]) -> list[ListEntry]:
    """As plainly as it can be said."""
    entries: dict[bytes, bytes | None] = {}
    for key in sorted(keys):
        here = shard_number(object_hash(BUCKET, key), DEPTH) in served
        if here and key.startswith(query.prefix):
            prefix = common_prefix(key, query.prefix, query.delimiter)
            if prefix is None:
                entries[key] = key
            else:
                entries[prefix] = None
    return [each for each in sorted(entries.items()) if each[0] > query.after]


@given(
    st.sets(names, max_size=60),
    st.sets(st.integers(0, 7), max_size=8),
    short,
    st.sampled_from([b"", b"/", b"b", b"/b"]),
    st.integers(1, 9),
    st.integers(1, 20),
)
def test_all_pages_together_are_what_the_node_serves(
    keys: set[bytes], served: set[int], prefix: bytes, delimiter: bytes, limit: int, prefixes: int
) -> None:
    rows = Rows(keys)
    listed: list[ListEntry] = []
    after, complete = b"", False
    while not complete:
        query = ListQuery(prefix, delimiter, after, limit)
        entries, after, complete = scan_keys(rows.cursor, BUCKET, query, prefixes, DEPTH, served)
        assert sum(value is not None for _, value in entries) <= limit
        assert sum(value is None for _, value in entries) <= prefixes
        listed += entries
    assert listed == expected(keys, ListQuery(prefix, delimiter, b"", limit), served)


@given(st.sets(names, max_size=40), names, st.sampled_from([b"", b"/"]))
def test_a_listing_can_begin_anywhere(keys: set[bytes], after: bytes, delimiter: bytes) -> None:
    if delimiter and delimiter in after:
        after = common_prefix(after, b"", delimiter) or after
    query = ListQuery(b"", delimiter, after, 1000)
    served = {1, 2, 5}
    entries, _, complete = scan_keys(Rows(keys).cursor, BUCKET, query, PREFIXES, DEPTH, served)
    assert complete
    assert entries == expected(keys, query, served)


@pytest.mark.parametrize("delimiter", [b"", b"/"])
def test_a_step_over_keys_of_other_nodes_ends_and_says_how_far_it_came(
    delimiter: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_scan, "SCAN_KEYS_MAX", 10)
    keys = {b"%03d" % number for number in range(95)}
    rows = Rows(keys)
    after, complete, steps = b"", False, 0
    while not complete:
        query = ListQuery(b"", delimiter, after, 5)
        entries, after, complete = scan_keys(rows.cursor, BUCKET, query, PREFIXES, DEPTH, set())
        assert entries == []
        steps += 1
    assert steps == 10


def test_a_full_prefix_is_sought_past_and_not_read() -> None:
    keys = {b"p/%05d" % number for number in range(3000)} | {b"q", b"r/1"}
    rows = Rows(keys)
    query = ListQuery(b"", b"/", b"", 1000)
    entries, _, complete = scan_keys(rows.cursor, BUCKET, query, PREFIXES, DEPTH, set(range(8)))
    assert complete
    assert [key for key, _ in entries] == [b"p/", b"q", b"r/"]
    assert rows.seen < 50


def test_a_scan_ends_behind_its_prefix() -> None:
    rows = Rows({b"a%03d" % number for number in range(50)} | {b"b%03d" % n for n in range(50)})
    query = ListQuery(b"a", b"", b"", 1000)
    entries, _, complete = scan_keys(rows.cursor, BUCKET, query, PREFIXES, DEPTH, set(range(8)))
    assert complete
    assert (len(entries), rows.seen) == (50, 50)
