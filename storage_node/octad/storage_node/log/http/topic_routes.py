"""The log's HTTP for topics: make, list, describe, change and delete them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeVar

from aiohttp import web

from octad.client.log.log_documents import (
    TOPICS_PATH,
    AlterRequest,
    HeldPartitionDocument,
    PartitionDocument,
    ProducerDocument,
    TopicDocument,
    TopicRequest,
    TopicsDocument,
    WhyDocument,
)
from octad.storage_node.log.http.log_forms import check_topic, document_in
from octad.storage_node.log.http.log_reasons import holds_of
from octad.storage_node.log.http.log_requests import (
    TOPIC,
    Asked,
    Route,
    json_answer,
    partition_document,
    topic_in,
)
from octad.storage_node.log.topic_log import TopicLog
from octad.storage_node.log.topic_settings import settings_of
from octad.storage_node.shards.object_store import Topic

_ASKED_AT_ONCE: Final = 64  # Partitions.
Found = TypeVar("Found")


class TopicRoutes:
    """See the module."""

    def __init__(self, log: TopicLog) -> None:
        self._log = log

    def routes(self) -> list[Route]:
        return [
            ("GET", TOPICS_PATH, self._list),
            ("PUT", TOPIC, self._create),
            ("GET", TOPIC, self._describe),
            ("PATCH", TOPIC, self._alter),
            ("GET", f"{TOPIC}/why", self._why),
            ("DELETE", TOPIC, self._delete),
            ("POST", f"{TOPIC}/producers", self._make_producer),
        ]

    async def _list(self, asked: Asked) -> web.Response:
        topics = await self._log.topics(asked.owner)
        return json_answer(TopicsDocument(tuple(_topic_document(topic) for topic in topics)))

    async def _create(self, asked: Asked) -> web.Response:
        name = asked.http.match_info["topic"]
        wanted = document_in(asked.body or b"{}", TopicRequest)
        check_topic(name, wanted)
        of = wanted.partitions, wanted.pool, wanted.config
        topic = await self._log.create(name, asked.owner, *of)
        return json_answer(_topic_document(topic), HTTPStatus.CREATED)

    async def _describe(self, asked: Asked) -> web.Response:
        topic = await topic_in(self._log, asked)
        found = await _of_each(topic, self._log.bounds)
        offsets = tuple(partition_document(number, each) for number, each in enumerate(found))
        return json_answer(_topic_document(topic, offsets))

    async def _alter(self, asked: Asked) -> web.Response:
        topic = await topic_in(self._log, asked)
        changes = document_in(asked.body, AlterRequest).config
        return json_answer(_topic_document(await self._log.alter(topic, changes)))

    async def _why(self, asked: Asked) -> web.Response:
        topic, now_ms = await topic_in(self._log, asked), int(time.time() * 1000)
        settings = settings_of(topic)

        async def why(topic: Topic, number: int) -> HeldPartitionDocument:
            read = await self._log.bounds(topic, number)
            held = await self._log.held(topic, number)
            holds = tuple(holds_of(read, held, settings, now_ms))
            return HeldPartitionDocument(number, read.start, read.next, read.bytes, holds=holds)

        return json_answer(WhyDocument(topic.name, tuple(await _of_each(topic, why))))

    async def _delete(self, asked: Asked) -> web.Response:
        force = asked.http.query.get("force", "false") == "true"
        await self._log.delete(await topic_in(self._log, asked, deleting=True), with_pins=force)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _make_producer(self, asked: Asked) -> web.Response:
        topic = await topic_in(self._log, asked)
        return json_answer(
            ProducerDocument(await self._log.make_producer(topic)), HTTPStatus.CREATED
        )


async def _of_each(topic: Topic, ask: Callable[[Topic, int], Awaitable[Found]]) -> list[Found]:
    """What is found at each partition, some asked at a time."""
    found: list[Found] = []
    for first in range(0, topic.partitions, _ASKED_AT_ONCE):
        numbers = range(first, min(first + _ASKED_AT_ONCE, topic.partitions))
        found += await asyncio.gather(*[ask(topic, number) for number in numbers])
    return found


def _topic_document(topic: Topic, offsets: tuple[PartitionDocument, ...] = ()) -> TopicDocument:
    of = topic.name, topic.id, topic.uuid, topic.pool, topic.owner, topic.created_ms
    return TopicDocument(*of, topic.partitions, offsets, topic.config)
