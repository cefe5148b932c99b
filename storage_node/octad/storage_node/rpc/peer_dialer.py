"""Keeps one connection to one peer: dials, waits until that is lost, pauses, dials again."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable

from octad.sharding.ids import NodeId, node_name
from octad.sharding.limits import RPC_CONNECT_S_MAX, RPC_RECONNECT_S_MAX
from octad.storage_node.rpc.peer_connection import PeerConnection

RPC_RESOLVE_S_MAX = 3.0
RPC_RECONNECT_S_MIN = 0.05

logger = logging.getLogger(__name__)


class PeerDialer:
    """`new_connection` returns a protocol that is ready to shake hands with `node`."""

    def __init__(
        self, node: NodeId, address: str, new_connection: Callable[[NodeId], PeerConnection]
    ) -> None:
        self.address = address
        self.trouble = "it is being dialed"  # Why there is no connection, while there is none.
        self._node = node
        self._new_connection = new_connection
        self._connection: PeerConnection | None = None
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._keep_connected())

    def stop(self) -> asyncio.Task[None]:
        """Ends the connection and the dialing; await the result to wait for the end."""
        self._task.cancel()
        if self._connection is not None:
            self._connection.drop()
        return self._task

    async def _keep_connected(self) -> None:
        pause_s = RPC_RECONNECT_S_MIN
        while True:
            try:
                connection = await self._dial()
            except (OSError, ValueError) as error:
                self.trouble = str(error)
                logger.debug(
                    "cannot reach %s at %s: %s", node_name(self._node), self.address, error
                )
            else:
                await connection.lost.wait()
                if connection.node is not None:
                    self.trouble = "the connection was lost"
                    pause_s = RPC_RECONNECT_S_MIN
                elif connection.refused is not None:
                    self.trouble = str(connection.refused)
            self._connection = None
            # Jitter, so that nodes that lost each other do not meet in step.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, RPC_RECONNECT_S_MAX)

    async def _dial(self) -> PeerConnection:
        """A connection that is about to shake hands, with the first address that takes one."""
        host, port = parse_address(self.address)
        try:
            async with asyncio.timeout(RPC_RESOLVE_S_MAX):
                found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise TimeoutError(f"the name {host} was not resolved in time") from None
        failure = OSError(f"{host} has no address")
        for *_, address in found:
            try:
                return await self._connect(str(address[0]), port)
            except OSError as error:
                failure = error
        raise failure

    async def _connect(self, host: str, port: int) -> PeerConnection:
        """The short time lets a packet lost on a link that has healed cost no second."""
        connection = self._connection = self._new_connection(self._node)
        try:
            async with asyncio.timeout(RPC_CONNECT_S_MAX):
                await self._loop.create_connection(lambda: connection, host, port)
        except TimeoutError:
            connection.drop()
            raise TimeoutError(f"no connection within {RPC_CONNECT_S_MAX:g} s") from None
        except BaseException:
            connection.drop()
            raise
        return connection


def parse_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`; raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
