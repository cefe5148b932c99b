"""A page of a listing, merged from nodes that each hold some of the keys, is what one node with all
of them would give. The oracle is the obvious implementation on a sorted list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.ids import NodeId, ShardId
from octad.storage_node.index.key_ranges import past
from octad.storage_node.shards.listing.listing_merge import (
    Coverage,
    CoverageError,
    ListEntry,
    ListMerge,
    common_prefix,
    first_candidate,
)

ROW = b"row"
keys = st.lists(
    st.text("ab/\xff", min_size=1, max_size=6).map(str.encode), unique=True, max_size=30
)
short = st.text("ab/", max_size=2).map(str.encode)


def entries_after(held: list[bytes], prefix: bytes, delimiter: bytes, after: bytes) -> list[bytes]:
    """Every entry past `after`, by looking at every key."""
    rolled = {
        common_prefix(key, prefix, delimiter) or key
        for key in held
        if key.startswith(prefix) and key > after
    }
    skipped = common_prefix(after, prefix, delimiter) if after.startswith(prefix) else None
    return sorted(entry for entry in rolled if not (skipped == after and entry == after))


def scan(
    held: list[bytes], prefix: bytes, delimiter: bytes, after: bytes, limit: int
) -> tuple[list[ListEntry], bytes, bool]:
    """What one node answers: the first `limit` of its entries."""
    found = entries_after(held, prefix, delimiter, after)
    page: list[ListEntry] = [(entry, ROW) for entry in found[:limit]]
    return page, page[-1][0] if page else b"", len(found) <= limit


@given(keys, short, short, st.integers(1, 5), st.integers(1, 5))
def test_pages_of_a_spread_bucket_are_those_of_a_whole_one(
    held: list[bytes], prefix: bytes, delimiter: bytes, limit: int, share: int
) -> None:
    places = {key: index % 3 for index, key in enumerate(held)}
    after, listed = b"", list[bytes]()
    while True:
        merge = ListMerge([NodeId(node) for node in range(3)], after, limit)
        while wanted := merge.wanted():
            merge.answer(
                {
                    node: scan(
                        [key for key in held if places[key] == node],
                        prefix,
                        delimiter,
                        begin,
                        share,
                    )
                    for node, begin in wanted.items()
                }
            )
        page, truncated = merge.page()
        assert len(page) <= limit
        assert len(page) == limit or not truncated
        listed += [key for key, _ in page]
        if not truncated:
            break
        after = page[-1][0]
    assert listed == entries_after(held, prefix, delimiter, b"")


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=6))
def test_past_is_the_least_key_above_a_prefix(prefix: bytes, rest: bytes) -> None:
    above = past(prefix)
    if above is None:
        assert set(prefix) == {255}
    else:
        assert prefix + rest < above
        assert above[:-1] + bytes([above[-1] - 1]) == prefix[: len(above)]


@pytest.mark.parametrize(
    ("after", "start"),
    [
        (b"", b"p/"),
        (b"p/a", b"p/a\x00"),
        (b"p/a/", b"p/a0"),
        (b"p/a/b", b"p/a/b\x00"),
        (b"q", b"q\x00"),
    ],
)
def test_a_scan_begins_past_the_marker_and_past_all_of_a_common_prefix(
    after: bytes, start: bytes
) -> None:
    assert first_candidate(b"p/", b"/", after) == start


def test_every_shard_must_be_listed_exactly_once() -> None:
    coverage = Coverage()
    pool = {ShardId(0): 1, ShardId(1): 1}
    assert coverage.missing(pool) == [0, 1]
    coverage.add([(ShardId(0), 1)])
    assert coverage.missing(pool) == [1]
    coverage.add([(ShardId(1), 1)])
    assert coverage.missing(pool) == []
    with pytest.raises(CoverageError, match="shard 0/1 was listed twice"):
        coverage.add([(ShardId(1), 1)])


def test_a_shard_is_listed_when_both_its_halves_are_though_the_map_knows_of_none() -> None:
    coverage, old_map = Coverage(), {ShardId(0): 1, ShardId(1): 1}
    coverage.add([(ShardId(0), 2), (ShardId(1), 1)])
    assert coverage.missing(old_map) == [0], "half of it may be served by no one yet"
    coverage.add([(ShardId(2), 2)])
    assert coverage.missing(old_map) == []


def test_the_halves_of_a_shard_are_listed_when_it_was() -> None:
    coverage = Coverage()
    coverage.add([(ShardId(0), 1), (ShardId(1), 1)])
    assert coverage.missing({ShardId(0): 2, ShardId(2): 2, ShardId(1): 1}) == []
    coverage.add([(ShardId(2), 2)])
    with pytest.raises(CoverageError, match="a shard and a part of it"):
        coverage.missing({ShardId(0): 2, ShardId(2): 2, ShardId(1): 1})


@given(st.data())
def test_whatever_is_split_what_is_missing_is_what_was_not_listed(data: st.DataObject) -> None:
    def parts(depth: int, number: int) -> list[tuple[ShardId, int]]:
        if depth == 4 or not data.draw(st.booleans()):
            return [(ShardId(number), depth)]
        return parts(depth + 1, number) + parts(depth + 1, number + (1 << depth))

    listed, known = parts(0, 0), dict(parts(0, 0))
    left_out = data.draw(st.sets(st.sampled_from(listed)))
    coverage = Coverage()
    coverage.add(each for each in listed if each not in left_out)
    holes = {n for s, d in left_out for n in range(s, 16, 1 << d)}
    expected = [s for s, d in known.items() if holes & set(range(s, 16, 1 << d))]
    assert coverage.missing(known) == expected
