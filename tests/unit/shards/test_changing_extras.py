"""Extras of an object change where it is ordered: all else of it stays, whatever is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.unit.replication_host.new_primary import KEY, NewPrimary, taking_over

from octad.sharding.limits import SDK_RETRY_AGE_S
from octad.storage_node.index.index_format import DEAD_EXTENTS, SHARD_ORDER
from octad.storage_node.index.rows import ExtentRef, ExtrasChange, ObjectExtras, ObjectRow
from octad.storage_node.operations.index_changes import Refused
from octad.storage_node.operations.registry import EXTRAS_LEVEL
from octad.storage_node.shards.object_store import (
    Bucket,
    Degraded,
    NoSuchKey,
    PreconditionFailed,
    StoredObject,
    Written,
)

FIRST, SECOND, THIRD = (bytes([number]) * 16 for number in (201, 202, 203))
ROW = ObjectRow(5, "etag", 17, {"content-type": "text/plain"})
EXTENTS = (ExtentRef(bytes(16), 300_000),)
TAGGED = ObjectExtras({"a": "1"})


Answered = TypeVar("Answered")


class Site:
    """A primary by which nothing is committed but by `commit`."""

    def __init__(self, primary: NewPrimary, bucket: Bucket) -> None:
        self.primary = primary
        self.bucket = bucket

    def put(
        self, row: ObjectRow, data: bytes = b"", request: bytes = FIRST
    ) -> asyncio.Task[Written]:
        return began(self.primary.store.put_object(self.bucket, KEY, row, data, request))

    def change(
        self, change: ExtrasChange, request: bytes = SECOND, age_s: float = 0.0
    ) -> asyncio.Task[Degraded | None]:
        of = self.bucket, KEY, change, request, age_s
        return began(self.primary.store.change_extras(*of))

    def delete(self) -> asyncio.Task[Degraded | None]:
        return began(self.primary.store.delete_object(self.bucket, KEY, THIRD))

    async def commit(self, *tries: asyncio.Task[Any]) -> None:
        """All that is prepared; then these are answered."""
        await turns()
        self.primary.last_ack()
        await asyncio.gather(*tries)

    async def read(self) -> StoredObject | None:
        return await self.primary.store.get_object(self.bucket, KEY)

    async def stands(self) -> tuple[ObjectRow, bytes]:
        """The object, which is in its record."""
        stored = await self.read()
        assert stored is not None
        assert stored.data is not None
        return stored.row, bytes(stored.data)

    def rows(self, table: bytes) -> list[bytes]:
        return [key for key, _ in self.primary.host.index.scan(table, bytes([table[0] + 1]))]


def began(asked: Coroutine[Any, Any, Answered]) -> asyncio.Task[Answered]:
    return asyncio.create_task(asked)


async def turns() -> None:
    """Everything that can happen now has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    async with taking_over(directory, []) as (primary, bucket):
        primary.last_ack()
        await primary.host.applier.applied()
        yield Site(primary, bucket)


def with_tags(**tags: str) -> ExtrasChange:
    return ExtrasChange(tags=tags)


async def test_extras_change_and_nothing_else_of_the_object_does(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(here.put(ROW, b"bytes"))
        changes = (
            (ExtrasChange(tags={"a": "1"}), TAGGED),
            (ExtrasChange(acl="public-read"), ObjectExtras({"a": "1"}, "public-read")),
            (ExtrasChange(tags={}), ObjectExtras(acl="public-read")),
            (ExtrasChange(acl=""), None),
        )
        for number, (change, extras) in enumerate(changes):
            await here.commit(here.change(change, bytes([number]) * 16))
            row = ObjectRow(5, "etag", 17, ROW.headers, extras=extras)
            assert await here.stands() == (row, b"bytes")
        assert len(here.rows(SHARD_ORDER)) == 1


async def test_a_change_is_for_an_object_with_the_list_that_was_seen(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(here.put(ROW, b"bytes"))
        unseen = here.change(ExtrasChange(acl="public-read", acl_before="grants:bob=READ"))
        await turns()
        with pytest.raises(PreconditionFailed):
            await unseen
        assert await here.stands() == (ROW, b"bytes")
        await here.commit(here.change(ExtrasChange(acl="public-read", acl_before=""), THIRD))
        row, _ = await here.stands()
        assert row.extras == ObjectExtras(acl="public-read")


async def test_extents_of_an_object_whose_extras_change_stay_its_own(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        large = ObjectRow(300_000, "etag", 17, extents=EXTENTS)
        await here.commit(here.put(large))
        await here.commit(here.change(with_tags(a="1")))
        row = await here.primary.store.get_row(here.bucket, KEY)
        assert row is not None
        assert (row.extents, row.extras) == (EXTENTS, TAGGED)
        assert here.rows(DEAD_EXTENTS) == []
        await here.commit(here.delete())
        assert len(here.rows(DEAD_EXTENTS)) == 1, "they die with the object, once"


async def test_a_change_behind_a_put_on_its_way_is_of_what_is_put(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(here.put(ROW, b"bytes", THIRD))
        put = here.put(ObjectRow(3, "newer", 18), b"new")
        await turns()
        await here.commit(put, here.change(with_tags(a="1")))
        assert await here.stands() == (ObjectRow(3, "newer", 18, extras=TAGGED), b"new")


async def test_a_put_behind_a_change_has_none_of_its_extras(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(here.put(ROW, b"bytes", THIRD))
        changed = here.change(with_tags(a="1"))
        await turns()
        await here.commit(changed, here.put(ObjectRow(3, "newer", 18), b"new"))
        assert await here.stands() == (ObjectRow(3, "newer", 18), b"new")


async def test_a_change_does_not_bring_back_what_is_deleted(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(here.put(ROW, b"bytes"))
        deleted = here.delete()
        await turns()
        changed = here.change(with_tags(a="1"))
        with pytest.raises(NoSuchKey):
            await here.commit(deleted, changed)
        assert await here.read() is None


async def test_a_later_try_of_a_change_that_was_made_changes_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.commit(here.put(ROW, b"bytes"))
        await here.commit(here.change(with_tags(a="1")))
        await here.commit(here.change(with_tags(a="2"), THIRD))
        await here.commit(here.change(with_tags(a="1"), SECOND, SDK_RETRY_AGE_S))
        row, _ = await here.stands()
        assert row.extras == ObjectExtras({"a": "2"})


async def test_a_refused_change_is_refused_for_good(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        later = here.change(with_tags(a="1"), SECOND, SDK_RETRY_AGE_S)
        await turns()
        assert [type(each.operation) for each in here.primary.replica.log.entries] == [Refused]
        with pytest.raises(NoSuchKey):
            await here.commit(later)
        await here.commit(here.put(ROW, b"bytes"))
        with pytest.raises(NoSuchKey):
            await here.commit(here.change(with_tags(a="1"), SECOND, SDK_RETRY_AGE_S))


async def test_extras_are_kept_once_every_node_of_the_cluster_knows_them(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.primary.host.level = 1
        for level, kept in ((2, False), (EXTRAS_LEVEL, True), (2, True)):
            here.primary.host.use_level(level)
            assert here.primary.store.keeps_extras is kept
