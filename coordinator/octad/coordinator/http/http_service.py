"""The coordinator over HTTP, under /cluster/v1/: everyone reads, holders of a key write.

Default deny: every request but GET and HEAD must be signed with the key for its purpose
(`internal_auth`), whether the path exists or not, before anything looks at it, and so must reads of
settings; under /cluster/v1/admin/ that is an admin's access key, for reads, too
(`admin_routes.py`). Answers to requests signed with the cluster's key are signed. The endpoints are
listed in `http/api.py`; what a request means is in `coordinator.py` and its parts. All of it, with
examples: `docs/reference/coordinator-http.md`.
"""

from __future__ import annotations

import asyncio
import socket
import time

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from octad.client.cluster.internal_auth import (
    ANSWER_MAC_HEADER,
    AUTHORIZATION_HEADER,
    NotAuthentic,
    SignAgain,
    sign_answer,
    signed_at,
    verify,
)
from octad.client.cluster.request_signer import new_replay_window
from octad.client.cluster.service_records import (
    REGISTRATION_PURPOSE,
    SERVICES_PATH,
    SESSIONS_PATH,
    BadRegistration,
)
from octad.client.cluster.service_token import SCOPE_HEADER, is_scope, key_of_prefix
from octad.client.kv.kv_records import KV_PATH, BadKey
from octad.client.membership.lock_records import LOCKS_PATH, BadLock
from octad.client.runtime.http_listener import HttpListener, Protocols, wrong_protocol_refusal
from octad.client.runtime.open_files import open_files_limit
from octad.client.runtime.steady_clock import SteadyClock
from octad.coordinator.admin.admin_refusal import AdminRefused
from octad.coordinator.admin.admin_signature import NotAdmin
from octad.coordinator.http.admin_routes import AdminRoutes, is_for_admins
from octad.coordinator.http.api import HEALTH_PATH, OPENAPI_PATH, OPERATIONS
from octad.coordinator.http.discovery_routes import DiscoveryRoutes
from octad.coordinator.http.http_answers import BadParameter, json_answer
from octad.coordinator.http.http_reads import HttpReads, NotReady
from octad.coordinator.http.http_watches import (
    HttpWatches,
    TooManyWatchers,
    watchers_max_of,
)
from octad.coordinator.http.http_writes import HttpWrites
from octad.coordinator.http.kv_routes import KvRoutes, is_of_kv
from octad.coordinator.http.placement_routes import PlacementRoutes
from octad.coordinator.kv.kv_changes import KvFull, OtherRevision
from octad.coordinator.locks.lock_queues import LocksFull
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.membership.registrations import InstanceTaken
from octad.coordinator.membership.service_registry import InstancesLost, OtherSession
from octad.coordinator.membership.session_writes import LateWrite
from octad.coordinator.membership.sessions import SessionGone
from octad.coordinator.mirror.cluster_feed import FutureRevision, NotAsNew
from octad.coordinator.schema.cluster_view import BadRecord
from octad.coordinator.schema.join_messages import AUTH_PURPOSE, RefusalMessage
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.server.coordinator_gauges import coordinator_gauges
from octad.coordinator.server.metrics import CoordinatorMetrics
from octad.coordinator.store.interface import StoreUnavailable
from octad.coordinator.tls.certificate import Certificate
from octad.coordinator.tls.tls_transport import TlsListener

CONTROL_CONNECTIONS_MAX = 4096  # Twice the watchers that a coordinator takes.

REQUEST_BYTES_MAX = 64 * 1024
_BODY_TIMEOUT_S = 10.0
# A registration waits this long for the store, so that the client (an SDK waits for 5 s) still
# learns that it is the store that does not answer.
_STORE_S_MAX = 4.0
_STORE_SHARE = 0.8  # The same, as a share of the client's stated timeout.
_SHUTDOWN_S = 2.0
_PORT = "coordinator's port"
_ALWAYS = (HEALTH_PATH, OPENAPI_PATH)  # Whether or not the store has ever answered.
_NAMES = ("service", "lock", "key")  # Parts of paths that a token may be restricted to.
_REGISTRATION_PATHS = tuple(
    f"{path}/" for path in (SERVICES_PATH, SESSIONS_PATH, LOCKS_PATH, KV_PATH)
)
_WITHIN = "within"  # A query parameter: the client's timeout in seconds.
_WITHIN_DEFAULT = "10"
_TCP_STATE = getattr(socket, "TCP_INFO", None)  # Its first byte, on Linux.
_TCP_ESTABLISHED = 1
# Errors as (status, code, whether a retry may help); the message is the reason.
_REFUSALS: dict[type[Exception], tuple[int, str, bool]] = {
    msgspec.DecodeError: (400, "bad-request", False),
    BadParameter: (400, "bad-request", False),
    FutureRevision: (400, "bad-request", False),
    BadRegistration: (400, "bad-registration", False),
    BadLock: (400, "bad-lock", False),
    BadKey: (400, "bad-key", False),
    OtherRevision: (409, "other-revision", False),
    KvFull: (409, "kv-full", False),
    InstanceTaken: (409, "instance-taken", True),
    LocksFull: (409, "locks-full", True),
    LateWrite: (409, "late", False),
    OtherSession: (409, "other-session", False),
    SessionGone: (410, "session-gone", False),
    BadRecord: (500, "bad-record", False),
    StoreUnavailable: (503, "store-unavailable", True),
    NotReady: (503, "not-ready", True),
    NotAsNew: (503, "not-as-new", True),
    TooManyWatchers: (503, "too-many-watchers", True),
}


class _HasLeft(Exception):
    """The client that sent the request has closed the connection."""


class HttpService:
    """Serves one coordinator on a socket that is bound already.

    Without `connections_max`, half of the files that may be open may be connections to it. With a
    `certificate` it speaks TLS, and nothing else.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        connections_max: int | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._coordinator = coordinator
        self._certificate = certificate
        if connections_max is None:
            connections_max = min(open_files_limit() // 2, CONTROL_CONNECTIONS_MAX)
        self._connections_max = connections_max
        self._token = coordinator.config.token
        self._join_key = self._token.key_for(AUTH_PURPOSE)
        self._registration_key = self._token.key_for(REGISTRATION_PURPOSE)
        self._clock = SteadyClock()
        self._window = new_replay_window()
        self._admin = AdminRoutes(coordinator)
        self._watches = HttpWatches(coordinator.feed, watchers_max_of(connections_max))
        self._metrics = CoordinatorMetrics(
            lambda: coordinator_gauges(coordinator, certificate), lambda: self._watches.watchers
        )
        self._listener: HttpListener | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on `listener`, which the service closes when it stops.

        Until the coordinator has started, the answer is that it is not ready.
        """
        application = web.Application(
            middlewares=[self._guard()], client_max_size=REQUEST_BYTES_MAX
        )
        handlers = {
            **HttpReads(self._coordinator, self._metrics).by_name,
            **HttpWrites(self._coordinator).by_name,
            **PlacementRoutes(self._coordinator).by_name,
            **self._admin.by_name,
            **KvRoutes(self._coordinator.kv, self._watches).by_name,
            **DiscoveryRoutes(self._coordinator, self._watches).by_name,
            "events": self._watches.events,
        }
        assert set(handlers) == {operation.name for operation in OPERATIONS}, "`api.py` says all"
        for operation in OPERATIONS:
            add = application.router.add_route
            path = operation.path.replace("{key}", "{key:.+}")  # A setting's, with slashes in it.
            if operation.method == "GET" and operation.name != "events":
                add("HEAD", path, handlers[operation.name])
            add(operation.method, path, handlers[operation.name])
        secured = None if self._certificate is None else self._secured
        self._listener = HttpListener(
            application, self._connections_max, _SHUTDOWN_S, _PORT, secured
        )
        await self._listener.start_on(listener)

    def _secured(self, protocols: Protocols) -> Protocols:
        assert self._certificate is not None
        return TlsListener(self._certificate, protocols, _PORT, wrong_protocol_refusal)

    async def stop(self) -> None:
        """Take no more requests; finish those under way."""
        self._watches.stop()
        if self._listener is not None:
            await self._listener.stop()

    def _guard(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            begun = time.perf_counter()
            response = await self._respond(request, handler)
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "unknown"
            self._metrics.count_request(route, response.status, time.perf_counter() - begun)
            return response

        return guard

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_for_admins(request):
            return await self._respond_to_admin(request, handler)
        if request.method in ("GET", "HEAD") and not is_of_kv(request):
            return await self._answer(request, handler)
        authorization = request.headers.get(AUTHORIZATION_HEADER)
        key = self._key_of(request)
        refusal = await self._authenticate(request, key, authorization)
        if refusal is None:
            refusal = self._out_of_scope(request)
        response = refusal if refusal is not None else await self._answer(request, handler)
        if authorization is not None:
            assert isinstance(response, web.Response), "what is signed is sent whole"
            assert isinstance(response.body, bytes), "what is signed is sent whole"
            response.headers[ANSWER_MAC_HEADER] = sign_answer(
                key, authorization, response.status, response.body
            )
        return response

    async def _respond_to_admin(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refusal = await self._authenticate_admin(request)
            return refusal if refusal is not None else await self._answer(request, handler)
        finally:
            self._admin.answered(request)

    async def _authenticate_admin(self, request: web.Request) -> web.Response | None:
        """The refusal, or None for what an admin has signed."""
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                body = await request.read()
            await self._admin.authenticate(request, body, self._clock.now_ms() / 1000)
        except NotAdmin as error:
            return self._refusal(403, error.code, str(error))
        except (StoreUnavailable, BadRecord) as error:
            return self._refusal(503, "store-unavailable", str(error), passes=True)
        except TimeoutError:
            return self._refusal(408, "too-slow", "the body did not arrive in time")
        except web.HTTPRequestEntityTooLarge:
            return self._refusal(413, "too-large", f"at most {REQUEST_BYTES_MAX} bytes")
        return None

    def _key_of(self, request: web.Request) -> bytes:
        """Returns the key for the request's path, so that a service's key opens nothing else."""
        if not _registers(request):
            return self._join_key
        scope = request.headers.get(SCOPE_HEADER)
        if scope is None or not is_scope(scope):  # Which opens nothing: see `_out_of_scope`.
            return self._registration_key
        return key_of_prefix(self._registration_key, scope)

    def _out_of_scope(self, request: web.Request) -> web.Response | None:
        """The refusal of an authentic request whose key is that of other names' prefix."""
        scope = request.headers.get(SCOPE_HEADER)
        if scope is None or not _registers(request):
            return None
        names = [request.match_info[kind] for kind in _NAMES if kind in request.match_info]
        if request.path.rstrip("/") == KV_PATH:
            names.append(request.query.get("prefix", ""))
        if is_scope(scope) and all(name.startswith(scope) for name in names):
            return None
        return self._refusal(
            403,
            "out-of-scope",
            f"the token is for names that begin with {scope[:64]}, and this is"
            f" {' '.join(names)[:128]!r}; octad service token --prefix makes another",
        )

    async def _authenticate(
        self, request: web.Request, key: bytes, authorization: str | None
    ) -> web.Response | None:
        """The refusal, or None for a signed request seen for the first time."""
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                body = await request.read()
            verify(
                key,
                request.method,
                request.raw_path,
                body,
                authorization,
                self._window,
                self._clock.now_ms(),
            )
            self._check_still_wanted(request)
        except SignAgain as error:
            return self._refusal(
                401, error.code, str(error), now_ms=error.now_ms, audience=error.audience
            )
        except NotAuthentic as error:
            return self._refusal(401, "not-authentic", str(error))
        except BadParameter as error:
            return self._refusal(400, "bad-request", str(error))
        except TimeoutError:
            return self._refusal(408, "too-slow", "the body did not arrive in time")
        except _HasLeft:
            return self._refusal(408, "too-slow", "no one waits for the answer any more")
        except web.HTTPRequestEntityTooLarge:
            return self._refusal(413, "too-large", f"at most {REQUEST_BYTES_MAX} bytes")
        return None

    def _check_still_wanted(self, request: web.Request) -> None:
        """A coordinator that was frozen does not do what no one waits for any more.

        Raises SignAgain, _HasLeft, BadParameter. What passes here and is late all the same
        changes nothing: every write compares its session's number in the store.
        """
        if has_left(request.transport):
            raise _HasLeft
        text = request.query.get(_WITHIN, _WITHIN_DEFAULT)
        try:
            within_ms = 1000 * float(text)
        except ValueError:
            raise BadParameter(f"{_WITHIN}={text[:80]}: seconds") from None
        signed_ms, now_ms = signed_at(request.headers[AUTHORIZATION_HEADER]), self._clock.now_ms()
        if not abs(now_ms - signed_ms) <= within_ms:
            reason = f"the request was for {text[:80]} s, and its timestamp is further away"
            raise SignAgain("timestamp", reason, self._window.audience, now_ms)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not self._coordinator.has_started and request.path not in _ALWAYS:
                raise NotReady("it is starting: it has not read the configuration store yet")
            return await _in_time(request, handler)
        except AdminRefused as error:
            return self._refusal(error.status, error.code, str(error))
        except JoinRefused as error:
            return self._refusal(409, error.code, error.reason, passes=error.passes)
        except InstancesLost as error:
            return self._refusal(410, "lost", str(error), instances=error.instances)
        except web.HTTPException as error:  # No such path, or no such method for it.
            return self._refusal(error.status, error.reason.lower().replace(" ", "-"), error.reason)
        except tuple(_REFUSALS) as error:
            kind = next(each for each in type(error).__mro__ if each in _REFUSALS)
            status, code, passes = _REFUSALS[kind]
            return self._refusal(status, code, str(error), passes=passes)

    def _refusal(
        self,
        status: int,
        code: str,
        reason: str,
        *,
        passes: bool = False,
        now_ms: int | None = None,
        audience: str | None = None,
        instances: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET,
    ) -> web.Response:
        message = RefusalMessage(
            code=code,
            reason=reason,
            cluster=self._token.cluster,
            passes=passes,
            now_ms=now_ms,
            audience=audience,
            instances=instances,
        )
        return json_answer(message, status=status)


def _registers(request: web.Request) -> bool:
    return f"{request.path}/".startswith(_REGISTRATION_PATHS)


async def _in_time(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raises StoreUnavailable before the client that registers or renews times out."""
    if request.method in ("GET", "HEAD") or not _registers(request):
        return await handler(request)
    within_s = float(request.query.get(_WITHIN, _STORE_S_MAX / _STORE_SHARE))
    patience_s = min(_STORE_S_MAX, _STORE_SHARE * within_s)
    try:
        async with asyncio.timeout(patience_s):
            return await handler(request)
    except TimeoutError as error:
        raise StoreUnavailable(
            f"the configuration store has not answered for {patience_s:.1f} s"
        ) from error


def has_left(transport: asyncio.BaseTransport | None) -> bool:
    """Whether the other side has closed the connection.

    The kernel knows before the loop does: after a freeze the request and the end of its connection
    are there together, and the request is read first.
    """
    if transport is None or transport.is_closing():
        return True
    connection = transport.get_extra_info("socket")
    if _TCP_STATE is None or connection is None:
        return False
    state: bytes = connection.getsockopt(socket.IPPROTO_TCP, _TCP_STATE, 1)
    return state[0] != _TCP_ESTABLISHED
