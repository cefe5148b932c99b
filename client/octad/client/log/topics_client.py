"""Topics through the log's HTTP of a cluster's nodes: one coroutine a request.

What may be asked again is asked again, of another node. So whoever appends does it as a `Producer`,
by whose numbers a node knows a batch that comes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from octad.client.calls.caller import Caller
from octad.client.calls.requests import Request, new_invocation, query_of
from octad.client.errors import Damaged
from octad.client.log.log_documents import (
    FENCES,
    JSON_TYPE,
    PINS,
    TOPICS_PATH,
    AlterRequest,
    AppendedDocument,
    AppendRequest,
    FenceDocument,
    FenceRequest,
    FencesDocument,
    FetchedDocument,
    OffsetDocument,
    PartitionDocument,
    PinDocument,
    PinRequest,
    PinsDocument,
    ProducerDocument,
    RecordDocument,
    TopicDocument,
    TopicRequest,
    TopicsDocument,
    TrimRequest,
    WhyDocument,
)

WAIT_MS_MAX = 2_000  # A node that says nothing for 5 s is taken to be away.
_VERSION, _TOPICS = TOPICS_PATH.strip("/").split("/")
Document = TypeVar("Document")


class TopicsClient:
    """See the module. Raises OctadError."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(self, name: str, asked: TopicRequest) -> TopicDocument:
        return await self._write("PUT", name, TopicDocument, asked)

    async def alter(self, name: str, config: dict[str, str | None]) -> TopicDocument:
        """With these settings; None: with the default."""
        return await self._write("PATCH", name, TopicDocument, AlterRequest(config))

    async def why(self, name: str) -> WhyDocument:
        """What keeps the first records of its partitions."""
        return await self._read(f"{_TOPICS}/{name}/why", WhyDocument)

    async def offset_of(self, name: str, partition: int, timestamp_ms: int) -> int:
        """Of the first record of that time or later; else where the log ends."""
        query = query_of({"timestamp_ms": f"{timestamp_ms}"})
        path = f"{_TOPICS}/{name}/partitions/{partition}/offsets"
        return (await self._read(path, OffsetDocument, query)).offset

    async def all(self) -> tuple[TopicDocument, ...]:
        """The topics of these keys' owner, by name."""
        return (await self._read(_TOPICS, TopicsDocument)).topics

    async def describe(self, name: str) -> TopicDocument:
        """With the offsets of its partitions."""
        return await self._read(f"{_TOPICS}/{name}", TopicDocument)

    async def delete(self, name: str, *, force: bool = False) -> None:
        """With all of its records; one with pins only by force."""
        await self._remove(name, {"force": "true"} if force else {})

    async def trim(self, name: str, partition: int, before_offset: int) -> PartitionDocument:
        """Records below the offset are not read any more."""
        path = f"{name}/partitions/{partition}/trim"
        return await self._write("POST", path, PartitionDocument, TrimRequest(before_offset))

    async def fence(self, name: str, partition: int, job: str, token: int) -> FenceDocument:
        """Refuse appends in the job's name with a lower token; answers the one that stands."""
        path = f"{name}/partitions/{partition}/{FENCES}"
        return await self._write("POST", path, FenceDocument, FenceRequest(job, token))

    async def fences(self, name: str, partition: int) -> FencesDocument:
        path = f"{_TOPICS}/{name}/partitions/{partition}/{FENCES}"
        return await self._read(path, FencesDocument)

    async def pin(self, name: str, partition: int, owner: str, id: str, offset: int) -> PinDocument:
        """Keep all records from `offset` on until the pin is released. An id is used once."""
        path = f"{name}/partitions/{partition}/{PINS}"
        return await self._write("POST", path, PinDocument, PinRequest(owner, id, offset))

    async def unpin(self, name: str, partition: int, owner: str, id: str) -> None:
        """Done also where there is no such pin."""
        path = f"{name}/partitions/{partition}/{PINS}"
        await self._remove(path, {"owner": owner, "id": id})

    async def pins(self, name: str, partition: int) -> PinsDocument:
        path = f"{_TOPICS}/{name}/partitions/{partition}/{PINS}"
        return await self._read(path, PinsDocument)

    async def producer(self, name: str, job: str = "", token: int | None = None) -> Producer:
        """One that appends in the job's name, under its token, if there is one."""
        made = await self._write("POST", f"{name}/producers", ProducerDocument)
        return Producer(self, name, made, job, token)

    async def append(self, name: str, partition: int, asked: AppendRequest) -> AppendedDocument:
        """Of a producer, so that it may be asked again."""
        path = f"{name}/partitions/{partition}/records"
        return await self._write("POST", path, AppendedDocument, asked)

    async def fetch(
        self, name: str, partition: int, offset: int | str, *, wait_ms: int = 0, seen: int = 0
    ) -> FetchedDocument:
        """From `offset` on; `wait_ms`, up to WAIT_MS_MAX, for more when there is nothing."""
        query = query_of({"offset": f"{offset}", "wait_ms": f"{wait_ms}", "seen": f"{seen}"})
        path = f"{_TOPICS}/{name}/partitions/{partition}/records"
        return await self._read(path, FetchedDocument, query)

    async def _read(self, path: str, kind: type[Document], query: str = "") -> Document:
        answer = await self._caller.whole(Request("GET", _VERSION, path, query=query))
        return _decoded(answer.body, kind)

    async def _remove(self, path: str, query: dict[str, str]) -> None:
        of = "DELETE", _VERSION, f"{_TOPICS}/{path}"
        await self._caller.whole(Request(*of, query=query_of(query), invocation=new_invocation()))

    async def _write(
        self, method: str, path: str, kind: type[Document], sent: msgspec.Struct | None = None
    ) -> Document:
        request = Request(
            method,
            _VERSION,
            f"{_TOPICS}/{path}",
            headers={"content-type": JSON_TYPE},
            body=b"" if sent is None else msgspec.json.encode(sent),
            invocation=new_invocation(),
        )
        return _decoded((await self._caller.whole(request)).body, kind)


class Producer:
    """Appends in order, and each record once. Of one caller at a time."""

    def __init__(
        self, client: TopicsClient, topic: str, made: ProducerDocument, job: str, token: int | None
    ) -> None:
        self._client = client
        self._topic = topic
        self._made = made
        self._job = job
        self._token = token
        self._sequences: dict[int, int] = {}  # The next one, by partition.

    async def append(self, partition: int, records: Sequence[RecordDocument]) -> AppendedDocument:
        """As one batch. After an error it may be there, and the producer is of no use any more."""
        sequence = self._sequences.get(partition, 0)
        stamp = msgspec.structs.replace(self._made, sequence=sequence)
        asked = AppendRequest(list(records), stamp, None, self._job, self._token)
        appended = await self._client.append(self._topic, partition, asked)
        self._sequences[partition] = (sequence + len(records)) % (1 << 31)
        return appended


def _decoded(body: bytes, kind: type[Document]) -> Document:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        what = f"the answer is no document of the log: {error}"
        raise Damaged(what, "check the endpoint, and what is between it and here") from error
