"""A connection to one member of etcd: the only file that imports etcd3, and of that only its stubs.

etcd3's client is not used: it knows one endpoint, hands errors to watch callbacks as if they were
answers, and sends call credentials that gRPC refuses on plain connections. Calls run in gRPC's own
threads and come back to the loop; a connection that failed is dropped by its owner, never repaired.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# The stubs are older than protobuf's compiled backend, which refuses them.
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import etcd3.etcdrpc
import grpc

from octad.coordinator.store.interface import Compacted, LeaseExpired, StoreUnavailable

CALL_S_MAX = 3.0
PORT_DEFAULT = 2379

CHANNEL_OPTIONS = (
    # Without the last of these three a frozen server is never noticed.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    # A new connection must not wait out the back-off of the one it replaces.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", -1),  # A page of large values.
    ("grpc.enable_http_proxy", 0),
)

Message = Any  # The generated messages and stubs have no types.
rpc: Any = etcd3.etcdrpc


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A member's address, from `http[s]://[user:password@]host[:port]`."""

    target: str
    secure: bool
    user: str | None
    password: str | None

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not the URL of an etcd member (http://host:2379): {url!r}")
        if (parts.username is None) != (parts.password is None):
            raise ValueError("an etcd URL has both user and password, or neither")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(
            f"{host}:{parts.port or PORT_DEFAULT}",
            parts.scheme == "https",
            unquote(parts.username) if parts.username is not None else None,
            unquote(parts.password) if parts.password is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of an https endpoint: the CA (None: the system's), our certificate and key."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def credentials(self) -> Message:
        """Raises OSError where a file cannot be read."""
        ca, key, cert = (
            Path(name).read_bytes() if name is not None else None
            for name in (self.ca_file, self.key_file, self.cert_file)
        )
        return grpc.ssl_channel_credentials(ca, key, cert)


class Connection:
    """Calls and watches over one channel. `users` counts who still needs it."""

    def __init__(self, endpoint: Endpoint, tls: Tls) -> None:
        """Blocks while it logs in; raises StoreUnavailable, or OSError for a file of `tls`."""
        self.target = endpoint.target
        self.users = 0
        self._closed = False
        if endpoint.secure:
            self._channel = grpc.secure_channel(endpoint.target, tls.credentials(), CHANNEL_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(endpoint.target, CHANNEL_OPTIONS)
        self._metadata: tuple[tuple[str, str], ...] = ()
        if endpoint.user is not None:
            self._metadata = (("token", self._log_in(endpoint)),)
        self._kv = rpc.KVStub(self._channel)
        self._lease = rpc.LeaseStub(self._channel)
        # etcd has it as a stream; one message and the end of it is what a unary call sends, for a
        # third of the stream's CPU time and without a thread that waits.
        self._keep_alive = self._channel.unary_unary(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=rpc.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=rpc.LeaseKeepAliveResponse.FromString,
        )
        self._watch = rpc.WatchStub(self._channel)

    async def range(self, request: Message) -> Message:
        return await self._call(self._kv.Range, request)

    async def txn(self, request: Message) -> Message:
        return await self._call(self._kv.Txn, request)

    async def lease_grant(self, request: Message) -> Message:
        return await self._call(self._lease.LeaseGrant, request)

    async def lease_revoke(self, request: Message) -> Message:
        return await self._call(self._lease.LeaseRevoke, request)

    async def lease_keep_alive(self, request: Message) -> Message:
        return await self._call(self._keep_alive, request)

    def watch(self, requests: Iterator[Message]) -> Message:
        """The stream of answers, an iterator that blocks. A member without a leader ends it."""
        self._check_open()
        return self._watch.Watch(requests, metadata=(*self._metadata, ("hasleader", "true")))

    def version(self) -> str:
        """Blocks; raises grpc.RpcError."""
        status = rpc.MaintenanceStub(self._channel).Status
        version: str = status(rpc.StatusRequest(), CALL_S_MAX, metadata=self._metadata).version
        return version

    def close(self) -> None:
        """Close it; calls under way fail as cancelled."""
        self._closed = True
        self._channel.close()

    def _check_open(self) -> None:
        if self._closed:  # gRPC would raise ValueError.
            raise StoreUnavailable(f"the connection to etcd at {self.target} is closed")

    async def _call(self, method: Message, request: Message) -> Message:
        """One call; raises grpc.RpcError."""
        self._check_open()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Message] = loop.create_future()
        call = method.future(request, timeout=CALL_S_MAX, metadata=self._metadata)
        call.add_done_callback(lambda done: _hand_over(loop, _resolve(answer, done)))
        try:
            return await answer
        except asyncio.CancelledError:
            call.cancel()
            raise

    def _log_in(self, endpoint: Endpoint) -> str:
        request = rpc.AuthenticateRequest(name=endpoint.user, password=endpoint.password)
        try:
            token: str = rpc.AuthStub(self._channel).Authenticate(request, CALL_S_MAX).token
        except grpc.RpcError as error:
            self._channel.close()
            raise StoreUnavailable(f"etcd at {self.target}: {_reason(error)}") from error
        return token


def version_at(endpoint: Endpoint, tls: Tls) -> str:
    """The member's version. Blocks; raises StoreUnavailable, or OSError for a file of `tls`."""
    connection = Connection(endpoint, tls)
    try:
        return connection.version()
    except grpc.RpcError as error:
        raise store_error(endpoint.target, error) from error
    finally:
        connection.close()


def store_error(target: str, error: Message) -> Exception:
    """Translates a failed call's error for the store's caller."""
    code, reason = error.code(), _reason(error)
    if code == grpc.StatusCode.OUT_OF_RANGE:
        return Compacted(reason)
    if code == grpc.StatusCode.NOT_FOUND and "lease" in reason:
        return LeaseExpired(reason)
    if "request is too large" in reason or "too many operations" in reason:
        return ValueError(f"etcd at {target} is configured for less: {reason}")
    return StoreUnavailable(f"etcd at {target}: {reason}")


def is_login_refused(error: Message) -> bool:
    """Whether nothing was done since the token is no longer good: a new connection has another."""
    code, reason = error.code(), error.details() or ""
    return code == grpc.StatusCode.UNAUTHENTICATED or "revision in header is old" in reason


def _reason(error: Message) -> str:
    return f"{error.details()} ({error.code().name})"


def _resolve(answer: asyncio.Future[Message], call: Message) -> Callable[[], None]:
    """Handles a finished call, on the loop."""
    error = None if call.cancelled() else call.exception()

    def resolve() -> None:
        if answer.done():
            return
        if call.cancelled():
            answer.set_exception(call)
        elif error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(call.result())

    return resolve


def _hand_over(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Hands a result from gRPC's thread to the loop; a closed loop has no waiters."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)
