"""Objects in parts: sent in parallel, completed in one step, and taken up where it ended.

An upload that fails is given up at the server, so nothing is left of it, unless it is to be taken
up again: then its parts stay. Taking up asks the server which parts it has, and sends again each
one whose bytes here are others, so a source that has changed meanwhile does no harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from octad.client.calls.caller import Caller
from octad.client.calls.documents import complete_document, text_of
from octad.client.calls.refusals import document_of
from octad.client.calls.requests import (
    CHECKSUM_HEADER,
    Request,
    crc32_of,
    new_invocation,
    query_of,
)
from octad.client.errors import OctadError
from octad.client.http.transport import Bytes
from octad.client.objects.headers import Target
from octad.client.objects.results import Written, written
from octad.client.objects.sources import Parts

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

AT_ONCE: Final = 4
_GIVE_UP_S_MAX: Final = 5.0


class SentPart(NamedTuple):
    """A part that the server has."""

    number: int
    etag: str
    crc32: str


async def put_in_parts(
    caller: Caller, target: Target, first: list[Bytes], parts: Parts, *, resume: bool
) -> Written:
    """`first`: the parts that were read already. Raises OctadError."""
    upload_id, there = "", dict[int, SentPart]()
    if resume:
        upload_id = await _find(caller, target)
        if upload_id:
            there = await _parts_there(caller, target, upload_id)
    upload_id = upload_id or await _begin(caller, target)
    try:
        sent = []
        size = 0
        jobs = _jobs(caller, target, upload_id, there, first, parts)
        async with aclosing(caller.runtime.in_order(jobs, AT_ONCE)) as results:
            async for part, length in results:
                sent.append(part)
                size += length
        return await _complete(caller, target, upload_id, sent, size)
    except BaseException:
        if not resume:
            with suppress(OctadError):
                await _give_up(caller, target, upload_id)
        raise


class Upload:
    """An object whose parts come one after the other, from someone who writes.

    A part but the last has 5 MiB or more. Nothing is there before `complete`.
    """

    def __init__(self, caller: Caller, target: Target) -> None:
        self._caller = caller
        self._target = target
        self._id = ""
        self._sent: list[SentPart] = []
        self._size = 0

    @property
    def parts(self) -> int:
        """How many there are so far."""
        return len(self._sent)

    async def add(self, data: Bytes) -> None:
        """Send the next part."""
        if not self._id:
            self._id = await _begin(self._caller, self._target)
        number = len(self._sent) + 1
        part, size = await _send(self._caller, self._target, self._id, number, data, None)
        self._sent.append(part)
        self._size += size

    async def complete(self) -> Written:
        """Then the object is there. Raises ConditionFailed."""
        return await _complete(self._caller, self._target, self._id, self._sent, self._size)

    async def give_up(self) -> None:
        """Nothing of it stays."""
        if self._id:
            await _give_up(self._caller, self._target, self._id)


Job = Callable[[], Coroutine[Any, Any, tuple[SentPart, int]]]


async def _jobs(
    caller: Caller,
    target: Target,
    upload_id: str,
    there: dict[int, SentPart],
    first: list[Bytes],
    parts: Parts,
) -> AsyncGenerator[Job, None]:
    """One for each part, which is read when its turn comes."""
    number = 0
    while True:
        data = first.pop(0) if first else await parts.next()
        if not len(data):
            return
        number += 1
        yield partial(_send, caller, target, upload_id, number, data, there.get(number))


async def _send(
    caller: Caller,
    target: Target,
    upload_id: str,
    number: int,
    data: Bytes,
    there: SentPart | None,
) -> tuple[SentPart, int]:
    if there is not None and _is_of(there, data):
        return there, len(data)
    request = Request(
        "PUT",
        target.bucket,
        target.key,
        query=query_of({"partNumber": str(number), "uploadId": upload_id}),
        body=data,
        checksum=True,
        invocation=new_invocation(),
    )
    answer = await caller.whole(request, target.deadline_s)
    crc32 = request.headers[CHECKSUM_HEADER]
    return SentPart(number, answer.head.headers.get("etag", ""), crc32), len(data)


def _is_of(part: SentPart, data: Bytes) -> bool:
    if part.crc32:
        return part.crc32 == crc32_of(data)
    return part.etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


async def _begin(caller: Caller, target: Target) -> str:
    headers = {
        **target.headers,
        "x-amz-checksum-algorithm": "CRC32",
        "x-amz-checksum-type": "FULL_OBJECT",
    }
    document = await _document(
        caller, target, "POST", {"uploads": ""}, headers=headers, deadline_s=target.deadline_s
    )
    return text_of(document, "UploadId")


async def _complete(
    caller: Caller, target: Target, upload_id: str, sent: list[SentPart], size: int
) -> Written:
    request = Request(
        "POST",
        target.bucket,
        target.key,
        query=query_of({"uploadId": upload_id}),
        headers=dict(target.conditions),
        body=complete_document(sent),
        invocation=new_invocation(),
        is_slow=True,
    )
    answer = await caller.whole(request, target.deadline_s)
    document = document_of(answer.body, request)
    result = written(target.key, size, answer.head.headers)
    return result._replace(etag=text_of(document, "ETag").strip('"'))


async def _give_up(caller: Caller, target: Target, upload_id: str) -> None:
    request = Request(
        "DELETE",
        target.bucket,
        target.key,
        query=query_of({"uploadId": upload_id}),
        invocation=new_invocation(),
    )
    await caller.whole(request, _GIVE_UP_S_MAX)


async def _find(caller: Caller, target: Target) -> str:
    """The upload of the key that was begun last; "" where there is none."""
    found = ""
    marker = {"uploads": "", "prefix": target.key}
    document = await _document(caller, target._replace(key=""), "GET", marker)
    for upload in document.iter("Upload"):
        if text_of(upload, "Key") == target.key:
            found = text_of(upload, "UploadId")
    return found


async def _parts_there(caller: Caller, target: Target, upload_id: str) -> dict[int, SentPart]:
    found: dict[int, SentPart] = {}
    marker = "0"
    while marker:
        query = {"uploadId": upload_id, "part-number-marker": marker}
        document = await _document(caller, target, "GET", query)
        for part in document.iter("Part"):
            number = int(text_of(part, "PartNumber"))
            found[number] = SentPart(number, text_of(part, "ETag"), text_of(part, "ChecksumCRC32"))
        truncated = text_of(document, "IsTruncated") == "true"
        marker = text_of(document, "NextPartNumberMarker") if truncated else ""
    return found


async def _document(
    caller: Caller,
    target: Target,
    method: str,
    query: dict[str, str],
    *,
    headers: dict[str, str] | None = None,
    deadline_s: float | None = None,
) -> Element:
    request = Request(
        method,
        target.bucket,
        target.key,
        query=query_of(query),
        headers=headers,
        invocation="" if method == "GET" else new_invocation(),
    )
    return document_of((await caller.whole(request, deadline_s)).body, request)
