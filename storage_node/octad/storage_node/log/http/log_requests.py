"""Requests to the log's door: who asks, for which topic, and answers in JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeAlias

import msgspec
from aiohttp import web

from octad.client.log.log_documents import JSON_TYPE, TOPICS_PATH, PartitionDocument
from octad.client.s3.errors import S3Error
from octad.storage_node.log.http.log_forms import partition_in
from octad.storage_node.log.log_messages import PartitionRead
from octad.storage_node.log.topic_log import TopicLog
from octad.storage_node.shards.object_store import Topic

TOPIC: Final = TOPICS_PATH + "/{topic}"
PARTITION: Final = TOPIC + "/partitions/{partition}"


class Asked:
    """A request whose signature holds, and the owner that it speaks for."""

    __slots__ = ("body", "content_sha256", "http", "length", "owner")

    def __init__(self, http: web.Request, owner: str, content_sha256: str, length: int) -> None:
        self.http = http
        self.owner = owner
        self.content_sha256 = content_sha256  # Signed for the body, or "".
        self.length = length
        self.body = b""  # Read before it is looked at.


Handler: TypeAlias = Callable[[Asked], Awaitable[web.StreamResponse]]
Route: TypeAlias = tuple[str, str, Handler]
"""A method, a path, and what answers it."""


async def topic_in(log: TopicLog, asked: Asked, *, deleting: bool = False) -> Topic:
    """The topic that is asked for, of its owner. Raises S3Error for anybody else."""
    topic = await log.topic(asked.http.match_info["topic"], deleting=deleting)
    if topic.owner != asked.owner:
        raise S3Error("AccessDenied")
    return topic


async def place_in(log: TopicLog, asked: Asked) -> tuple[Topic, int]:
    """The topic and the partition that are asked for."""
    topic = await topic_in(log, asked)
    return topic, partition_in(asked.http.match_info["partition"], topic.partitions)


def partition_document(number: int, read: PartitionRead) -> PartitionDocument:
    return PartitionDocument(number, read.start, read.next, read.bytes)


def json_answer(document: msgspec.Struct, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document), content_type=JSON_TYPE)
