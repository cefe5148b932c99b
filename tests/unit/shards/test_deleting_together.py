"""Objects that are deleted together: one entry of each shard, and each key by itself where not."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.replication_host.new_primary import SHARD, NewPrimary, taking_over

from octad.storage_node.index.index_format import OBJECTS, decode_object_key
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.operations.index_changes import DeleteObject
from octad.storage_node.operations.objects import DeleteObjects
from octad.storage_node.operations.registry import DELETIONS_LEVEL
from octad.storage_node.rpc.messages import Reply, Request
from octad.storage_node.rpc.peer_connection import Buffer
from octad.storage_node.shards.object_messages import DeleteKeys
from octad.storage_node.shards.object_store import Bucket, Degraded, StoreError, Unavailable

KEYS = [b"one", b"two", b"three"]
IDS = {key: key.ljust(16, b".") for key in KEYS}
ROW = ObjectRow(0, "etag", 17)

Outcomes = dict[bytes, Degraded | StoreError | None]


class Site:
    """A primary that has these keys. The other member acknowledges in `answered` alone."""

    def __init__(self, primary: NewPrimary, bucket: Bucket) -> None:
        self.primary = primary
        self.bucket = bucket

    async def answered(self, begun: asyncio.Task[Outcomes]) -> Outcomes:
        """All that it orders is acknowledged, until it is done."""
        while not begun.done():
            await asyncio.sleep(0.001)
            self.primary.last_ack()
        return await begun

    def delete(self, *keys: bytes) -> asyncio.Task[Outcomes]:
        asked = {key: IDS.get(key, key.ljust(16, b"_")) for key in keys}
        return asyncio.create_task(self.primary.store.delete_objects(self.bucket, asked))

    @property
    def ordered(self) -> list[type]:
        """What the entries are that are not applied yet."""
        return [type(entry.operation) for entry in self.primary.replica.log.entries]

    def keys(self) -> set[bytes]:
        rows = self.primary.host.index.scan(OBJECTS, past(OBJECTS))
        return {decode_object_key(key)[1] for key, _ in rows}


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    async with taking_over(directory, []) as (primary, bucket):
        primary.host.use_level(DELETIONS_LEVEL)
        primary.last_ack()
        await primary.host.applier.applied()
        here = Site(primary, bucket)
        for number, key in enumerate(KEYS):
            put = primary.store.put_object(bucket, key, ROW, b"", bytes([number + 1]) * 16)
            task = asyncio.create_task(put)
            await asyncio.sleep(0)
            primary.last_ack()
            await task
        yield here


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_there_is_deleted_by_one_entry_and_what_is_not_is_a_success(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        begun = here.delete(*KEYS, b"never there")
        await turns()
        assert here.ordered == [DeleteObjects]
        (entry,) = here.primary.replica.log.entries
        assert isinstance(entry.operation, DeleteObjects)
        ids = [each.request_id for each in entry.operation.records]
        assert ids == [IDS[key] for key in KEYS], "and nothing is ordered for what is not there"
        assert await here.answered(begun) == dict.fromkeys([*KEYS, b"never there"])
        assert here.keys() == set()


async def test_one_key_of_a_shard_is_deleted_as_ever(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        begun = here.delete(KEYS[0])
        await turns()
        assert here.ordered == [DeleteObject]
        await here.answered(begun)
        assert here.keys() == {*KEYS[1:]}


async def test_each_is_deleted_by_itself_while_a_node_does_not_know_such_entries(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        here.primary.host.level = DELETIONS_LEVEL - 1
        begun = here.delete(*KEYS)
        await turns()
        assert here.ordered == [DeleteObject] * 3
        await here.answered(begun)
        assert here.keys() == set()


async def test_keys_of_an_answer_that_is_lost_are_asked_for_by_themselves_and_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path) as here:
        client, call, end = here.primary.client, here.primary.client.call, 0

        async def lost(
            node: int,
            message: Request[Reply],
            body: Buffer,
            timeout_s: float,
            about: int | None = None,
        ) -> tuple[Reply, Buffer]:
            nonlocal end
            answer = await call(node, message, body, timeout_s, about)  # type: ignore[arg-type]
            if isinstance(message, DeleteKeys):
                end = here.primary.replica.log.end
                raise Unavailable("lost on its way")
            return answer

        monkeypatch.setattr(client, "call", lost)
        begun = here.delete(*KEYS)
        assert await here.answered(begun) == dict.fromkeys(KEYS)
        assert end > 0
        assert here.primary.replica.log.end == end, "no key is deleted once more"
        assert here.keys() == set()


async def test_a_late_copy_of_a_message_deletes_nothing_that_was_put_since(
    tmp_path: Path,
) -> None:
    """Its keys were asked for by themselves meanwhile: one of them, or all."""
    async with site(tmp_path) as here:
        primary, bucket = here.primary, here.bucket
        late = DeleteKeys(bucket.id, [(SHARD, [(key, IDS[key]) for key in KEYS])])
        for key in KEYS:
            alone = primary.store.delete_object(bucket, key, IDS[key], 1.0)
            task = asyncio.create_task(alone)
            await turns()
            primary.last_ack()
            await task
            put = asyncio.create_task(
                primary.store.put_object(bucket, key, ROW, b"", key.ljust(16, b"!"))
            )
            await turns()
            primary.last_ack()
            await put
            end = primary.replica.log.end
            answer = await primary.ask(late)
            assert answer.outcomes[0][0] != ""
            assert primary.replica.log.end == end
        assert here.keys() == {*KEYS}


async def test_who_does_not_wait_for_several_entries_leaves_no_failure_that_nobody_hears(
    tmp_path: Path,
) -> None:
    """Of the node that ends before they are committed."""
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with site(tmp_path) as here:
        each_alone = [(SHARD, [(key, IDS[key])]) for key in KEYS]
        asked = asyncio.create_task(here.primary.ask(DeleteKeys(here.bucket.id, each_alone)))
        await turns()
        assert here.ordered == [DeleteObject] * 3
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    gc.collect()
    assert unheard == []


async def test_what_another_node_leads_by_now_is_asked_for_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that was asked orders nothing of it."""
    async with site(tmp_path) as here:
        monkeypatch.setattr(here.primary.host, "covers", lambda *_: False)
        answer = await here.primary.ask(
            DeleteKeys(here.bucket.id, [(SHARD, [(b"one", IDS[b"one"])])])
        )
        assert answer.outcomes == [("not-served", 0)]
        assert here.ordered == []
