"""The coordinator's public reads: one handler for each GET in `api.py`.

While the configuration store is away they go on answering with the last known state and its age.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from octad.client.cluster.cluster_documents import (
    MAP_BINARY_TYPE,
    HealthDocument,
    NodesDocument,
    PlanDocument,
    ServicesDocument,
    ShardsDocument,
)
from octad.client.cluster.doctor_document import DoctorDocument
from octad.client.membership.choosing import Wanted
from octad.client.membership.lock_records import LOCK_KIND, LocksDocument
from octad.coordinator.http.discovery_routes import instance_of, wanted_of
from octad.coordinator.http.http_answers import (
    AGE_HEADER,
    BadParameter,
    flag_of,
    json_answer,
    json_bytes,
    min_revision_of,
    wait_of,
)
from octad.coordinator.http.openapi import openapi_document
from octad.coordinator.locks.lock_queue import lock_statuses
from octad.coordinator.mirror.cluster_feed import ClusterFeed, shown_age
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.server.metrics import CoordinatorMetrics
from octad.sharding.ids import parse_node_name


class HttpReads:
    """The handlers; `by_name` are all of them."""

    def __init__(self, coordinator: Coordinator, metrics: CoordinatorMetrics) -> None:
        self._coordinator = coordinator
        self._figures = metrics
        self._openapi = msgspec.json.encode(openapi_document(coordinator.config.version))
        self.by_name: dict[str, Handler] = {
            "health": self._health,
            "ready": self._ready,
            "cluster_health": self._cluster_health,
            "metrics": self._metrics,
            "openapi": self._show_openapi,
            "status": not_older(coordinator, self._status),
            "doctor": not_older(coordinator, self._doctor),
            "nodes": not_older(coordinator, self._nodes),
            "shards": not_older(coordinator, self._shards),
            "plan": self._plan,
            "map": not_older(coordinator, self._map),
            "services": self._services,
            "service": self._services,
            "locks": self._locks,
            "lock-status": self._locks,
        }

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self._coordinator.not_ready()
        if reason is not None:
            raise NotReady(reason)
        return web.Response(text="ready\n")

    async def _cluster_health(self, request: web.Request) -> web.Response:
        """A view that is not current cannot claim safety: staleness is a reason, too."""
        if not flag_of(request, "maintenance"):
            reasons = self._coordinator.not_serving()
            return _health_answer(reasons, 503)
        name = request.query.get("node")
        try:
            node = None if name is None else parse_node_name(name)
        except ValueError as error:
            raise BadParameter(f"node: {error}") from error
        return _health_answer(self._coordinator.may_not_go_down(node), 412)

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._figures.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _show_openapi(self, _: web.Request) -> web.Response:
        return json_bytes(self._openapi)

    async def _status(self, _: web.Request) -> web.Response:
        return json_answer(self._coordinator.status(), age_s=self._coordinator.age_s)

    async def _doctor(self, _: web.Request) -> web.Response:
        age_s = self._coordinator.age_s
        found = tuple(self._coordinator.findings())
        return json_answer(DoctorDocument(found, shown_age(age_s)), age_s=age_s)

    async def _nodes(self, _: web.Request) -> web.Response:
        age_s = self._coordinator.age_s
        nodes = self._coordinator.status().nodes
        return json_answer(NodesDocument(nodes, shown_age(age_s)), age_s=age_s)

    async def _shards(self, _: web.Request) -> web.Response:
        age_s = self._coordinator.age_s
        shards = tuple(self._coordinator.shards())
        return json_answer(ShardsDocument(shards, shown_age(age_s)), age_s=age_s)

    async def _plan(self, request: web.Request) -> web.Response:
        feed = await self._feed("plans/", request)
        plans = {
            event.key.removeprefix("plans/"): event.value for event in feed.history.state("plans/")
        }
        document = PlanDocument(feed.history.revision, plans, shown_age(feed.age_s))
        return json_answer(document, age_s=feed.age_s)

    async def _services(self, request: web.Request) -> web.Response:
        feed = await self._feed("services/", request)
        service = request.match_info.get("service")
        prefix = "services/" if service is None else f"services/{service}/"
        events, wanted = feed.history.state(prefix), wanted_of(request)
        if wanted != Wanted():
            events = [each for each in events if wanted.matches(instance_of(each.value))]
        records = tuple(event.value for event in events)
        document = ServicesDocument(feed.history.revision, records, shown_age(feed.age_s))
        return json_answer(document, age_s=feed.age_s)

    async def _locks(self, request: web.Request) -> web.Response:
        feed = await self._feed(LOCK_KIND, request)
        lock = request.match_info.get("lock")
        prefix = LOCK_KIND if lock is None else f"{LOCK_KIND}{lock}/"
        entries = (e for name, e in feed.history.entries.items() if name.startswith(prefix))
        locks = tuple(lock_statuses(entries))
        document = LocksDocument(feed.history.revision, locks, shown_age(feed.age_s))
        return json_answer(document, age_s=feed.age_s)

    async def _feed(self, kind: str, request: web.Request) -> ClusterFeed:
        """Returns the feed, at least as new as the query asks for."""
        feed = self._coordinator.feed
        await feed.current()
        if (revision := min_revision_of(request)) is not None:
            await feed.reach(kind, revision)
        return feed

    async def _map(self, request: web.Request) -> web.Response:
        coordinator = self._coordinator
        is_binary = MAP_BINARY_TYPE in request.headers.get("Accept", "")
        suffix = ".b" if is_binary else ""
        wait_s = wait_of(request)
        known = {tag.value for tag in request.if_none_match or ()}
        if wait_s and coordinator.map_tag() + suffix in known:
            await self._until_map_differs(coordinator.map_tag(), wait_s)
        tag = coordinator.map_tag() + suffix
        age_s = coordinator.age_s
        headers = {
            # Weak: two answers with one tag may differ in their age.
            "ETag": f'W/"{tag}"',
            "Cache-Control": "no-cache",
            "Vary": "Accept",
            AGE_HEADER: str(int(age_s)),
        }
        if tag in known or "*" in known:
            return web.Response(status=304, headers=headers)
        if is_binary:
            body = coordinator.map_binary()
            return web.Response(body=body, content_type=MAP_BINARY_TYPE, headers=headers)
        return json_bytes(coordinator.map_document(), headers=headers)

    async def _until_map_differs(self, tag: str, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                while self._coordinator.map_tag() == tag:
                    await self._coordinator.changed.wait()
        except TimeoutError:
            return


def not_older(coordinator: Coordinator, handler: Handler) -> Handler:
    """`handler`, once what it shows is as new as is asked for."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if (revision := min_revision_of(request)) is not None:
            await coordinator.reach(revision)
        return await handler(request)

    return handle


class NotReady(Exception):
    """This coordinator cannot answer at present."""


def _health_answer(reasons: list[str], status: int) -> web.Response:
    document = HealthDocument(not reasons, tuple(reasons))
    return json_answer(document, status=status if reasons else 200)
