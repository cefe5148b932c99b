"""The log's listener of a node: `/v1/topics…`, for requests that are signed as S3's are.

Nothing of a request is read before its signature holds, and its body then within a bound that all
of them share. A topic is its owner's alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from octad.client.log.log_documents import (
    BATCHES_TYPE,
    END,
    EVENTS_TYPE,
    FENCES,
    JSON_TYPE,
    MARK_HEADER,
    NEXT_HEADER,
    PINS,
    START,
    START_HEADER,
    TOPICS_PATH,
    AlterRequest,
    AppendedDocument,
    AppendRequest,
    FenceDocument,
    FenceRequest,
    FencesDocument,
    FetchedDocument,
    HeldPartitionDocument,
    OffsetDocument,
    PartitionDocument,
    PinDocument,
    PinRequest,
    PinsDocument,
    ProducerDocument,
    TopicDocument,
    TopicRequest,
    TopicsDocument,
    TrimRequest,
    WhyDocument,
)
from octad.client.runtime.address import Address
from octad.client.runtime.http_listener import HttpListener
from octad.client.s3.access_lists import ANONYMOUS
from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4 import PayloadMode
from octad.storage_node.log.http.log_events import write_events
from octad.storage_node.log.http.log_forms import (
    Fetching,
    bad_request,
    batch_in,
    check_pin,
    check_topic,
    document_in,
    documents_from,
    fetching_in,
    job_in,
    job_of,
    number_in,
    partition_in,
)
from octad.storage_node.log.http.log_openapi import openapi_document
from octad.storage_node.log.http.log_reasons import holds_of
from octad.storage_node.log.http.log_refusals import Refused, refused
from octad.storage_node.log.log_messages import PartitionRead
from octad.storage_node.log.partition_tail import ANY_OFFSET
from octad.storage_node.log.record_batch import BATCH_BYTES_MAX, check_batch, split_batches
from octad.storage_node.log.topic_log import Appended, AppendRefused, Batch, TopicLog
from octad.storage_node.log.topic_settings import settings_of
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.handlers.authentication import SecretOf, authenticate
from octad.storage_node.s3.protocol.requests.request_headers import header_values
from octad.storage_node.shards.object_store import Topic, Unavailable

BODY_BYTES_MAX: Final = 2 * BATCH_BYTES_MAX  # JSON takes more room than what it says.
_SHUTDOWN_S: Final = 1.0
_BODY_S_MAX: Final = 30.0
_DESCRIBED_AT_ONCE: Final = 64  # Partitions that are asked for their offsets.
_PARTITION: Final = TOPICS_PATH + "/{topic}/partitions/{partition}"
Handler = Callable[["Asked"], Awaitable[web.StreamResponse]]
Found = TypeVar("Found")


class Asked:
    """A request whose signature holds, and the owner that it speaks for."""

    __slots__ = ("body", "http", "owner")

    def __init__(self, http: web.Request, owner: str, body: bytes) -> None:
        self.http = http
        self.owner = owner
        self.body = body


class LogDoor:
    """See the module."""

    def __init__(
        self, log: TopicLog, secret_of: SecretOf, region: str, budget: BodyBudget, version: str
    ) -> None:
        self._log = log
        self._secret_of = secret_of
        self._region = region
        self._budget = budget
        self._openapi = msgspec.json.encode(openapi_document(version))
        self._listener: HttpListener | None = None
        self.is_open = False  # It listens before the node can answer.

    async def start(self, address: Address, connections_max: int) -> int:
        """Listen, and return the port (for port 0); raises OSError where it cannot be had."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        routes: list[tuple[str, str, Handler]] = [
            ("GET", TOPICS_PATH, self._list),
            ("PUT", f"{TOPICS_PATH}/{{topic}}", self._create),
            ("GET", f"{TOPICS_PATH}/{{topic}}", self._describe),
            ("PATCH", f"{TOPICS_PATH}/{{topic}}", self._alter),
            ("GET", f"{TOPICS_PATH}/{{topic}}/why", self._why),
            ("DELETE", f"{TOPICS_PATH}/{{topic}}", self._delete),
            ("POST", f"{TOPICS_PATH}/{{topic}}/producers", self._make_producer),
            ("POST", f"{_PARTITION}/records", self._append),
            ("GET", f"{_PARTITION}/records", self._fetch),
            ("GET", f"{_PARTITION}/offsets", self._find),
            ("POST", f"{_PARTITION}/trim", self._trim),
            ("POST", f"{_PARTITION}/{FENCES}", self._raise_fence),
            ("GET", f"{_PARTITION}/{FENCES}", self._fences),
            ("POST", f"{_PARTITION}/{PINS}", self._pin),
            ("DELETE", f"{_PARTITION}/{PINS}", self._unpin),
            ("GET", f"{_PARTITION}/{PINS}", self._pins),
        ]
        for method, path, handler in routes:
            application.router.add_route(method, path, self._signed(handler))
        application.router.add_get("/v1/openapi.json", self._describe_all)
        listener = HttpListener(application, connections_max, _SHUTDOWN_S, "log's port")
        port = await listener.start(address.host, address.port)
        self._listener = listener
        return port

    async def stop(self) -> None:
        """Finish what is under way; who waits at an end is sent away."""
        if self._listener is not None:
            await self._listener.stop()

    # -- requests ------------------------------------------------------------------------------

    def _signed(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(http: web.Request) -> web.StreamResponse:
            try:
                if not self.is_open:
                    raise Unavailable("the node is starting")
                content_sha256, owner = self._signer(http)
                length = http.content_length
                if http.can_read_body and (length is None or length > BODY_BYTES_MAX):
                    raise bad_request(f"a body has a stated length of up to {BODY_BYTES_MAX} bytes")
                size = length or 0
                if not size:
                    return await handler(Asked(http, owner, b""))
                gate = self._budget.gate(size)
                await gate.take(size)
                try:
                    return await handler(Asked(http, owner, await _body(http, content_sha256)))
                finally:
                    gate.give_back(size)
            except Exception as error:
                refusal = refused(error)
                answered = web.Response(
                    status=refusal.status, body=refusal.body, headers=refusal.headers
                )
                if not http.content.is_eof():
                    answered.force_close()  # The rest of the body would pass for a request.
                return answered

        return answer

    def _signer(self, http: web.Request) -> tuple[str, str]:
        """The SHA-256 that was signed for the body, or "", and the owner. Raises S3Error."""
        path, _, query = http.raw_path.partition("?")
        signature, owner = authenticate(
            http.method,
            path,
            query,
            header_values(http.raw_headers),
            now_s=time.time(),
            region=self._region,
            secret_of=self._secret_of,
            sigv2_urls=False,
            host_bucket="",
        )
        if owner == ANONYMOUS:
            raise S3Error("AccessDenied")
        if signature.payload_mode is PayloadMode.SIGNED:
            return signature.content_sha256.lower(), owner
        if signature.payload_mode is PayloadMode.UNSIGNED:
            return "", owner
        raise S3Error("NotImplemented", "Sign the body as a whole, or not at all.")

    async def _describe_all(self, _: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type=JSON_TYPE)

    # -- topics --------------------------------------------------------------------------------

    async def _list(self, asked: Asked) -> web.Response:
        topics = await self._log.topics(asked.owner)
        return _json(TopicsDocument(tuple(_topic_document(topic) for topic in topics)))

    async def _create(self, asked: Asked) -> web.Response:
        name = asked.http.match_info["topic"]
        wanted = document_in(asked.body or b"{}", TopicRequest)
        check_topic(name, wanted)
        of = wanted.partitions, wanted.pool, wanted.config
        topic = await self._log.create(name, asked.owner, *of)
        return _json(_topic_document(topic), HTTPStatus.CREATED)

    async def _describe(self, asked: Asked) -> web.Response:
        topic = await self._topic(asked)
        found = await _of_each(topic, self._log.bounds)
        offsets = tuple(_partition_document(number, each) for number, each in enumerate(found))
        return _json(_topic_document(topic, offsets))

    async def _alter(self, asked: Asked) -> web.Response:
        topic = await self._topic(asked)
        changes = document_in(asked.body, AlterRequest).config
        return _json(_topic_document(await self._log.alter(topic, changes)))

    async def _why(self, asked: Asked) -> web.Response:
        topic, now_ms = await self._topic(asked), int(time.time() * 1000)
        settings = settings_of(topic)

        async def why(topic: Topic, number: int) -> HeldPartitionDocument:
            read = await self._log.bounds(topic, number)
            held = await self._log.held(topic, number)
            holds = tuple(holds_of(read, held, settings, now_ms))
            return HeldPartitionDocument(number, read.start, read.next, read.bytes, holds=holds)

        return _json(WhyDocument(topic.name, tuple(await _of_each(topic, why))))

    async def _delete(self, asked: Asked) -> web.Response:
        force = asked.http.query.get("force", "false") == "true"
        await self._log.delete(await self._topic(asked, deleting=True), with_pins=force)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _make_producer(self, asked: Asked) -> web.Response:
        topic = await self._topic(asked)
        return _json(ProducerDocument(await self._log.make_producer(topic)), HTTPStatus.CREATED)

    async def _topic(self, asked: Asked, *, deleting: bool = False) -> Topic:
        """The topic that is asked for, of its owner. Raises S3Error for anybody else."""
        topic = await self._log.topic(asked.http.match_info["topic"], deleting=deleting)
        if topic.owner != asked.owner:
            raise S3Error("AccessDenied")
        return topic

    async def _partition(self, asked: Asked) -> tuple[Topic, int]:
        topic = await self._topic(asked)
        return topic, partition_in(asked.http.match_info["partition"], topic.partitions)

    # -- records -------------------------------------------------------------------------------

    async def _append(self, asked: Asked) -> web.Response:
        topic, number = await self._partition(asked)
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
        return _json(AppendedDocument(appended[0].base, next_, min(copies, default=None)))

    async def _fetch(self, asked: Asked) -> web.StreamResponse:
        topic, number = await self._partition(asked)
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
        return _json(FetchedDocument(records, next_, fetched.next, fetched.start))

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
        topic, number = await self._partition(asked)
        time_ms = number_in(asked.http.query, "timestamp_ms", -1)
        if time_ms < 0:
            raise bad_request("say which time: timestamp_ms")
        offset = await self._log.offset_of(topic, number, time_ms)
        return _json(OffsetDocument(number, time_ms, offset))

    async def _trim(self, asked: Asked) -> web.Response:
        topic, number = await self._partition(asked)
        before = document_in(asked.body, TrimRequest).before_offset
        if before < 0:
            raise bad_request(f"there is no offset {before}")
        await self._log.trim(topic, number, before)
        bounds = await self._log.bounds(topic, number)
        return _json(_partition_document(number, bounds))

    async def _raise_fence(self, asked: Asked) -> web.Response:
        topic, number = await self._partition(asked)
        wanted = document_in(asked.body, FenceRequest)
        job = job_of(wanted.job, wanted.token)
        if not job.name:
            raise bad_request("a fence is of a job, which has a name")
        token = await self._log.raise_fence(topic, number, *job)
        return _json(FenceDocument(number, job.name, token))

    async def _fences(self, asked: Asked) -> web.Response:
        topic, number = await self._partition(asked)
        held = await self._log.held(topic, number)
        return _json(FencesDocument(tuple(FenceDocument(number, *each) for each in held.fences)))

    # -- pins ----------------------------------------------------------------------------------

    async def _pin(self, asked: Asked) -> web.Response:
        topic, number = await self._partition(asked)
        wanted = document_in(asked.body, PinRequest)
        check_pin(wanted.owner, wanted.id)
        if wanted.offset < 0:
            raise bad_request(f"there is no offset {wanted.offset}")
        of = wanted.owner, wanted.id, wanted.offset
        await self._log.pin(topic, number, *of)
        return _json(PinDocument(number, *of), HTTPStatus.CREATED)

    async def _unpin(self, asked: Asked) -> web.Response:
        topic, number = await self._partition(asked)
        owner, id = asked.http.query.get("owner", ""), asked.http.query.get("id", "")
        check_pin(owner, id)
        await self._log.release_pin(topic, number, owner, id)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _pins(self, asked: Asked) -> web.Response:
        topic, number = await self._partition(asked)
        held = await self._log.held(topic, number)
        pins = (PinDocument(number, p.owner, p.id, p.offset, p.made_ms) for p in held.pins)
        return _json(PinsDocument(tuple(pins)))


def _checked(data: memoryview) -> list[Batch]:
    """The batches of a body, each of them right. Raises BadBatch."""
    batches: list[Batch] = []
    for header, batch in split_batches(data):
        check_batch(header, batch, BATCH_BYTES_MAX)
        batches.append(Batch(header, batch))
    if not batches:
        raise bad_request("there is no batch in it")
    return batches


async def _body(http: web.Request, content_sha256: str) -> bytes:
    """Raises S3Error where it is not what was signed."""
    try:
        async with asyncio.timeout(_BODY_S_MAX):
            body = await http.read()
    except TimeoutError:
        raise S3Error("RequestTimeout") from None
    if content_sha256 and hashlib.sha256(body).hexdigest() != content_sha256:
        raise S3Error("XAmzContentSHA256Mismatch")
    return body


async def _of_each(topic: Topic, ask: Callable[[Topic, int], Awaitable[Found]]) -> list[Found]:
    """What is found at each partition, some asked at a time."""
    found: list[Found] = []
    for first in range(0, topic.partitions, _DESCRIBED_AT_ONCE):
        numbers = range(first, min(first + _DESCRIBED_AT_ONCE, topic.partitions))
        found += await asyncio.gather(*[ask(topic, number) for number in numbers])
    return found


def _partition_document(number: int, read: PartitionRead) -> PartitionDocument:
    return PartitionDocument(number, read.start, read.next, read.bytes)


def _topic_document(topic: Topic, offsets: tuple[PartitionDocument, ...] = ()) -> TopicDocument:
    of = topic.name, topic.id, topic.uuid, topic.pool, topic.owner, topic.created_ms
    return TopicDocument(*of, topic.partitions, offsets, topic.config)


def _json(document: msgspec.Struct, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document), content_type=JSON_TYPE)
