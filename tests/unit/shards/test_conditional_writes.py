"""A condition is decided where its write is ordered: a yes waits for nothing, a no for all it
saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.unit.replication_host.new_primary import BUCKET, KEY, SHARD, NewPrimary, taking_over

from octad.sharding.limits import SDK_RETRY_AGE_S
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.operations import conditions
from octad.storage_node.operations.conditions import NO_VERSION, Condition, encode_condition
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    Operation,
    PutObject,
    Refused,
    encode_operation,
    kind_of,
    put_object,
)
from octad.storage_node.rpc.messages import encode_message
from octad.storage_node.rpc.rpc_errors import RpcRefusal
from octad.storage_node.shards.object_messages import ChangeIf, Done, Propose
from octad.storage_node.shards.object_store import (
    Bucket,
    ConditionsNotKnown,
    NoSuchKey,
    PreconditionFailed,
)

FIRST, SECOND, THIRD = (bytes([number]) * 16 for number in (201, 202, 203))
ABSENT = Condition(none_match=("*",))


@asynccontextmanager
async def primary_of(directory: Path) -> AsyncIterator[tuple[NewPrimary, Bucket]]:
    """Of a shard without objects; from now on nothing is committed but by `last_ack`."""
    async with taking_over(directory, []) as (primary, bucket):
        primary.last_ack()
        await primary.host.applier.applied()
        yield primary, bucket


def asked(primary: NewPrimary, operation: Operation, request: bytes, age_s: float = 0.0) -> Propose:
    encoded = kind_of(operation), request, encode_operation(operation)
    return Propose(SHARD, *encoded, age_s, primary.replica.primary.term)


def put(etag: str) -> PutObject:
    return put_object(BUCKET, KEY, ObjectRow(0, etag, 0))


def if_so(primary: NewPrimary, condition: Condition, change: Propose) -> asyncio.Task[Done]:
    message = ChangeIf(encode_condition(condition), encode_message(change))
    return asyncio.create_task(primary.ask(message))


async def goes_on(task: asyncio.Task[Done]) -> bool:
    """Whether it still waits when everything that can happen now has happened."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def refusal(task: asyncio.Task[Done]) -> tuple[str, str]:
    with pytest.raises(RpcRefusal) as refused:
        await task
    return refused.value.code, refused.value.text


async def test_of_two_that_create_a_key_at_once_one_is_ordered_and_the_other_waits_for_it(
    tmp_path: Path,
) -> None:
    async with primary_of(tmp_path) as (primary, _):
        one = if_so(primary, ABSENT, asked(primary, put("one"), FIRST))
        assert await goes_on(one)
        other = if_so(primary, ABSENT, asked(primary, put("other"), SECOND))
        assert await goes_on(other), "what it saw is not committed"
        assert len(primary.replica.log.entries) == 1
        primary.last_ack()
        done = await one
        assert (done.epoch, done.seq) == (primary.replica.epoch, primary.replica.log.end)
        assert await refusal(other) == ("precondition-failed", "If-None-Match")


async def test_what_is_accepted_on_a_put_in_flight_is_ordered_behind_it(tmp_path: Path) -> None:
    async with primary_of(tmp_path) as (primary, _):
        one = if_so(primary, ABSENT, asked(primary, put("one"), FIRST))
        assert await goes_on(one)
        next_ = if_so(primary, Condition(match=("one",)), asked(primary, put("two"), SECOND))
        gone = asked(primary, DeleteObject(BUCKET, KEY), THIRD)
        last = if_so(primary, Condition(match=("two",)), gone)
        assert await goes_on(next_)
        assert await goes_on(last)
        assert len(primary.replica.log.entries) == 3
        primary.last_ack()
        seqs = [(await each).seq for each in (one, next_, last)]
        assert seqs == sorted(set(seqs))


async def test_a_retry_of_what_was_done_is_told_so_and_as_which_version_while_that_stands(
    tmp_path: Path,
) -> None:
    async with primary_of(tmp_path) as (primary, _):
        one = if_so(primary, ABSENT, asked(primary, put("one"), FIRST))
        assert await goes_on(one)
        primary.last_ack()
        done = await one
        again = asked(primary, put("one"), FIRST, SDK_RETRY_AGE_S)
        assert await if_so(primary, ABSENT, again) == done
        replaced = asyncio.create_task(primary.ask(asked(primary, put("two"), SECOND)))
        assert await goes_on(replaced)
        primary.last_ack()
        await replaced
        told = await if_so(primary, ABSENT, again)
        assert (told.epoch, told.seq) == (0, done.seq), "done, but nobody knows in which epoch"


async def test_a_refused_first_try_is_never_carried_out_by_a_later_one(tmp_path: Path) -> None:
    async with primary_of(tmp_path) as (primary, _):
        wrong = Condition(match=("one",))
        tried = if_so(primary, wrong, asked(primary, put("two"), FIRST))
        assert (await refusal(tried))[0] == "no-such-key"
        later = if_so(primary, wrong, asked(primary, put("two"), FIRST, SDK_RETRY_AGE_S))
        assert await goes_on(later), "it is an entry, so that no try anywhere is carried out"
        assert [type(each.operation) for each in primary.replica.log.entries] == [Refused]
        primary.last_ack()
        assert (await refusal(later))[0] == "no-such-key"
        one = if_so(primary, ABSENT, asked(primary, put("one"), SECOND))
        assert await goes_on(one)
        primary.last_ack()
        await one  # Now the condition would hold.
        for age_s in (0.0, 1.0, SDK_RETRY_AGE_S):
            again = if_so(primary, wrong, asked(primary, put("two"), FIRST, age_s))
            assert (await refusal(again))[0] == "no-such-key"


async def test_what_a_node_does_not_know_of_a_condition_it_names_and_does_nothing(
    tmp_path: Path,
) -> None:
    async with primary_of(tmp_path) as (primary, _):
        newer = msgspec.msgpack.encode({"match": ["one"], "owner": "somebody"})
        change = encode_message(asked(primary, put("one"), FIRST))
        code, text = await refusal(asyncio.create_task(primary.ask(ChangeIf(newer, change))))
        assert code == "not-served"
        assert "owner" in text
        no_change = ChangeIf(encode_condition(ABSENT), encode_message(Done()))
        assert (await refusal(asyncio.create_task(primary.ask(no_change))))[0] == "unavailable"
        assert not primary.replica.log.entries


async def test_a_door_sends_no_condition_before_every_node_knows_them(tmp_path: Path) -> None:
    async with primary_of(tmp_path) as (primary, bucket):
        store, row = primary.store, ObjectRow(0, "one", 0)
        primary.host.level = conditions.LEVEL - 1
        with pytest.raises(ConditionsNotKnown):
            await store.put_object(bucket, KEY, row, b"", FIRST, 0.0, ABSENT)
        with pytest.raises(ConditionsNotKnown):
            await store.delete_object(bucket, KEY, FIRST, 0.0, ABSENT)
        with pytest.raises(ConditionsNotKnown):
            await store.complete_upload(bucket, KEY, bytes(16), row, [], FIRST, 0.0, ABSENT)
        primary.host.use_level(conditions.LEVEL)
        with pytest.raises(NoSuchKey):
            await store.put_object(bucket, KEY, row, b"", FIRST, 0.0, Condition(match=("*",)))
        writing = asyncio.create_task(store.put_object(bucket, KEY, row, b"", SECOND, 0.0, ABSENT))
        while not primary.replica.log.entries:
            await asyncio.sleep(0)
        primary.last_ack()
        written = await writing
        assert written.version != NO_VERSION
        stored = await store.head_object(bucket, KEY)
        assert stored is not None
        assert stored.version == written.version
        other = Condition(version=NO_VERSION)
        with pytest.raises(PreconditionFailed, match="x-octad-if-version"):
            await store.delete_object(bucket, KEY, THIRD, 0.0, other)
