"""Keeps one connection to one peer: dials, waits until that is lost, pauses, dials again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from octad.sharding.ids import NodeId, node_name
from octad.sharding.limits import (
    RPC_BEAT_S,
    RPC_RECONNECT_S_MAX,
    RPC_RECONNECT_S_MIN,
    RPC_SILENT_BEATS_MAX,
)
from octad.storage_node.shell.peer_connection import PeerConnection

logger = logging.getLogger(__name__)


class PeerDialer:
    """`new_connection` gives a protocol that is ready to shake hands with `node`."""

    def __init__(
        self, node: NodeId, address: str, new_connection: Callable[[NodeId], PeerConnection]
    ) -> None:
        self.address = address
        self._node = node
        self._new_connection = new_connection
        self._connection: PeerConnection | None = None
        self._task = asyncio.get_running_loop().create_task(self._keep_connected())

    def stop(self) -> asyncio.Task[None]:
        """Ends the connection and the dialing; await what it gives to see it over."""
        self._task.cancel()
        if self._connection is not None:
            self._connection.drop()
        return self._task

    async def _keep_connected(self) -> None:
        pause_s = RPC_RECONNECT_S_MIN
        while True:
            try:
                await self._dial()
            except (OSError, ValueError) as error:
                logger.debug(
                    "cannot reach %s at %s: %s", node_name(self._node), self.address, error
                )
            if self._connection is not None and self._connection.node is not None:
                pause_s = RPC_RECONNECT_S_MIN
            self._connection = None
            # Jitter, so that nodes that lost each other do not meet in step.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, RPC_RECONNECT_S_MAX)

    async def _dial(self) -> None:
        """Returns when the connection is lost, opened or not; OSError when there was none."""
        host, port = parse_address(self.address)
        connection = self._connection = self._new_connection(self._node)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RPC_BEAT_S * RPC_SILENT_BEATS_MAX):
                await loop.create_connection(lambda: connection, host, port)
        except BaseException:
            connection.drop()
            raise
        await connection.lost.wait()


def parse_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`; raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
