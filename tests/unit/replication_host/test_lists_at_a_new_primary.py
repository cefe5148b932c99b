"""Whoever reads many keys at once at a new primary sees what the old one acknowledged (rule R3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.unit.replication_host.new_primary import (
    BUCKET,
    KEY,
    OBJECT,
    OPEN_UPLOAD,
    PART,
    POOL,
    SHARD,
    UPLOAD,
    NewPrimary,
    taking_over,
)
from tests.unit.replication_host.test_restart_of_a_host import OTHER

from octad.sharding.ids import Epoch, Seq
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.operations.index_changes import (
    put_object,
)
from octad.storage_node.rpc.rpc_errors import RpcRefusal
from octad.storage_node.shards import object_messages as messages

LIST_KEYS = messages.ListKeys(POOL.id, BUCKET, b"", b"", b"", 1000)
LIST_UPLOADS = messages.ListUploads(POOL.id, BUCKET, b"", b"", b"", 1000)
LIST_PARTS = messages.ListParts(SHARD, BUCKET, KEY, UPLOAD, 0, 1000)


async def test_a_list_has_what_the_old_primary_acknowledged(tmp_path: Path) -> None:
    async with taking_over(tmp_path, [OBJECT]) as (primary, _):
        primary.last_ack()  # It serves from now on, and its index is behind until the next turn.
        listed = await primary.ask(LIST_KEYS)
        assert isinstance(listed, messages.KeysListed)
        assert [key for key, _ in listed.entries] == [KEY]
        assert (listed.covered, listed.depths) == ([(SHARD, primary.replica.epoch)], (0,))


async def test_a_list_of_uploads_has_what_the_old_primary_acknowledged(tmp_path: Path) -> None:
    async with taking_over(tmp_path, [OPEN_UPLOAD]) as (primary, _):
        primary.last_ack()
        listed = await primary.ask(LIST_UPLOADS)
        assert isinstance(listed, messages.UploadsListed)
        assert [upload for _, upload, _ in listed.uploads] == [UPLOAD]
        assert (listed.covered, listed.depths) == ([(SHARD, primary.replica.epoch)], (0,))


async def test_a_list_of_parts_has_what_the_old_primary_acknowledged(tmp_path: Path) -> None:
    async with taking_over(tmp_path, [OPEN_UPLOAD, PART]) as (primary, _):
        primary.last_ack(Seq(1))
        await primary.host.applier.applied()  # The upload is in the index, the part is not.
        primary.last_ack()
        listed = await primary.ask(LIST_PARTS)
        assert isinstance(listed, messages.PartsListed)
        assert [number for number, _ in listed.parts] == [1]


async def test_a_list_ends_while_others_write_on_and_on(tmp_path: Path) -> None:
    writes = [put_object(BUCKET, b"%d" % number, ObjectRow(0, "", 0)) for number in range(200)]
    async with taking_over(tmp_path, writes) as (primary, _):
        log = primary.replica.log
        primary.replica.primary.barrier = Seq(1)  # The writes are of this primary's time.
        listing = asyncio.create_task(primary.ask(LIST_KEYS))
        while not listing.done():
            assert log.commit < log.end, "it waits for the last of all writes"
            primary.last_ack(Seq(log.commit + 1))
            await asyncio.sleep(0)
        listed = await listing
        assert isinstance(listed, messages.KeysListed)
        assert listed.covered
        assert b"0" in dict(listed.entries)


def take_away(primary: NewPrimary) -> None:
    """Another primary is in the configuration."""
    configuration = primary.configurations[SHARD]
    taken = msgspec.structs.replace(
        configuration, epoch=Epoch(configuration.epoch + 1), primary=OTHER
    )
    primary.host.on_configuration(SHARD, taken)


def end_lease(primary: NewPrimary) -> None:
    """The other member's promise is over."""
    primary.host.leases.forget(SHARD)


@pytest.mark.parametrize("lose", [take_away, end_lease])
async def test_who_loses_a_shard_while_a_list_of_it_waits_does_not_answer_for_it(
    tmp_path: Path, lose: Callable[[NewPrimary], None]
) -> None:
    async with taking_over(tmp_path, [OPEN_UPLOAD]) as (primary, _):
        asked = (LIST_KEYS, LIST_UPLOADS, LIST_PARTS)
        lists = [asyncio.create_task(primary.ask(message)) for message in asked]
        asyncio.get_running_loop().call_soon(lose, primary)  # When they have begun to wait.
        primary.last_ack()
        keys, uploads, parts = await asyncio.gather(*lists, return_exceptions=True)
        assert isinstance(keys, messages.KeysListed)
        assert isinstance(uploads, messages.UploadsListed)
        assert keys.covered == uploads.covered == []
        assert isinstance(parts, RpcRefusal)
        assert parts.code == messages.NOT_SERVED
