"""Requests that need a key: joining, registering, recovering."""

from __future__ import annotations

import secrets

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from octad.client.cluster.internal_auth import AUTHORIZATION_HEADER
from octad.client.cluster.service_records import (
    RegisterRequest,
    RenewRequest,
    SessionRequest,
    WithdrawRequest,
)
from octad.client.membership.lock_records import LockRequest, UnlockRequest
from octad.coordinator.http.http_answers import json_answer
from octad.coordinator.schema.join_messages import SEAL_PURPOSE, JoinMessage, JoinRequest
from octad.coordinator.schema.recovery_messages import RecoverRequest
from octad.coordinator.schema.sealing import NONCE_BYTES, seal
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.store.open_store import encode_store_address


class HttpWrites:
    """The handlers; `by_name` are all of them. They are called for authentic requests only."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._token = coordinator.config.token
        self.by_name: dict[str, Handler] = {
            "join": self._join,
            "recover": self._recover,
            "register": self._register,
            "withdraw": self._withdraw,
            "open": self._open,
            "renew": self._renew,
            "end": self._end,
            "lock": self._lock,
            "unlock": self._unlock,
        }

    async def _join(self, request: web.Request) -> web.Response:
        joined = await self._coordinator.join(
            msgspec.json.decode(await request.read(), type=JoinRequest)
        )
        store_sealed = seal(
            self._token.key_for(SEAL_PURPOSE),
            encode_store_address(joined.store),
            request.headers[AUTHORIZATION_HEADER].encode(),
            secrets.token_bytes(NONCE_BYTES),
        )
        return json_answer(
            JoinMessage(
                cluster=self._token.cluster,
                node=joined.node,
                region=joined.region,
                store_sealed=store_sealed,
            )
        )

    async def _recover(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RecoverRequest)
        return json_answer(await self._coordinator.recovery.recover(wanted))

    async def _register(self, request: web.Request) -> web.Response:
        answer = await self._coordinator.registry.register(
            request.match_info["service"],
            request.match_info["instance"],
            msgspec.json.decode(await request.read(), type=RegisterRequest),
        )
        return json_answer(answer)

    async def _withdraw(self, request: web.Request) -> web.Response:
        question = msgspec.json.decode(await request.read(), type=WithdrawRequest)
        await self._coordinator.registry.withdraw(
            request.match_info["service"], request.match_info["instance"], question
        )
        return json_answer({})

    async def _open(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=SessionRequest)
        return json_answer(await self._coordinator.sessions.open(wanted))

    async def _renew(self, request: web.Request) -> web.Response:
        """A request without a body is an older SDK's, which does not name what it renews."""
        body = await request.read()
        question = msgspec.json.decode(body, type=RenewRequest) if body else RenewRequest()
        answer = await self._coordinator.registry.renew(request.match_info["session"], question)
        return json_answer(answer)

    async def _end(self, request: web.Request) -> web.Response:
        await self._coordinator.sessions.end(request.match_info["session"])
        return json_answer({})

    async def _lock(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=LockRequest)
        return json_answer(await self._coordinator.locks.enter(request.match_info["lock"], wanted))

    async def _unlock(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=UnlockRequest)
        await self._coordinator.locks.leave(request.match_info["lock"], wanted)
        return json_answer({})
