"""The log's HTTP for what is held at partitions: fences of jobs, and pins."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from octad.client.log.log_documents import (
    FENCES,
    PINS,
    FenceDocument,
    FenceRequest,
    FencesDocument,
    PinDocument,
    PinRequest,
    PinsDocument,
)
from octad.storage_node.log.http.log_forms import bad_request, check_pin, document_in, job_of
from octad.storage_node.log.http.log_requests import (
    PARTITION,
    Asked,
    Route,
    json_answer,
    place_in,
)
from octad.storage_node.log.topic_log import TopicLog


class HeldRoutes:
    """See the module."""

    def __init__(self, log: TopicLog) -> None:
        self._log = log

    def routes(self) -> list[Route]:
        return [
            ("POST", f"{PARTITION}/{FENCES}", self._raise_fence),
            ("GET", f"{PARTITION}/{FENCES}", self._fences),
            ("POST", f"{PARTITION}/{PINS}", self._pin),
            ("DELETE", f"{PARTITION}/{PINS}", self._unpin),
            ("GET", f"{PARTITION}/{PINS}", self._pins),
        ]

    async def _raise_fence(self, asked: Asked) -> web.Response:
        topic, number = await place_in(self._log, asked)
        wanted = document_in(asked.body, FenceRequest)
        job = job_of(wanted.job, wanted.token)
        if not job.name:
            raise bad_request("a fence is of a job, which has a name")
        token = await self._log.raise_fence(topic, number, *job)
        return json_answer(FenceDocument(number, job.name, token))

    async def _fences(self, asked: Asked) -> web.Response:
        topic, number = await place_in(self._log, asked)
        held = await self._log.held(topic, number)
        return json_answer(
            FencesDocument(tuple(FenceDocument(number, *each) for each in held.fences))
        )

    async def _pin(self, asked: Asked) -> web.Response:
        topic, number = await place_in(self._log, asked)
        wanted = document_in(asked.body, PinRequest)
        check_pin(wanted.owner, wanted.id)
        if wanted.offset < 0:
            raise bad_request(f"there is no offset {wanted.offset}")
        of = wanted.owner, wanted.id, wanted.offset
        await self._log.pin(topic, number, *of)
        return json_answer(PinDocument(number, *of), HTTPStatus.CREATED)

    async def _unpin(self, asked: Asked) -> web.Response:
        topic, number = await place_in(self._log, asked)
        owner, id = asked.http.query.get("owner", ""), asked.http.query.get("id", "")
        check_pin(owner, id)
        await self._log.release_pin(topic, number, owner, id)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _pins(self, asked: Asked) -> web.Response:
        topic, number = await place_in(self._log, asked)
        held = await self._log.held(topic, number)
        pins = (PinDocument(number, p.owner, p.id, p.offset, p.made_ms) for p in held.pins)
        return json_answer(PinsDocument(tuple(pins)))
