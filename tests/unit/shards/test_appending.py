"""Appends at a primary: what is in flight counts, and no piece is put twice or lost."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
import pytest
from tests.unit.journal.test_journal_recovery import flip
from tests.unit.replication_host.new_primary import KEY
from tests.unit.shards.test_changing_extras import Site, site, turns, with_tags

from octad.client.s3.checksums import appended_etag
from octad.sharding.limits import SDK_RETRY_AGE_S
from octad.storage_node.index.index_format import DEAD_EXTENTS, decode_object, object_key
from octad.storage_node.index.rows import ExtentRef, ObjectRow
from octad.storage_node.journal.segment_file import segment_path
from octad.storage_node.operations.appends import AppendedPiece
from octad.storage_node.operations.conditions import NO_VERSION, Condition
from octad.storage_node.operations.index_changes import Refused
from octad.storage_node.shards.object_store import (
    Appended,
    Damaged,
    InvalidWriteOffset,
    OtherForm,
    PreconditionFailed,
    Written,
)

EXTENTS = (ExtentRef(b"e" * 16, 200_000),)
MOVED = (ExtentRef(b"m" * 16, 3),)
PUT = bytes([99]) * 16


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def large(offset: int) -> AppendedPiece:
    return AppendedPiece(offset, ObjectRow(200_000, "large", 17, extents=EXTENTS), {})


def request(number: int) -> bytes:
    return bytes([number]) * 16


def ask(
    here: Site,
    data: bytes | AppendedPiece,
    offset: int,
    number: int,
    age_s: float = 0.0,
    condition: Condition | None = None,
) -> asyncio.Task[Appended]:
    if isinstance(data, AppendedPiece):
        piece, body = data, b""
    else:
        piece, body = AppendedPiece(offset, ObjectRow(len(data), md5(data), 17), {}), data
    append = here.primary.store.append_object
    return asyncio.create_task(
        append(here.bucket, KEY, piece, body, request(number), age_s, condition)
    )


def put(here: Site, data: bytes) -> asyncio.Task[Written]:
    return here.put(ObjectRow(len(data), md5(data), 16), data, PUT)


async def stands(here: Site) -> bytes:
    return (await here.stands())[1]


async def test_the_first_piece_makes_the_object_and_the_next_go_behind_it(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        made = ask(here, b"one", 0, 1)
        await here.commit(made)
        assert made.result().etag == md5(b"one")
        added = ask(here, b"two", 3, 2)
        await here.commit(added)
        row, data = await here.stands()
        assert (data, row.size) == (b"onetwo", 6)
        assert added.result().etag == row.etag == appended_etag(md5(b"one"), md5(b"two"), 2)


async def test_pieces_behind_writes_on_their_way_are_all_told_their_own(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        tasks = [put(here, b"one")]
        await turns()
        appends = []
        for number, (data, offset) in enumerate([(b"two", 3), (b"3", 6), (b"four", 7)], 1):
            appends.append(ask(here, data, offset, number))
            await turns()
        assert len(here.primary.replica.log.entries) == 4
        await here.commit(*tasks, *appends)
        row, data = await here.stands()
        assert data == b"onetwo3four"
        etags = [each.result().etag for each in appends]
        assert len(set(etags)) == 3
        assert etags[-1] == row.etag
        assert len({each.result().version for each in appends}) == 3


async def test_of_two_pieces_at_one_offset_one_is_put_and_the_other_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(put(here, b"one"))
        one = ask(here, b"two", 3, 1)
        await turns()
        other = ask(here, b"TWO", 3, 2)
        await turns()
        assert not other.done(), "what it saw is not committed"
        with pytest.raises(InvalidWriteOffset):
            await here.commit(one, other)
        await one
        assert await stands(here) == b"onetwo"


async def test_a_later_try_of_a_piece_that_was_put_puts_none(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(put(here, b"one"))
        first = ask(here, b"two", 3, 1)
        await turns()
        again = ask(here, b"two", 3, 1, 1.0)
        await turns()
        await here.commit(first, again)
        assert await stands(here) == b"onetwo"
        for age_s in (1.0, SDK_RETRY_AGE_S):
            later = await ask(here, b"two", 3, 1, age_s)
            assert (later.etag, later.version) == (first.result().etag, first.result().version)
        assert await stands(here) == b"onetwo"
        await here.commit(ask(here, b"three", 6, 2))
        later = await ask(here, b"two", 3, 1, SDK_RETRY_AGE_S)
        assert later.etag == "", "another object stands"
        assert await stands(here) == b"onetwothree"


async def test_a_refused_piece_is_refused_for_good(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        later = ask(here, b"two", 3, 1, SDK_RETRY_AGE_S)
        await turns()
        assert [type(each.operation) for each in here.primary.replica.log.entries] == [Refused]
        with pytest.raises(InvalidWriteOffset):
            await here.commit(later)
        await here.commit(put(here, b"one"))
        for age_s in (1.0, SDK_RETRY_AGE_S):
            with pytest.raises(InvalidWriteOffset):
                await here.commit(ask(here, b"two", 3, 1, age_s))
        assert await stands(here) == b"one"


async def test_a_piece_in_another_form_does_nothing_and_may_come_again(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(put(here, b"one"))
        with pytest.raises(OtherForm):
            await ask(here, large(3), 3, 1)
        assert not here.primary.replica.log.entries
        read = await here.read()
        assert read is not None
        moved = msgspec.structs.replace(large(3), moved=MOVED, moved_from=read.version)
        await here.commit(here.change(with_tags(a="1"), request(7)))
        with pytest.raises(OtherForm):
            await ask(here, moved, 3, 1, 0.1)
        read = await here.read()
        assert read is not None
        moved = msgspec.structs.replace(moved, moved_from=read.version)
        put_behind = ask(here, moved, 3, 1, 0.2)
        await turns()
        (entry,) = here.primary.replica.log.entries
        assert entry.data == b"", "its bytes are not in the record any more"
        await here.commit(put_behind)
        row = await here.primary.store.get_row(here.bucket, KEY)
        assert row is not None
        assert (row.size, row.extents) == (200_003, MOVED + EXTENTS)
        with pytest.raises(OtherForm):
            await ask(here, b"small", 200_003, 2)
        assert here.rows(DEAD_EXTENTS) == []
        await here.commit(here.delete())
        assert len(here.rows(DEAD_EXTENTS)) == 1, "they die with the object, once"


async def test_extents_go_behind_extents_and_none_of_them_dies(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(ask(here, large(0), 0, 1))
        more = (ExtentRef(b"f" * 16, 10),)
        piece = AppendedPiece(200_000, ObjectRow(10, "more", 17, extents=more), {})
        await here.commit(ask(here, piece, 0, 2))
        row = await here.primary.store.get_row(here.bucket, KEY)
        assert row is not None
        assert (row.size, row.extents) == (200_010, EXTENTS + more)
        assert here.rows(DEAD_EXTENTS) == []


async def test_a_piece_behind_a_deletion_on_its_way_is_the_first_of_another_object(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        await here.commit(put(here, b"one"))
        gone = here.delete()
        await turns()
        made = ask(here, b"two", 0, 1)
        while not made.done():  # It is ordered once the deletion is applied.
            here.primary.last_ack()
            await asyncio.sleep(0.01)
        await asyncio.gather(gone, made)
        assert await stands(here) == b"two"


async def test_a_condition_is_decided_beside_the_offset(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(put(here, b"one"))
        with pytest.raises(PreconditionFailed):
            await ask(here, b"two", 3, 1, condition=Condition(match=("other",)))
        done = ask(here, b"two", 3, 2, condition=Condition(match=(md5(b"one"),)))
        await here.commit(done)
        assert done.result().version != NO_VERSION
        assert await stands(here) == b"onetwo"


@pytest.mark.parametrize("condition", [None, Condition(match=("*",))])
async def test_bytes_that_are_damaged_here_are_repaired_before_more_go_behind_them(
    tmp_path: Path, condition: Condition | None
) -> None:
    async with site(tmp_path) as here:
        await here.commit(put(here, b"one"))
        primary = here.primary
        stored = primary.host.index.get(object_key(here.bucket.id, KEY))
        assert stored is not None
        location = decode_object(stored).location
        path = segment_path(tmp_path / "journal", location.segment)
        last = location.offset + location.length - 1
        flip(path, last)
        with pytest.raises(Damaged):
            await ask(here, b"two", 3, 1, condition=condition)
        assert not primary.replica.log.entries

        async def repair(key: bytes) -> bool:
            assert key == object_key(here.bucket.id, KEY)
            flip(path, last)
            return True

        primary.server.repair = repair
        await here.commit(ask(here, b"two", 3, 2, condition=condition))
        assert await stands(here) == b"onetwo"
