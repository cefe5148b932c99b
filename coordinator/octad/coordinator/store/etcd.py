"""The configuration store in etcd.

Several endpoints are one store: after an error the next one is tried, over a connection made anew.
Reads are repeated on another member; changes are not, since their outcome is unknown.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

import grpc

from octad.coordinator.store.etcd_connection import (
    Connection,
    Endpoint,
    Message,
    Tls,
    is_login_refused,
    rpc,
    store_error,
    version_at,
)
from octad.coordinator.store.etcd_watch import WatchStream
from octad.coordinator.store.interface import (
    Compacted,
    Compare,
    Event,
    EventBatch,
    KeyValue,
    LeaseExpired,
    LeaseId,
    Listing,
    ModRevisionIs,
    NoneNewer,
    Outcome,
    Put,
    Revision,
    StoreOperation,
    StoreUnavailable,
)
from octad.coordinator.store.transaction_rules import check_transaction

PAGE_KEYS = 1000
LISTING_TRIES_MAX = 3
DELETE_EVENT = 1
QUIET_S_MAX = 2.0  # A watch silent for this long is probed.
ECHO_S_MAX = 2.0
THREADS_MAX = 8  # They only wait: for keep-alives, log-ins and the end of watches.

Ask = Callable[[Connection], Awaitable[Message]]


class EtcdStore:
    """A `ConfigStore` over the members at `urls` (`http[s]://[user:password@]host[:port]`)."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
    ) -> None:
        """Raises ValueError for a malformed URL."""
        self._endpoints = [Endpoint.parse(url) for url in urls]
        if not self._endpoints:
            raise ValueError("no endpoint of etcd is named")
        self._tls = Tls(ca_file, cert_file, key_file)
        self._position = 0
        self._connection: Connection | None = None
        self._connections: set[Connection] = set()  # Including dropped ones still in use.
        self._connecting = asyncio.Lock()
        self._streams: set[WatchStream] = set()
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="etcd")
        self._closed = False

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        if revision is not None:
            return await self._list(prefix, revision)
        for _ in range(LISTING_TRIES_MAX):
            try:
                return await self._list(prefix, Revision(0))
            except Compacted as error:  # Between two pages.
                compacted = error
        raise StoreUnavailable(f"etcd compacts faster than {prefix} is listed") from compacted

    async def get(self, key: str) -> KeyValue | None:
        request = rpc.RangeRequest(key=key.encode())
        answer = await self._repeated(partial(Connection.range, request=request))
        return _entry(answer.kvs[0]) if answer.kvs else None

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        check_transaction(compares, operations)
        request = rpc.TxnRequest(
            compare=[_compare(compare) for compare in compares],
            success=[_operation(operation) for operation in operations],
        )
        answer = await self._once(lambda connection: connection.txn(request))
        return Outcome(answer.succeeded, Revision(answer.header.revision))

    async def grant_lease(self, ttl_s: float) -> LeaseId:
        request = rpc.LeaseGrantRequest(TTL=math.ceil(ttl_s))
        answer = await self._once(lambda connection: connection.lease_grant(request))
        return LeaseId(answer.ID)

    async def keep_alive(self, lease: LeaseId) -> None:
        request = rpc.LeaseKeepAliveRequest(ID=lease)
        answer = await self._repeated(lambda connection: connection.lease_keep_alive(request))
        if answer.TTL <= 0:
            raise LeaseExpired(f"lease {lease} is gone")

    async def revoke_lease(self, lease: LeaseId) -> None:
        request = rpc.LeaseRevokeRequest(ID=lease)
        try:
            await self._repeated(lambda connection: connection.lease_revoke(request))
        except LeaseExpired:
            return

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[EventBatch, None]:
        """Starts at `after` itself and drops its events.

        At the revision of a compaction, etcd may have forgotten a deletion and yet serve a watch
        from there; a watch from one before is refused.
        """
        async with self._connected() as connection:
            start = max(after, 1)  # 0 would mean "now".
            stream = WatchStream(connection, self._threads, *_range_of(prefix), start)
            self._streams.add(stream)
            try:
                async with aclosing(self._follow(connection, stream, prefix, after)) as batches:
                    async for batch in batches:
                        yield batch
            except StoreUnavailable:
                self._drop(connection)
                raise
            finally:
                self._streams.discard(stream)
                await stream.close()

    async def versions(self) -> Mapping[str, str]:
        loop, found = asyncio.get_running_loop(), dict[str, str]()
        for endpoint in self._endpoints:
            with suppress(StoreUnavailable, OSError):
                found[endpoint.target] = await loop.run_in_executor(
                    self._threads, version_at, endpoint, self._tls
                )
        return found

    async def close(self) -> None:
        self._closed = True
        for stream in list(self._streams):
            await stream.close()
        self._connection = None
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._threads.shutdown(wait=True)

    async def _list(self, prefix: str, revision: Revision) -> Listing:
        """Read in pages, all as of the first one's revision (0: the newest)."""
        key, range_end = _range_of(prefix)
        entries: list[KeyValue] = []
        while True:
            request = rpc.RangeRequest(
                key=key, range_end=range_end, limit=PAGE_KEYS, revision=revision
            )
            answer = await self._repeated(partial(Connection.range, request=request))
            revision = revision or Revision(answer.header.revision)
            entries.extend(_entry(kv) for kv in answer.kvs)
            if not answer.more:
                return Listing(revision, entries)
            key = answer.kvs[-1].key + b"\0"

    async def _follow(
        self, connection: Connection, stream: WatchStream, prefix: str, after: Revision
    ) -> AsyncGenerator[EventBatch, None]:
        seen = after
        while True:
            events = await stream.next(QUIET_S_MAX)
            if events is None:
                await self._probe(connection, stream, prefix, seen)
                yield EventBatch(seen, ())
                continue
            if after < events[0].kv.mod_revision <= seen:
                raise Compacted("etcd sent a revision in parts")  # The first went out as complete.
            news = [_event(event) for event in events if event.kv.mod_revision > after]
            if news:
                seen = news[-1].revision
                yield EventBatch(seen, news)

    async def _probe(
        self, connection: Connection, stream: WatchStream, prefix: str, seen: Revision
    ) -> None:
        """Silence is fine if this member answers reads with the newest and the stream lives."""
        request = rpc.RangeRequest(key=prefix.encode() + b"\0", keys_only=True)
        try:
            answer = await connection.range(request)
        except grpc.RpcError as error:
            raise store_error(connection.target, error) from error
        if answer.header.revision < seen:
            raise Compacted("etcd came back with less than it had")
        await stream.echo(ECHO_S_MAX)

    async def _repeated(self, ask: Ask) -> Message:
        """For what may be done twice: on other members, too."""
        for _ in range(max(len(self._endpoints), 2) - 1):
            try:
                return await self._once(ask)
            except StoreUnavailable:
                continue
        return await self._once(ask)

    async def _once(self, ask: Ask) -> Message:
        try:
            return await self._try(ask)
        except _LoginRefused:
            return await self._try(ask)

    async def _try(self, ask: Ask) -> Message:
        async with self._connected() as connection:
            try:
                return await ask(connection)
            except grpc.RpcError as error:
                result = store_error(connection.target, error)
                if is_login_refused(error):
                    result = _LoginRefused(str(result))
                if isinstance(result, StoreUnavailable):
                    self._drop(connection)
                raise result from error

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """The present connection; one that was dropped meanwhile closes after its last user."""
        connection = await self._connect()
        connection.users += 1
        try:
            yield connection
        finally:
            connection.users -= 1
            self._close_if_unused(connection)

    async def _connect(self) -> Connection:
        async with self._connecting:
            if self._closed:
                raise StoreUnavailable("the configuration store is closed on this side")
            if self._connection is None:
                endpoint = self._endpoints[self._position % len(self._endpoints)]
                loop = asyncio.get_running_loop()
                try:
                    self._connection = await loop.run_in_executor(
                        self._threads, Connection, endpoint, self._tls
                    )
                except StoreUnavailable:
                    self._position += 1
                    raise
                except OSError as error:
                    raise StoreUnavailable(f"etcd's TLS files: {error}") from error
                self._connections.add(self._connection)
            return self._connection

    def _drop(self, connection: Connection) -> None:
        """Use it for nothing new; the next connection goes to the next member."""
        if self._connection is connection:
            self._connection = None
            self._position += 1
        self._close_if_unused(connection)

    def _close_if_unused(self, connection: Connection) -> None:
        if connection is self._connection or connection.users:
            return
        if connection in self._connections:
            self._connections.remove(connection)
            connection.close()


class _LoginRefused(StoreUnavailable):
    """The token ran out; nothing was done."""


def _range_of(prefix: str) -> tuple[bytes, bytes]:
    """[key, range end) of a prefix. UTF-8 never ends in 0xFF, so the last byte can grow."""
    if not prefix:
        return b"\0", b"\0"
    key = prefix.encode()
    return key, key[:-1] + bytes([key[-1] + 1])


def _entry(kv: Message) -> KeyValue:
    return KeyValue(
        kv.key.decode(),
        kv.value,
        Revision(kv.create_revision),
        Revision(kv.mod_revision),
        LeaseId(kv.lease),
    )


def _event(event: Message) -> Event:
    kv = event.kv
    entry = None if event.type == DELETE_EVENT else _entry(kv)
    return Event(kv.key.decode(), entry, Revision(kv.mod_revision))


def _compare(compare: Compare) -> Message:
    key = compare.key.encode()
    if isinstance(compare, ModRevisionIs):
        return rpc.Compare(
            result=rpc.Compare.EQUAL,
            target=rpc.Compare.MOD,
            key=key,
            mod_revision=compare.revision,
        )
    # Holds for each key of a range; etcd has no such comparison at 0.
    if isinstance(compare, NoneNewer):
        first, range_end = _range_of(compare.key)
        return rpc.Compare(
            result=rpc.Compare.LESS,
            target=rpc.Compare.MOD,
            key=first,
            range_end=range_end,
            mod_revision=compare.revision + 1,
        )
    return rpc.Compare(
        result=rpc.Compare.EQUAL, target=rpc.Compare.VALUE, key=key, value=compare.value
    )


def _operation(operation: StoreOperation) -> Message:
    key = operation.key.encode()
    if isinstance(operation, Put):
        put = rpc.PutRequest(key=key, value=operation.value, lease=operation.lease)
        return rpc.RequestOp(request_put=put)
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
