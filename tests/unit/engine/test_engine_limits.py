"""Every key and size that is allowed comes back as it was, after a crash and after a rebuild."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engine.engine_site import EngineSite
from tests.unit.index.twin_index import TwinIndex
from tests.unit.upkeep.test_compaction import running_story, site_of

from octad.sharding.ids import BucketId, Epoch, Seq
from octad.sharding.limits import (
    INLINE_BYTES_MAX,
    KEY_BYTES_MAX,
    PIECE_BYTES_MAX,
    RECORD_DATA_BYTES_MAX,
    SEGMENT_BYTES,
)
from octad.storage_node.index.index_format import IndexedPiece, SegmentUse, encode_value
from octad.storage_node.index.space_ledger import SpaceLedger
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Location, SegmentId

LONG = b"k" * (KEY_BYTES_MAX - 1)
KEYS = [bytes([value]) for value in range(256)] + [LONG + b"\x00", LONG + b"\x01", LONG, b"a\x00"]
SIZES = [
    limit + more
    for limit in (INLINE_BYTES_MAX, PIECE_BYTES_MAX, RECORD_DATA_BYTES_MAX - 1)
    for more in (-1, 0, 1)
]


async def test_every_byte_and_both_ends_of_a_key_are_kept() -> None:
    async with running_story() as story:
        for number, key in enumerate(KEYS):
            story.change(key, b"%d" % number)
        await site_of(story).settled()
        story.check()
        await story.crash(power_cut=True)


async def test_an_object_of_no_bytes_is_an_object() -> None:
    async with running_story() as story:
        story.change(b"empty", b"")
        await site_of(story).settled()
        await story.crash(power_cut=True)
        assert site_of(story).get(b"empty") == b""
        assert site_of(story).get(b"absent") is None


@pytest.mark.parametrize("size", SIZES)
async def test_a_value_of_each_limit_and_beside_it_is_kept(tmp_path: Path, size: int) -> None:
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)
    index = TwinIndex()
    for _ in range(2):
        site = EngineSite(tmp_path / "journal", Disk(), index, SEGMENT_BYTES)
        if site.get(b"key") is None:
            site.put(b"key", value)
            await site.settled()
        assert site.get(b"key") == value
        await site.journal.close()


@given(st.lists(st.tuples(st.sampled_from([b"na", b"nb", b"nc"]), st.integers(0, 5)), max_size=30))
def test_the_ledger_counts_what_counting_everything_would(changes: list[tuple[bytes, int]]) -> None:
    ledger, rows = SpaceLedger(), dict[bytes, bytes]()
    for seq, (key, segment) in enumerate(changes):
        if segment == 0:
            ledger.count((), [key], rows.get, {})
            rows.pop(key, None)
        else:
            at = Location(SegmentId(segment), 4096 + seq, 100 + seq)
            value = encode_value(IndexedPiece(at, Epoch(1), Seq(seq), BucketId(1)))
            ledger.count([(key, value)], (), rows.get, {})
            rows[key] = value
    anew = SpaceLedger()
    anew.count(list(rows.items()), (), lambda _key: None, {})
    assert ledger.live_bytes() == anew.live_bytes()
    for segment, use in ledger.segments.items():
        assert use.live == anew.segments.get(segment, SegmentUse()).live
