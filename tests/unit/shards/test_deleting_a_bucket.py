"""A bucket is deleted only when nothing that is acknowledged, or may yet be, is in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.replication_host.new_primary import (
    KEY,
    OBJECT,
    OPEN_UPLOAD,
    PART,
    SHARD,
    UPLOAD,
    started,
    taking_over,
)

from octad.coordinator.store.interface import Revision
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.operations.index_changes import CompleteUpload
from octad.storage_node.replication.host.index_applier import WriteFailed
from octad.storage_node.replication.writes import write_of
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.bucket_directory import ACTIVE, DELETING
from octad.storage_node.shards.object_store import (
    Bucket,
    BucketNotEmpty,
    CompletedPart,
    NoSuchBucket,
)

REQUEST = b"a request's id.."


async def test_a_bucket_with_what_the_old_primary_acknowledged_is_not_deleted(
    tmp_path: Path,
) -> None:
    """The new one takes over between the end of the bucket's writes and the look at its keys."""
    async with started(tmp_path, [OBJECT]) as (primary, bucket):
        takeover: list[asyncio.Task[None]] = []

        def look_at_keys() -> None:
            if not takeover:
                takeover.append(asyncio.create_task(primary.take_over()))
            elif takeover[0].done():
                primary.last_ack()

        primary.client.before, primary.client.comes_in = messages.ListKeys, look_at_keys
        with pytest.raises(BucketNotEmpty):
            await primary.store.delete_bucket(bucket)


async def test_a_bucket_is_not_deleted_while_a_write_that_nobody_waits_for_may_be_committed(
    tmp_path: Path,
) -> None:
    async with taking_over(tmp_path, []) as (primary, bucket):
        primary.last_ack()
        given_up = primary.host.propose(SHARD, write_of(OBJECT, REQUEST))
        primary.host.applier.fail(list(primary.replica.log.entries), "it takes too long")
        with pytest.raises(WriteFailed):
            await given_up
        loop = asyncio.get_running_loop()
        primary.client.before = messages.CloseBucket
        primary.client.comes_in = lambda: loop.call_later(0.1, primary.last_ack)
        with pytest.raises(BucketNotEmpty):
            await primary.store.delete_bucket(bucket)


async def test_a_bucket_is_closed_at_whoever_may_lead_before_its_keys_are_looked_at(
    tmp_path: Path,
) -> None:
    async with taking_over(tmp_path, []) as (primary, bucket):
        primary.last_ack()
        closed: list[bool] = []
        primary.client.before = messages.ListKeys
        primary.client.comes_in = lambda: closed.append(primary.client.closed_at_other)
        await primary.store.delete_bucket(bucket)
        assert closed == [True]


async def test_an_upload_whose_completion_is_in_flight_keeps_its_bucket(tmp_path: Path) -> None:
    async with taking_over(tmp_path, [OPEN_UPLOAD]) as (primary, bucket):
        primary.last_ack()
        await primary.host.applier.applied()
        part = primary.host.propose(SHARD, write_of(PART, REQUEST))
        row, parts = ObjectRow(0, "etag", 0), [CompletedPart(1, "etag", {})]
        completing = asyncio.create_task(
            primary.store.complete_upload(bucket, KEY, UPLOAD, row, parts, b"another request.")
        )
        await asyncio.sleep(0)
        assert isinstance(primary.replica.log.entries[-1].operation, CompleteUpload), (
            "it waits for no part"
        )
        loop = asyncio.get_running_loop()
        primary.client.before = messages.CloseBucket
        primary.client.comes_in = lambda: loop.call_later(0.1, primary.last_ack)
        with pytest.raises(BucketNotEmpty):
            await primary.store.delete_bucket(bucket)
        await part
        await completing


async def test_an_upload_whose_bucket_is_closed_is_not_completed(tmp_path: Path) -> None:
    async with taking_over(tmp_path, [OPEN_UPLOAD]) as (primary, bucket):
        primary.last_ack()
        await primary.host.applier.applied()
        await primary.buckets.set_state(bucket, DELETING)
        await primary.buckets.refresh()
        row = ObjectRow(0, "etag", 0)
        with pytest.raises(NoSuchBucket):
            await primary.store.complete_upload(bucket, KEY, UPLOAD, row, [], REQUEST)


async def test_a_bucket_that_another_deletion_gave_back_meanwhile_is_not_removed_with_new_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with taking_over(tmp_path, []) as (primary, bucket):
        primary.last_ack()
        original = primary.buckets.remove
        tries = 0

        async def remove(which: Bucket, since: Revision) -> bool:
            nonlocal tries
            tries += 1
            if tries == 1:
                await primary.buckets.set_state(bucket, ACTIVE)
                put = primary.host.propose(SHARD, write_of(OBJECT, REQUEST))
                primary.last_ack()
                await put
            return await original(which, since)

        monkeypatch.setattr(primary.buckets, "remove", remove)
        with pytest.raises(BucketNotEmpty):
            await primary.store.delete_bucket(bucket)
        assert tries == 1
