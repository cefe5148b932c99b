"""What changes an upload goes by what is prepared: a yes waits for nothing, a no for all it saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.replication_host.new_primary import (
    BUCKET,
    KEY,
    OPEN_UPLOAD,
    SHARD,
    UPLOAD,
    NewPrimary,
    taking_over,
)

from octad.sharding.ids import Epoch
from octad.sharding.limits import SDK_RETRY_AGE_S
from octad.storage_node.index.rows import ObjectRow, PartRow
from octad.storage_node.operations.index_changes import (
    AbortUpload,
    CompleteUpload,
    Operation,
    PutPart,
    Refused,
    encode_operation,
    kind_of,
)
from octad.storage_node.operations.registry import kinds_above
from octad.storage_node.rpc.rpc_errors import RpcRefusal
from octad.storage_node.shards.object_messages import AbortParts, CompleteParts, Propose

FIRST, SECOND, THIRD = (bytes([number]) * 16 for number in (201, 202, 203))
ROW = ObjectRow(0, "etag", 0)


@asynccontextmanager
async def primary_of(directory: Path) -> AsyncIterator[NewPrimary]:
    """Of a shard with an open upload; from now on nothing is committed but by `last_ack`."""
    async with taking_over(directory, [OPEN_UPLOAD]) as (primary, _):
        primary.last_ack()
        await primary.host.applier.applied()
        yield primary


class Try:
    """Of a change that the primary is asked for."""

    def __init__(self, primary: NewPrimary, message: Propose | CompleteParts | AbortParts) -> None:
        self.task = asyncio.create_task(primary.ask(message))

    async def goes_on(self) -> bool:
        """Whether it still waits when everything that can happen now has happened."""
        for _ in range(5):
            await asyncio.sleep(0)
        return not self.task.done()

    async def refusal(self) -> str:
        with pytest.raises(RpcRefusal) as refused:
            await self.task
        return refused.value.code


def term_of(primary: NewPrimary) -> Epoch:
    return primary.replica.primary.term


def part(primary: NewPrimary, number: int, request: bytes, age_s: float = 0.0) -> Try:
    operation = PutPart(BUCKET, KEY, UPLOAD, number, PartRow(1, f"etag{number}", 0))
    encoded = kind_of(operation), request, encode_operation(operation)
    return Try(primary, Propose(SHARD, *encoded, age_s, term_of(primary)))


def completion(
    primary: NewPrimary, parts: list[tuple[int, str]], request: bytes, age_s: float = 0.0
) -> Try:
    which = SHARD, BUCKET, KEY, UPLOAD, ROW, parts, request
    return Try(primary, CompleteParts(*which, age_s, term_of(primary)))


def abort(primary: NewPrimary, request: bytes, age_s: float = 0.0) -> Try:
    return Try(primary, AbortParts(SHARD, BUCKET, KEY, UPLOAD, request, age_s, term_of(primary)))


def prepared(primary: NewPrimary) -> list[Operation]:
    return [entry.operation for entry in primary.replica.log.entries]


async def test_parts_in_flight_are_completed_with_all_that_they_consist_of(tmp_path: Path) -> None:
    async with primary_of(tmp_path) as primary:
        tries = [part(primary, 1, FIRST), part(primary, 2, SECOND)]
        assert all([await each.goes_on() for each in tries])
        done = completion(primary, [(2, "etag2")], THIRD)
        assert await done.goes_on()
        last = prepared(primary)[-1]
        assert isinstance(last, CompleteUpload)
        assert (last.parts, last.row.part_sizes) == ((1, 2), (1,))
        primary.last_ack()
        await asyncio.gather(done.task, *(each.task for each in tries))


async def test_an_upload_that_two_end_at_once_ends_once(tmp_path: Path) -> None:
    async with primary_of(tmp_path) as primary:
        one, other = abort(primary, FIRST), abort(primary, SECOND)
        assert await one.goes_on()
        assert await other.goes_on(), "what it saw is not committed"
        assert sum(isinstance(each, AbortUpload) for each in prepared(primary)) == 1
        primary.last_ack()
        await one.task
        assert await other.refusal() == "no-such-upload"


async def test_a_refusal_waits_for_the_parts_that_it_saw(tmp_path: Path) -> None:
    async with primary_of(tmp_path) as primary:
        sent = part(primary, 1, FIRST)
        assert await sent.goes_on()
        wrong = completion(primary, [(1, "another etag")], SECOND)
        assert await wrong.goes_on()
        primary.last_ack()
        await sent.task
        assert await wrong.refusal() == "invalid-part"
        right = completion(primary, [(1, "etag1")], SECOND)
        assert await right.refusal() == "invalid-part", "no try of it is executed any more"


async def test_a_refusal_of_what_is_committed_is_answered_at_once(tmp_path: Path) -> None:
    async with primary_of(tmp_path) as primary:
        wrong = completion(primary, [(1, "etag1")], FIRST)
        assert not await wrong.goes_on()
        assert await wrong.refusal() == "invalid-part"
        assert prepared(primary) == []


async def test_the_refusal_of_a_later_try_is_committed_before_it_is_answered(
    tmp_path: Path,
) -> None:
    async with primary_of(tmp_path) as primary:
        later = completion(primary, [(1, "etag1")], FIRST, SDK_RETRY_AGE_S)
        assert await later.goes_on()
        assert [type(each) for each in prepared(primary)] == [Refused]
        primary.last_ack()
        assert await later.refusal() == "invalid-part"
        sent = part(primary, 1, SECOND)
        assert await sent.goes_on()
        primary.last_ack()
        await sent.task
        for age_s in (0.0, 1.0, SDK_RETRY_AGE_S):
            again = completion(primary, [(1, "etag1")], FIRST, age_s)
            assert await again.refusal() == "invalid-part"


async def test_no_refusal_is_an_entry_before_every_node_can_read_it(tmp_path: Path) -> None:
    async with primary_of(tmp_path) as primary:
        primary.host.kinds_too_new = kinds_above(1)
        later = completion(primary, [(1, "etag1")], FIRST, SDK_RETRY_AGE_S)
        assert await later.refusal() == "invalid-part"
        assert prepared(primary) == []
