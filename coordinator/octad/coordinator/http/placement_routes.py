"""Placement over HTTP: `GET /cluster/v1/plan/…` for everyone, `POST` for holders of the token.

The service's guard has checked the signature of every POST before a handler here sees it.
"""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from octad.client.cluster.refusal import RefusalMessage
from octad.coordinator.http.http_reads import not_older
from octad.coordinator.mirror.cluster_feed import shown_age
from octad.coordinator.placement.placement_requests import PlanRefused
from octad.coordinator.schema.placement_messages import ACTIONS, PlanRequest
from octad.coordinator.server.coordinator import Coordinator


class PlacementRoutes:
    """`by_name`: the handlers, under their names in `http/api.py`."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._placement = coordinator.placement
        self._cluster = coordinator.config.token.cluster
        self.by_name: dict[str, Handler] = {
            "plan-status": not_older(coordinator, self._status),
            "plan-nodes": not_older(coordinator, self._nodes),
            "plan-pools": not_older(coordinator, self._pools),
            **{f"plan-{action}": self._action(action) for action in ACTIONS},
        }

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self._placement.status())

    async def _nodes(self, _: web.Request) -> web.Response:
        age_s = shown_age(self._coordinator.age_s)
        return _json(msgspec.structs.replace(self._placement.nodes(), age_s=age_s))

    async def _pools(self, _: web.Request) -> web.Response:
        return _json(self._placement.pools())

    def _action(self, action: str) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            wanted = msgspec.json.decode(body or b"{}", type=PlanRequest)
            try:
                return _json(await self._placement.ask(action, wanted))
            except PlanRefused as error:
                refusal = RefusalMessage(code=error.code, reason=str(error), cluster=self._cluster)
                return _json(refusal, 409)

        return handle


def _json(message: msgspec.Struct, status: int = 200) -> web.Response:
    body = msgspec.json.encode(message)
    return web.Response(body=body, status=status, content_type="application/json")
