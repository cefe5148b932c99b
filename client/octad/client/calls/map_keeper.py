"""Keeps the shard map of a client fresh, with neither thread nor task.

A long poll for the next map is always out on a connection of its own. Whoever makes a call looks
whether its answer has come, at most every `LOOK_S`, and takes it then. A coordinator that says
nothing, or nonsense, is left for the next one; the last map serves on meanwhile.
"""

from __future__ import annotations

from _thread import allocate_lock
from typing import Final

from octad.client.calls.placement import Placement
from octad.client.calls.settings import Settings
from octad.client.http.connection import Connection
from octad.client.http.transport import Address, ConnectionFailed, NotHttp, Runtime

LOOK_S: Final = 0.02
POLL_S: Final = 30
CALL_S_MAX: Final = 3.0
SILENCE_S_MAX: Final = POLL_S + 5.0
AGAIN_S: Final = 1.0  # After all coordinators failed.
MAP_BYTES_MAX: Final = 16 * 1024 * 1024


class MapKeeper:
    """Of one client, in one process and on one loop."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self.placement = Placement()
        self.failure = ""  # Why there is no map.
        self._settings = settings
        self._coordinators = settings.coordinators
        self._runtime = runtime
        self._turn = 0
        self._tag = ""
        self._polling: Connection | None = None
        self._polling_since = 0.0
        self._look_at = 0.0
        self._busy = allocate_lock()

    async def keep(self) -> bool:
        """Take the next map where it has come; at first, wait for the first one.

        Returns whether anything has changed. Never raises but for a bug.
        """
        now = self._runtime.now()
        if now < self._look_at or not self._busy.acquire(blocking=False):
            return False
        try:
            self._look_at = now + LOOK_S
            polling = self._polling
            if polling is not None and not polling.transport.is_readable():
                if now - self._polling_since < SILENCE_S_MAX:
                    return False
                self._leave()
            return await self._taken()
        except BaseException:
            self._leave()
            raise
        finally:
            self._busy.release()

    def look_now(self) -> None:
        """Something does not fit the map: ask anew with the next call."""
        if self._runtime.now() - self._polling_since > AGAIN_S:
            self._leave()
            self._look_at = 0.0

    def close(self) -> None:
        self._leave()

    async def _taken(self) -> bool:
        """From the coordinator that was asked, or else from the first one that answers."""
        reasons = []
        for _ in self._coordinators:
            address = self._coordinators[self._turn % len(self._coordinators)]
            try:
                changed = await self._from(address)
                self.failure = ""
                return changed
            except (ConnectionFailed, ValueError) as error:
                reasons.append(f"{address.url}: {error}")
                self._leave()
                self._turn += 1
        self.failure = "; ".join(reasons)
        self._look_at = self._runtime.now() + AGAIN_S
        return False

    async def _from(self, address: Address) -> bool:
        runtime, changed = self._runtime, False
        connection = self._polling
        if connection is None:
            by = runtime.now() + CALL_S_MAX
            settings = self._settings
            proxy = settings.proxy_for(address)
            transport = await runtime.connect(address, settings.authority_file, by, proxy)
            self._polling = connection = Connection(transport)
            changed = await self._take_nodes(connection, address)
            await self._ask(connection, address, _MAP_PATH, self._tag)
        status, tag, body = await self._answer(connection)
        if status == 200:
            self._take_map(body)
            self._tag = tag
            changed = await self._take_nodes(connection, address) or True
        elif status != 304:
            raise NotHttp(f"it answers the request for the map with status {status}")
        await self._ask(connection, address, f"{_MAP_PATH}?wait={POLL_S}", self._tag)
        self._polling_since = runtime.now()
        return changed

    async def _take_nodes(self, connection: Connection, address: Address) -> bool:
        await self._ask(connection, address, _NODES_PATH, "")
        status, _, body = await self._answer(connection)
        if status != 200:
            raise NotHttp(f"it answers the request for the nodes with status {status}")
        from octad.client.calls.map_reading import addresses_of

        found = addresses_of(body)
        changed = found != self.placement.addresses
        self.placement.addresses = found
        return changed

    def _take_map(self, body: bytes) -> None:
        from octad.client.calls.map_reading import lookups_of

        self.placement.set_map(lookups_of(body))

    async def _ask(self, connection: Connection, address: Address, path: str, tag: str) -> None:
        more = f"if-none-match: {tag}\r\n" if tag else ""
        proxy = self._settings.proxy_for(address)
        if proxy is not None and not address.tls:
            path = f"{address.url}{path}"
            more += f"proxy-authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
        head = (
            f"GET {path} HTTP/1.1\r\nhost: {address.authority}\r\n"
            f"accept: application/vnd.octad.shard-map, application/json\r\n{more}\r\n"
        )
        await connection.send(head.encode(), b"", self._runtime.now() + CALL_S_MAX)

    async def _answer(self, connection: Connection) -> tuple[int, str, bytes]:
        by = self._runtime.now() + CALL_S_MAX
        head = await connection.read_head("GET", by)
        pieces, size = [], 0
        while piece := await connection.read_piece(by):
            size += len(piece)
            if size > MAP_BYTES_MAX:
                raise NotHttp("its answer is too long for a map")
            pieces.append(piece)
        return head.status, head.headers.get("etag", ""), b"".join(pieces)

    def _leave(self) -> None:
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.close()


_MAP_PATH: Final = "/cluster/v1/map"
_NODES_PATH: Final = "/cluster/v1/nodes"
