"""Dead extents go, whatever fails on the way; what a row names or may come to name stays."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.engine_site import BUCKET
from tests.unit.upkeep.extent_oracle import KEYS, PIECES, STEPS, UPLOADS, Step
from tests.unit.upkeep.extent_site import REFUSED, UNKNOWN, WRITER, ExtentSite

from octad.client.runtime.steady_clock import now
from octad.sharding.ids import NodeId
from octad.sharding.limits import MIB
from octad.storage_node.index.index_format import object_key
from octad.storage_node.index.rows import ExtentRef, ObjectRow, PartRow
from octad.storage_node.operations.index_changes import (
    PutPart,
    PutPiece,
    parts_in_flight,
    put_object,
)
from octad.storage_node.upkeep.extent_collector import FULL_PIN_ROUND_S

PUT, DELETE, BREAK_OFF, CREATE, PART, ABORT = 0, 2, 3, 4, 5, 9
# Between what clients do: rounds, sweeps, restarts, failures of what is proposed next.
EVENTS = st.sampled_from(["collect", "sweep", "restart", "refused", "unknown", "away", "back"])


def put(site: ExtentSite) -> None:
    site.step((PUT, 0, 0, 1))


def delete(site: ExtentSite) -> None:
    site.step((DELETE, 0, 0, 0))


def broken_off(site: ExtentSite) -> bytes:
    """An extent for the first key that no row names."""
    site.step((BREAK_OFF, 0, 0, 1))
    (extent,) = {extent for extent, _ in site.oracle.pieces} - site.oracle.named()
    return extent


def row_of(extent: bytes) -> ObjectRow:
    return ObjectRow(1, "", 0, extents=(ExtentRef(extent, PIECES * MIB),))


async def tell(site: ExtentSite, story: list[Step | str]) -> None:
    for event in story:
        match event:
            case "collect":
                await site.collect()
            case "sweep":
                await site.sweep.sweep()
            case "restart":
                site.restart()
            case "refused":
                site.failures.append(REFUSED)
            case "unknown":
                site.failures.append(UNKNOWN)
            case "away" | "back":
                site.serving = event == "back"
            case tuple():
                site.step(event)
        site.check()


@given(st.lists(st.one_of(STEPS.map(tuple), EVENTS), max_size=12))
@settings(max_examples=200, deadline=None)
def test_in_the_end_there_is_what_is_named_and_nothing_else(
    story: list[tuple[Step, ...] | str],
) -> None:
    flat: list[Step | str] = []
    for event in story:
        flat += [event] if isinstance(event, str) else list(event)

    async def run() -> None:
        site = ExtentSite()
        await tell(site, flat)
        site.serving = True
        site.failures.clear()
        await tell(site, ["sweep", "collect", "collect"])
        assert site.oracle.queue == {}
        left = {extent for extent, _ in site.oracle.pieces} - site.oracle.named()
        assert left == parts_that_may_come(site)

    asyncio.run(run())


def parts_that_may_come(site: ExtentSite) -> set[bytes]:
    """What was written for uploads that are still open and is in no part: it stays."""
    pieces = [each for each in site.script.operations if isinstance(each, PutPiece)]
    written = {each.extent for each in pieces if (each.key, each.upload) in site.oracle.parts}
    return {extent for extent, _ in site.oracle.pieces if extent in written} - site.oracle.named()


@pytest.mark.parametrize(("deleted_s_ago", "is_there"), [(900, True), (1100, False)])
async def test_a_reader_has_the_pin_to_finish(deleted_s_ago: float, is_there: bool) -> None:
    site = ExtentSite(pin_s=1000.0)
    put(site)
    site.collector.mark(now() - 2000)
    delete(site)
    site.collector.mark(now() - deleted_s_ago)
    await site.collect()
    assert bool(site.oracle.pieces) == bool(site.oracle.queue) == is_there


async def test_a_restart_begins_the_pin_again() -> None:
    site = ExtentSite(pin_s=1000.0)
    put(site)
    delete(site)
    site.collector.mark(now() - 5000)
    site.restart()
    await site.collect()
    assert site.oracle.pieces


async def test_only_the_serving_primary_collects() -> None:
    site = ExtentSite()
    put(site)
    put(site)
    site.serving = False
    await site.collect()
    assert len(site.oracle.queue) == 1


async def test_an_extent_that_is_named_again_is_never_dropped() -> None:
    """Nothing should do that; if something does, it costs space and not data."""
    site = ExtentSite()
    put(site)
    (extent,) = site.oracle.named()
    delete(site)
    site.do(put_object(BUCKET, KEYS[0], row_of(extent)))
    await site.collect()
    site.check()
    assert site.oracle.named() == {extent}
    assert site.oracle.queue == {}


async def test_nothing_is_dropped_while_a_write_of_the_key_is_undecided() -> None:
    site = ExtentSite()
    put(site)
    delete(site)
    site.dirty.add(object_key(BUCKET, KEYS[0]))
    await site.collect()
    assert site.oracle.pieces
    site.dirty.clear()
    await site.collect()
    assert not site.oracle.pieces


async def test_a_commit_that_never_came_is_found() -> None:
    site = ExtentSite()
    broken_off(site)
    await site.sweep.sweep()
    assert site.oracle.pieces, "only the collector drops"
    await site.collect()
    assert not site.oracle.pieces
    assert not site.oracle.queue


async def test_a_young_extent_is_not_asked_about() -> None:
    site = ExtentSite()
    broken_off(site)
    site.sweep._now_s = lambda: 20.0
    await site.sweep.sweep()
    assert not site.oracle.queue


async def test_a_request_that_takes_longer_than_the_grace_keeps_its_extents() -> None:
    site = ExtentSite()
    site.under_way.add(broken_off(site))
    await site.sweep.sweep()
    assert not site.oracle.queue
    site.under_way.clear()
    await site.sweep.sweep()
    assert site.oracle.queue


async def test_a_commit_that_was_on_its_way_when_its_writer_died_is_kept() -> None:
    site = ExtentSite()
    extent = broken_off(site)
    await site.sweep.sweep()
    site.do(put_object(BUCKET, KEYS[0], row_of(extent)))
    await site.collect()
    site.check()
    assert {extent for extent, _ in site.oracle.pieces} == {extent}


async def test_an_extent_stays_while_its_writer_is_away_and_goes_once_that_was_removed() -> None:
    site = ExtentSite()
    broken_off(site)
    site.writer_answers = False
    await site.sweep.sweep()
    assert not site.oracle.queue
    site.removed.add(WRITER)
    await site.sweep.sweep()
    assert site.oracle.queue


async def test_an_open_upload_keeps_what_was_written_for_it() -> None:
    site = ExtentSite()
    site.step((CREATE, 0, 0, 0))
    broken_off(site)
    await site.sweep.sweep()
    assert not site.oracle.queue
    site.step((ABORT, 0, 0, 0))
    await site.sweep.sweep()
    await site.collect()
    assert not site.oracle.pieces


async def test_nothing_is_dropped_while_a_part_is_undecided() -> None:
    site = ExtentSite()
    site.step((CREATE, 0, 0, 0))
    extent = broken_off(site)
    extents = row_of(extent).extents
    site.do(PutPart(BUCKET, KEYS[0], UPLOADS[0], 1, PartRow(1, "", 0, extents=extents)))
    site.step((PART, 0, 0, 1))
    site.dirty.add(parts_in_flight(BUCKET, KEYS[0], UPLOADS[0]))
    await site.collect()
    assert site.oracle.queue
    site.dirty.clear()
    await site.collect()
    assert not site.oracle.queue
    site.check()


def on_a_full_disk() -> ExtentSite:
    """An object has just been deleted, and its readers have the pin."""
    site = ExtentSite(pin_s=1000.0)
    put(site)
    delete(site)
    site.full = {WRITER}
    return site


async def test_on_a_full_disk_what_nobody_reads_goes_at_once() -> None:
    site = on_a_full_disk()
    site.full = set()
    await site.collect()
    assert site.oracle.pieces, "at leisure everyone has the pin"
    assert site.collector.waiting() == (PIECES * MIB, FULL_PIN_ROUND_S)
    site.full = {WRITER}
    await site.collect()
    assert not site.oracle.pieces
    assert not site.oracle.queue
    await site.collect()
    assert site.collector.waiting()[0] == 0


async def test_the_full_disk_of_a_node_that_has_none_of_it_hurries_nothing() -> None:
    site = on_a_full_disk()
    site.full = {NodeId(9)}
    await site.collect()
    assert site.oracle.pieces


async def test_a_read_that_began_before_is_waited_for_and_one_that_began_later_is_not() -> None:
    site = on_a_full_disk()
    site.oldest_read_s[NodeId(2)] = 10.0
    await site.collect()
    assert site.oracle.pieces
    assert site.collector.waiting() == (PIECES * MIB, 1000.0)
    site.oldest_read_s[NodeId(2)] = 0.0001
    await asyncio.sleep(0.001)
    await site.collect()
    assert not site.oracle.pieces


@pytest.mark.parametrize("why", ["away", "of the version before", "the store is away"])
async def test_while_a_door_is_not_heard_everybody_has_the_pin(why: str) -> None:
    site = on_a_full_disk()
    match why:
        case "away":
            site.writer_answers = False
        case "of the version before":
            site.oldest_read_s[NodeId(2)] = None
        case _:
            site.store_answers = False
    await site.collect()
    assert site.oracle.pieces
    site.writer_answers = site.store_answers = True
    site.oldest_read_s = {WRITER: 0.0}
    await site.collect()
    assert not site.oracle.pieces


async def test_what_was_never_named_has_the_pin_on_a_full_disk_too() -> None:
    """The commit that names it may be on its way, and that is no read."""
    site = ExtentSite(pin_s=1000.0)
    broken_off(site)
    site.full = {WRITER}
    await site.sweep.sweep()
    await site.collect()
    assert site.oracle.queue
    assert site.oracle.pieces
