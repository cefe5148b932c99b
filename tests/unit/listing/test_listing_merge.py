"""A page of a listing, merged from nodes that each hold some of the keys, is what one node with all
of them would give. The oracle is the obvious implementation on a sorted list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.sharding.ids import Epoch, NodeId, ShardId
from octad.storage_node.core.listing import (
    CoverageError,
    ListEntry,
    ListMerge,
    check_coverage,
    common_prefix,
    first_candidate,
    past,
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
    shards = [ShardId(0), ShardId(1)]
    one, two = (ShardId(0), Epoch(1)), (ShardId(1), Epoch(1))
    check_coverage(shards, [[one], [two]])
    with pytest.raises(CoverageError, match="twice"):
        check_coverage(shards, [[one, two], [two]])
    with pytest.raises(CoverageError, match="1 shards were not listed"):
        check_coverage(shards, [[one]])
