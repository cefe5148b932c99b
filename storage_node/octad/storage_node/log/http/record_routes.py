"""The log's HTTP for records: append, fetch, follow, find, trim."""

from __future__ import annotations

import time
from http import HTTPStatus

from aiohttp import web

from octad.client.log.log_documents import (
    BATCHES_TYPE,
    END,
    EVENTS_TYPE,
    JSON_TYPE,
    MARK_HEADER,
    NEXT_HEADER,
    START,
    START_HEADER,
    AppendedDocument,
    AppendRequest,
    FetchedDocument,
    OffsetDocument,
    TrimRequest,
)
from octad.storage_node.log.http.log_events import write_events
from octad.storage_node.log.http.log_forms import (
    Fetching,
    bad_request,
    batch_in,
    document_in,
    documents_from,
    fetching_in,
    job_in,
    job_of,
    number_in,
)
from octad.storage_node.log.http.log_refusals import Refused
from octad.storage_node.log.http.log_requests import (
    PARTITION,
    Asked,
    Route,
    json_answer,
    partition_document,
    place_in,
)
from octad.storage_node.log.log_messages import PartitionRead
from octad.storage_node.log.partition_tail import ANY_OFFSET
from octad.storage_node.log.record_batch import BATCH_BYTES_MAX, check_batch, split_batches
from octad.storage_node.log.topic_log import Appended, AppendRefused, Batch, TopicLog
from octad.storage_node.shards.object_store import Topic


class RecordRoutes:
    """See the module."""

    def __init__(self, log: TopicLog) -> None:
        self._log = log

    def routes(self) -> list[Route]:
        return [
            ("POST", f"{PARTITION}/records", self._append),
            ("GET", f"{PARTITION}/records", self._fetch),
            ("GET", f"{PARTITION}/offsets", self._find),
            ("POST", f"{PARTITION}/trim", self._trim),
        ]

    async def _append(self, asked: Asked) -> web.Response:
        topic, number = await place_in(self._log, asked)
        kind = asked.http.content_type
        if kind == BATCHES_TYPE:
            data = memoryview(asked.body)
            expected = number_in(asked.http.query, "expect_offset", ANY_OFFSET)
            job = job_in(asked.http.query)
        elif kind == JSON_TYPE:
            wanted = document_in(asked.body, AppendRequest)
            data = memoryview(batch_in(wanted, int(time.time() * 1000)))
            expected = ANY_OFFSET if wanted.expect_offset is None else wanted.expect_offset
            if expected < ANY_OFFSET:
                raise bad_request(f"there is no offset {expected}")
            job = job_of(wanted.job, wanted.token)
        else:
            said = f"a body is {JSON_TYPE} or {BATCHES_TYPE}, and not {kind}"
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-type", said)
        batches = _checked(data)
        appended: list[Appended] = []
        for outcome in await self._log.append(topic, number, batches, expected, *job):
            if isinstance(outcome, AppendRefused):
                raise outcome  # Those before it are appended, as the next offset shows.
            appended.append(outcome)
        copies = [each.degraded.copies for each in appended if each.degraded is not None]
        next_ = appended[-1].base + batches[-1].header.records
        return json_answer(AppendedDocument(appended[0].base, next_, min(copies, default=None)))

    async def _fetch(self, asked: Asked) -> web.StreamResponse:
        topic, number = await place_in(self._log, asked)
        fetching = fetching_in(asked.http.query)
        kind = asked.http.headers.get("Accept", JSON_TYPE)
        if kind == EVENTS_TYPE:
            return await self._stream(asked, topic, number, fetching)
        offset = await self._offset(topic, number, fetching)
        fetched, data = await self._log.fetch(
            topic, number, offset, fetching.bytes_max, fetching.wait_s, fetching.seen
        )
        view = memoryview(data)
        next_ = offset
        for header, _ in split_batches(view):
            next_ = header.base + header.last_delta + 1
        if kind == BATCHES_TYPE:
            numbers = {START_HEADER: fetched.start, NEXT_HEADER: next_, MARK_HEADER: fetched.next}
            headers = {name: str(each) for name, each in numbers.items()}
            return web.Response(body=bytes(view), content_type=BATCHES_TYPE, headers=headers)
        records = list(documents_from(view, offset))
        return json_answer(FetchedDocument(records, next_, fetched.next, fetched.start))

    async def _stream(
        self, asked: Asked, topic: Topic, number: int, fetching: Fetching
    ) -> web.StreamResponse:
        last = asked.http.headers.get("Last-Event-ID")
        if last is None:
            offset = await self._offset(topic, number, fetching)
        else:
            offset = number_in({"id": last}, "id", 0) + 1
        return await write_events(asked.http, self._log, topic, number, offset)

    async def _offset(self, topic: Topic, number: int, fetching: Fetching) -> int:
        wanted = fetching.offset
        if wanted is None:
            return await self._log.offset_of(topic, number, fetching.time_ms)
        if isinstance(wanted, int):
            return wanted
        bounds: PartitionRead = await self._log.bounds(topic, number)
        assert wanted in (START, END)
        return bounds.next if wanted == END else bounds.start

    async def _find(self, asked: Asked) -> web.Response:
        topic, number = await place_in(self._log, asked)
        time_ms = number_in(asked.http.query, "timestamp_ms", -1)
        if time_ms < 0:
            raise bad_request("say which time: timestamp_ms")
        offset = await self._log.offset_of(topic, number, time_ms)
        return json_answer(OffsetDocument(number, time_ms, offset))

    async def _trim(self, asked: Asked) -> web.Response:
        topic, number = await place_in(self._log, asked)
        before = document_in(asked.body, TrimRequest).before_offset
        if before < 0:
            raise bad_request(f"there is no offset {before}")
        await self._log.trim(topic, number, before)
        bounds = await self._log.bounds(topic, number)
        return json_answer(partition_document(number, bounds))


def _checked(data: memoryview) -> list[Batch]:
    """The batches of a body, each of them right. Raises BadBatch."""
    batches: list[Batch] = []
    for header, batch in split_batches(data):
        check_batch(header, batch, BATCH_BYTES_MAX)
        batches.append(Batch(header, batch))
    if not batches:
        raise bad_request("there is no batch in it")
    return batches
